"""What a real ``mpirun`` prints and returns is the same with the shim and without."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from pathlib import Path

import pytest
from shim.shim_processes import PYTHON, shim_words
from shim.shim_spools import read_spool, wait_for, wait_for_ends

from launchers import Launcher, mpich, openmpi  # noqa: F401
from logboom.format.stream import Kind

pytestmark = pytest.mark.system
STATUSES = (0, 1, 2, 77, 126, 127, 128, 130, 137, 139, 143, 255)
# How rank 1 ends; the others wait to be ended.
_RANK = 'case "$OMPI_COMM_WORLD_RANK$PMI_RANK" in 1) %s;; *) %s;; esac'


@pytest.fixture(params=["openmpi", "mpich"])
def launcher(request: pytest.FixtureRequest) -> Launcher:
    found: Launcher = request.getfixturevalue(request.param)
    return found


def _printed(done: subprocess.CompletedProcess[bytes]) -> tuple[int, bytes, bytes]:
    """Return status and words, but for pids, host names and times (their widths included)."""

    def plain(text: bytes) -> bytes:
        text = text.replace(socket.gethostname().encode(), b"HOST")
        text = re.sub(rb"(prterun-HOST-|(?i:pid)\s+)\d+", rb"\1N", text)
        return b" ".join(text.split())

    return done.returncode, plain(done.stdout), plain(done.stderr)


def _compare(launcher: Launcher, spool: Path, script: str, ranks: int) -> int:
    program = ["sh", "-c", script]
    without = _printed(launcher.run(ranks, program))
    within = _printed(launcher.run(ranks, [*shim_words(spool), *program]))
    assert within == without
    wait_for_ends(spool)
    return without[0]


@pytest.mark.parametrize("status", STATUSES)
def test_an_exit_status_prints_and_returns_the_same(
    launcher: Launcher, tmp_path: Path, status: int
) -> None:
    # The other rank must still run: where both end at once, Open MPI prints its sentence only
    # sometimes (6 of 15), without us too.
    script = _RANK % (f"exit {status}", "exec sleep 1" if status else "exit 0")
    assert _compare(launcher, tmp_path, script, 2) == status
    assert {s.attributes.rank for s in read_spool(tmp_path)} == {0, 1}
    ended = [s.events[-1] for s in read_spool(tmp_path, Kind.EVENTS)]
    assert [event.get("code") for event in ended][1] == status


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV"])
def test_death_by_a_signal_prints_and_returns_the_same(
    launcher: Launcher, tmp_path: Path, name: str
) -> None:
    script = _RANK % (f"sleep 0.2; kill -{name} $$", "exec sleep 30")
    assert _compare(launcher, tmp_path, script, 2) != 0


def test_mpirun_returns_while_a_grandchild_still_writes(launcher: Launcher, tmp_path: Path) -> None:
    # The grandchild has a session of its own (Hydra kills what is left in the rank's) and keeps
    # nothing but 1 and 2 (what Hydra leaks would keep mpiexec waiting, without us too).
    script = (
        "import subprocess\n"
        "print('early', flush=True)\n"
        "subprocess.Popen(['sh', '-c', 'sleep 3; echo late'], start_new_session=True)\n"
    )
    started = time.monotonic()
    done = launcher.run(1, [*shim_words(tmp_path), PYTHON, "-c", script])
    print(f"mpirun was back after {time.monotonic() - started:.2f} s")
    (driver,) = read_spool(tmp_path, Kind.DRIVER)
    assert done.returncode == 0
    assert driver.is_locked
    assert driver.data == b"early\n"
    (events,) = read_spool(tmp_path, Kind.EVENTS)
    assert events.events[-1] == {"event": "exited", "code": 0}
    wait_for_ends(tmp_path)
    assert driver.data == b"early\nlate\n"


def test_mpi_still_starts_behind_the_shim(launcher: Launcher, tmp_path: Path) -> None:
    program = (
        "from mpi4py import MPI\n"
        "world = MPI.COMM_WORLD\n"
        "print(world.allreduce(world.Get_rank()), world.Get_size(), flush=True)\n"
    )
    python = launcher.python if launcher.name == "mpich" else PYTHON
    done = launcher.run(3, [*shim_words(tmp_path), python, "-c", program])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    drivers = read_spool(tmp_path, Kind.DRIVER)
    assert [driver.data for driver in drivers] == [b"3 3\n"] * 3
    assert [driver.attributes.rank for driver in drivers] == [0, 1, 2]
    assert {driver.attributes.world_size for driver in drivers} == {3}
    marks = {driver.attributes.launch_mark for driver in drivers}
    assert len(marks) == 1
    assert (marks == {""}) is (launcher.name == "mpich")


def test_a_signal_to_mpirun_reaches_each_command_once(launcher: Launcher, tmp_path: Path) -> None:
    program = (
        "import os, signal, time\n"
        "r, w = os.pipe()\n"
        "os.set_blocking(w, False)\n"
        "signal.set_wakeup_fd(w)\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "print('ready', flush=True)\n"
        "os.read(r, 1)\n"
        "time.sleep(0.5)\n"
        "os.set_blocking(r, False)\n"
        "try:\n"
        "    print('again', os.read(r, 9), flush=True)\n"
        "except BlockingIOError:\n"
        "    print('once', flush=True)\n"
    )
    words = launcher.words(2, [*shim_words(tmp_path), PYTHON, "-c", program])
    with subprocess.Popen(words, env=launcher.environment(), stdin=subprocess.DEVNULL) as process:
        wait_for(lambda: [s.data for s in read_spool(tmp_path, Kind.DRIVER)] == [b"ready\n"] * 2)
        subprocess.run(["kill", "-USR1", str(process.pid)], check=True)
        process.wait(60)
    assert [s.data for s in read_spool(tmp_path, Kind.DRIVER)] == [b"ready\nonce\n"] * 2
