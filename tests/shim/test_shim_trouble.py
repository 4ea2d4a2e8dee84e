"""Trouble of ours is one line, and the command runs as if we were not there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from shim.shim_processes import SHIM, environment
from shim.shim_spools import read_spool, the_driver, wait_for_ends

pytestmark = pytest.mark.system
COMMAND = ["sh", "-c", "echo out; echo err >&2; exit 5"]


def _run_unrecorded(*flags: str, more: Mapping[str, str] | None = None) -> str:
    """Run the command with flags that make trouble; return the line of ours."""
    done = subprocess.run(
        [*SHIM, *flags, "--", *COMMAND],
        env=environment(more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (5, b"out\n")
    line, _, rest = done.stderr.partition(b"\n")
    assert rest == b"err\n"
    assert line.startswith(b"logboom: ")
    assert line.endswith(b"; the command runs unrecorded")
    return line.decode()


def test_a_run_id_that_cannot_be_stored(tmp_path: Path) -> None:
    line = _run_unrecorded("--spool", str(tmp_path), "--run-id", "../x")
    assert "run id '../x'" in line
    assert "letter or digit" in line
    assert not read_spool(tmp_path)


def test_a_name_that_cannot_be_stored(tmp_path: Path) -> None:
    assert "name 'a/b'" in _run_unrecorded("--spool", str(tmp_path), "--name", "a/b")


@pytest.mark.parametrize("flags", [("--rank", "x"), ("--rank=-1",), ("--what", "1"), ("--tea",)])
def test_arguments_that_are_wrong(tmp_path: Path, flags: tuple[str, ...]) -> None:
    assert flags[0].partition("=")[0] in _run_unrecorded("--spool", str(tmp_path), *flags)


def test_variables_that_are_wrong(tmp_path: Path) -> None:
    more = {"LOGBOOM_RANK": "first", "LOGBOOM_SPOOL": str(tmp_path)}
    assert "LOGBOOM_RANK is 'first'" in _run_unrecorded(more=more)


def test_a_rank_outside_its_world(tmp_path: Path) -> None:
    flags = ("--spool", str(tmp_path), "--rank", "4", "--world-size", "4")
    assert "rank 4 is not one of 4" in _run_unrecorded(*flags)


def test_a_rank_of_several_without_a_run_id(tmp_path: Path) -> None:
    flags = ("--spool", str(tmp_path), "--rank", "1", "--world-size", "4")
    assert "--run-id" in _run_unrecorded(*flags)


def test_a_spool_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for spool in ("link", "link/"):
        assert "is a link" in _run_unrecorded("--spool", str(tmp_path / spool))
    assert not list((tmp_path / "real").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_spool_of_somebody_else(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    assert "belongs to user 12345" in _run_unrecorded("--spool", str(tmp_path))


def test_a_spool_that_others_can_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert "can be written by others" in _run_unrecorded("--spool", str(tmp_path))


def test_a_spool_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _run_unrecorded("--spool", str(tmp_path / "file"))
    _run_unrecorded("--spool", str(tmp_path / "file" / "below"))


def test_a_run_folder_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "elsewhere")
    _run_unrecorded("--spool", str(tmp_path), "--run-id", "r")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_too_few_descriptors(tmp_path: Path) -> None:
    words = " ".join([*SHIM, "--spool", str(tmp_path), "--", "sh", "-c", "'exit 5'"])
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 9; {words}"],
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 5
    assert done.stderr.startswith(b"logboom: cannot record: ")


def test_tee_says_that_it_is_not_there_yet_and_records(tmp_path: Path) -> None:
    for flag, lines in (("--tee", 1), ("--no-tee", 0)):
        spool = tmp_path / flag
        done = subprocess.run(
            [*SHIM, "--spool", str(spool), flag, "--", *COMMAND],
            env=environment(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 5
        assert done.stderr.count(b"\n") == lines
        wait_for_ends(spool)
        assert the_driver(spool).data == b"out\nerr\n"


def test_a_set_gid_group_shares_the_spool_whatever_the_umask(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    words = " ".join([*SHIM, "--spool", str(tmp_path), "--", "true"])
    subprocess.run(["sh", "-c", f"umask 077; {words}"], env=environment(), check=True, timeout=60)
    wait_for_ends(tmp_path)
    for path in (tmp_path / "runs").rglob("*"):
        assert path.stat().st_mode & 0o7777 == (0o2770 if path.is_dir() else 0o660), path


def test_otherwise_the_spool_is_private_whatever_the_umask(tmp_path: Path) -> None:
    words = " ".join([*SHIM, "--spool", str(tmp_path), "--", "true"])
    subprocess.run(["sh", "-c", f"umask 0; {words}"], env=environment(), check=True, timeout=60)
    wait_for_ends(tmp_path)
    for path in (tmp_path / "runs").rglob("*"):
        assert path.stat().st_mode & 0o7777 == (0o700 if path.is_dir() else 0o600), path
