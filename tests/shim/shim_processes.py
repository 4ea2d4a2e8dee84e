"""Starts ``logboom-exec`` for tests, and finds the processes that belong to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PYTHON = sys.executable
SHIM = [PYTHON, "-m", "logboom.shim.cli"]
_LAUNCHERS = ("LOGBOOM_", "OMPI_", "PMIX_", "PMI_", "SLURM_", "TORCHELASTIC_")


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this environment without what a launcher, or we, would have put into it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_LAUNCHERS)}
    return {**kept, **(more or {})}


def shim_words(spool: Path, *flags: str) -> list[str]:
    """Return what stands before a command to record it as run ``r``."""
    return [*SHIM, "--spool", str(spool), "--run-id", "r", *flags, "--"]


def run_shim(
    spool: Path, command: Sequence[str], *flags: str, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command recorded, to its end."""
    return subprocess.run(
        [*shim_words(spool, *flags), *command],
        env=environment(more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


def start_shim(spool: Path, command: Sequence[str], *flags: str) -> subprocess.Popen[bytes]:
    """Start a command recorded, in a process group of its own, as a launcher would."""
    return subprocess.Popen(
        [*shim_words(spool, *flags), *command],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(child) for child in path.read_text().split()]
    except OSError:
        return []


def session_of(pid: int) -> int:
    """Return the session of a process; 0 if it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def recorder_of(shim: int) -> int:
    """Return the shim's recorder, its child with a session of its own; 0 if there is none."""
    return next((pid for pid in children(shim) if session_of(pid) == pid), 0)


def is_alive(pid: int) -> bool:
    """Say whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
