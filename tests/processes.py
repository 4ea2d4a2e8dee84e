"""Starts logboom's programs for system tests, and ends just those, by their ids."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HANG_S = 120.0


def environment(**more: str) -> dict[str, str]:
    """Return this environment without logboom's variables, with ``more``."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LOGBOOM_")}
    path = os.pathsep.join(str(ROOT / part) for part in ("proto", "agent", "collector", "tests"))
    return kept | {"PYTHONPATH": path} | more


def logboom(*words: str | Path) -> list[str]:
    """Return the argument list of a logboom command, with this interpreter."""
    return [sys.executable, "-m", "logboom.command", *map(str, words)]


def run(*words: str | Path, timeout_s: float = HANG_S) -> subprocess.CompletedProcess[str]:
    """Run a logboom command to its end."""
    return subprocess.run(
        logboom(*words),
        check=False,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def free_port() -> int:
    """Return a port that was free a moment ago, so that a restarted collector can have it again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(what: str, holds: Callable[[], bool], timeout_s: float = HANG_S) -> None:
    """Wait until ``holds()``; fail, naming ``what``, after a time that only a hang takes."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        time.sleep(0.02)


class Program:
    """One of our programs, which a test may kill and start again."""

    def __init__(self, words: Sequence[str | Path], log: Path, env: dict[str, str]) -> None:
        self.words = list(words)
        self.log = log
        self.env = env
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, until: str = "") -> None:
        """Start it; with ``until``, wait for that word in what it prints from now on."""
        printed = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                logboom(*self.words),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.env,
                start_new_session=True,
            )
        if until:
            wait_until(
                f"{self.words[0]} says {until!r}: {self.log.read_text()[-2000:]}",
                lambda: (
                    until.encode() in self.log.read_bytes()[printed:]
                    or self.process is None
                    or self.process.poll() is not None
                ),
            )
            assert self.process.poll() is None, self.log.read_text()[-2000:]

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal and wait for its end."""
        if self.process is not None:
            if self.process.poll() is None:
                os.kill(self.process.pid, number)
            self.process.wait(HANG_S)
            self.process = None


@contextmanager
def collector(data: Path, port: int = 0) -> Iterator[Program]:
    """A collector of ``data``, killed at the end; ``address`` is in its ``env``."""
    port = port or free_port()
    address = f"127.0.0.1:{port}"
    program = Program(
        ["collector", "--data", data, "--listen", address],
        data.parent / f"{data.name}.collector.log",
        environment(ADDRESS=address),
    )
    program.start("listening on")
    try:
        yield program
    finally:
        program.kill()
