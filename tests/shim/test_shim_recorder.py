"""Killed, stopped, or without a place to write: the recorder costs the job nothing."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from shim.shim_processes import PYTHON, children, recorder_of, shim_words, start_shim
from shim.shim_spools import (
    SpooledStream,
    read_spool,
    the_driver,
    the_events,
    wait_for,
    wait_for_ends,
)

from launchers import Launcher, openmpi  # noqa: F401
from logboom.format.spans import Source
from logboom.format.stream import Kind

pytestmark = pytest.mark.system

# Writes a payload that follows from the seed to both streams in turn, for as long as told, and
# leaves what it wrote (as digests) and its longest write() in a file.
WRITER = """
import hashlib, os, random, sys, time
out, seconds, pause = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
dice = random.Random(int(os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
digests = [hashlib.sha256(), hashlib.sha256()]
lengths = [0, 0]
longest = 0.0
until = time.monotonic() + seconds
while time.monotonic() < until:
    which = dice.randrange(2)
    block = dice.randbytes(dice.choice([1, 7, 100, 4096, 65536, 300000]))
    at = 0
    while at < len(block):
        started = time.monotonic()
        at += os.write(which + 1, block[at:])
        longest = max(longest, time.monotonic() - started)
    digests[which].update(block)
    lengths[which] += len(block)
    time.sleep(pause)
with open(out + os.environ.get("OMPI_COMM_WORLD_RANK", "0"), "w") as file:
    print(*(d.hexdigest() for d in digests), *lengths, longest, file=file)
"""


def _check(stream: SpooledStream, report: Path) -> float:
    """Check that the stream holds what the rank wrote, byte for byte; return its longest write."""
    out, err, out_length, err_length, longest = report.read_text().split()
    for source, digest, length in (
        (Source.STDOUT, out, out_length),
        (Source.STDERR, err, err_length),
    ):
        content = stream.source(source)
        assert len(content) == int(length)
        assert hashlib.sha256(content).hexdigest() == digest
    assert stream.source(Source.LOST) == b""
    return float(longest)


def _shims(pid: int) -> list[int]:
    """Return the shims below a process: whose child has a session of its own and records."""
    found = [pid] if recorder_of(pid) and len(children(pid)) == 3 else []
    return found + [shim for child in children(pid) for shim in _shims(child)]


def _restarts(spool: Path) -> int:
    """Return how often recorders were started anew, as their events say."""
    events = (event for stream in read_spool(spool, Kind.EVENTS) for event in stream.events)
    return sum("started again after signal 9" in event.get("text", "") for event in events)


def test_a_recorder_killed_again_and_again_loses_and_doubles_no_byte(
    tmp_path: Path,
    openmpi: Launcher,  # noqa: F811
) -> None:
    spool, report = tmp_path / "spool", tmp_path / "report"
    words = [*shim_words(spool), PYTHON, "-c", WRITER, str(report), "6", "0.001"]
    dice = random.Random(4)
    kills = 0
    with subprocess.Popen(
        openmpi.words(4, words), env=openmpi.environment(), stdin=subprocess.DEVNULL
    ) as mpirun:
        wait_for(lambda: len(_shims(mpirun.pid)) == 4)
        shims = _shims(mpirun.pid)
        while mpirun.poll() is None:
            recorder = recorder_of(dice.choice(shims))
            if recorder:
                try:
                    os.kill(recorder, signal.SIGKILL)
                    kills += 1
                except ProcessLookupError:
                    pass
            time.sleep(dice.random() * 0.04)
    assert mpirun.returncode == 0
    wait_for(lambda: not any(stream.is_locked for stream in read_spool(spool)))
    drivers = read_spool(spool, Kind.DRIVER)
    assert len(drivers) == 4
    longest = [_check(d, Path(f"{report}{d.attributes.rank}")) for d in drivers]
    told = _restarts(spool)
    sizes = sum(len(driver.data) for driver in drivers)
    print(f"{kills} kills, {told} new recorders told, {sizes} bytes, longest {max(longest):.3f} s")
    assert kills > 100
    assert told > 50
    assert max(longest) < 20


def test_a_stopped_recorder_is_replaced_and_no_write_waits(tmp_path: Path) -> None:
    spool, report = tmp_path / "spool", tmp_path / "report"
    process = start_shim(spool, [PYTHON, "-c", WRITER, str(report), "7", "0.0"])
    wait_for(lambda: bool(recorder_of(process.pid)))
    stops = 0
    until = time.monotonic() + 6
    last = 0
    while time.monotonic() < until and process.poll() is None:
        recorder = recorder_of(process.pid)
        if recorder and recorder != last:
            time.sleep(0.2)
            os.kill(recorder, signal.SIGSTOP)
            stops += 1
            last = recorder
        time.sleep(0.01)
    process.communicate()
    assert process.returncode == 0
    wait_for_ends(spool)
    longest = _check(the_driver(spool), Path(f"{report}0"))
    print(f"{stops} stops, {_restarts(spool)} new recorders, longest write {longest:.3f} s")
    assert stops >= 3
    assert _restarts(spool) >= stops - 1
    assert longest < 20


def test_a_recorder_stopped_before_the_end_does_not_keep_the_command(tmp_path: Path) -> None:
    process = start_shim(tmp_path, ["sh", "-c", "sleep 1; echo end; exit 6"])
    wait_for(lambda: bool(recorder_of(process.pid)))
    os.kill(recorder_of(process.pid), signal.SIGSTOP)
    assert process.wait(30) == 6
    assert the_driver(tmp_path).data == b"end\n"
    assert the_events(tmp_path).events[-1] == {"event": "exited", "code": 6}
    process.communicate()


def test_events_that_come_once_come_once_however_often_the_recorder_dies(tmp_path: Path) -> None:
    process = start_shim(tmp_path, ["sh", "-c", "echo one; sleep 4; echo two"])
    for _ in range(7):
        wait_for(lambda: bool(recorder_of(process.pid)))
        os.kill(recorder_of(process.pid), signal.SIGKILL)
        time.sleep(0.1)
    assert process.wait(30) == 0
    wait_for_ends(tmp_path)
    names = [event["event"] for event in the_events(tmp_path).events]
    assert names.count("started") == 1
    assert names.count("exited") == 1
    assert names.count("message") >= 5
    assert the_driver(tmp_path).data == b"one\ntwo\n"
    process.communicate()


def test_a_run_folder_that_vanished_is_made_again(tmp_path: Path) -> None:
    process = start_shim(tmp_path, ["sh", "-c", "echo one; sleep 2; echo two"])
    wait_for(lambda: bool(read_spool(tmp_path)) and the_driver(tmp_path).data == b"one\n")
    shutil.rmtree(tmp_path / "runs")
    assert process.wait(30) == 0
    driver = the_driver(tmp_path)
    assert [path.name for path in driver.folder.glob("*.seg")] == [f"{4:020}.seg"]
    assert next(driver.folder.glob("*.seg")).read_bytes() == b"two\n"
    process.communicate()


def test_segments_are_aligned_blocks_each_with_its_spans(tmp_path: Path) -> None:
    size = 40_000_000
    process = start_shim(tmp_path, ["head", "-c", str(size), "/dev/zero"])
    process.communicate()
    driver = the_driver(tmp_path)
    names = sorted(path.name for path in driver.folder.glob("*.seg"))
    assert names == [f"{n << 24:020}.seg" for n in range(3)]
    assert len(driver.spans) >= 3
    assert driver.data == bytes(size)


def test_a_recorder_is_in_a_session_of_its_own_with_nothing_of_the_launchers(
    tmp_path: Path,
) -> None:
    process = start_shim(tmp_path, ["sleep", "2"])
    wait_for(lambda: bool(recorder_of(process.pid)))
    recorder = recorder_of(process.pid)
    wait_for(lambda: b"started" in the_events(tmp_path).data)
    assert os.getsid(recorder) == recorder
    assert os.getpriority(os.PRIO_PROCESS, recorder) == os.getpriority(os.PRIO_PROCESS, 0) + 5
    inherited = {os.readlink(f"/proc/self/fd/{process.stdout.fileno()}")} if process.stdout else {}
    held = {os.readlink(f"/proc/{recorder}/fd/{fd}") for fd in os.listdir(f"/proc/{recorder}/fd")}
    assert not held & set(inherited)
    stderr = os.readlink(f"/proc/{process.pid}/fd/2")
    shim_fds = [
        fd
        for fd in os.listdir(f"/proc/{process.pid}/fd")
        if os.readlink(f"/proc/{process.pid}/fd/{fd}") in (*inherited, stderr)
    ]
    assert shim_fds == ["2"]
    process.communicate()
