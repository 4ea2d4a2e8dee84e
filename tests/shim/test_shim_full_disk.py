"""A full spool: bytes are dropped, counted and said; nothing is lost silently, then it goes on."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from shim.shim_processes import PYTHON, environment, run_shim, shim_words
from shim.shim_spools import the_driver, the_events, wait_for, wait_for_ends

from launchers import lacking
from logboom.format.spans import Source
from logboom.shim.room import NO_ROOM, refusal

pytestmark = pytest.mark.system

# Writes numbered lines until told to stop, then three more, and reports how many bytes and the
# longest write().
NUMBERED = """
import os, sys, time
report, stop, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
n = written = 0
longest = 0.0
last = 3
while last:
    if os.path.exists(stop):
        last -= 1
    line = b"%09d %s\\n" % (n, b"x" * 989)
    n += 1
    while line:
        started = time.monotonic()
        count = os.write(1, line)
        longest = max(longest, time.monotonic() - started)
        written += count
        line = line[count:]
    time.sleep(pause)
with open(report, "w") as file:
    print(written, longest, file=file)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=6m", "logboom-test", str(disk)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        lacking("cannot mount a small tmpfs here; run as root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _check_counted(spool: Path, report: Path) -> tuple[int, float]:
    """Check that what is there, and what is said to be lost, is what was written."""
    written, longest = report.read_text().split()
    driver, events = the_driver(spool), the_events(spool)
    lost_words = driver.source(Source.LOST)
    said = [
        int(n.replace(b",", b"")) for n in re.findall(rb"\[logboom: ([0-9,]+) bytes", lost_words)
    ]
    told = [event["bytes"] for event in events.events if event["event"] == "lost"]
    kept = len(driver.source(Source.STDOUT))
    print(f"{written} written, {kept} kept, lost {said}, longest write {float(longest):.2f} s")
    assert kept + sum(said) == int(written)
    assert told == said
    assert all(b"lost here: spool full" in line for line in lost_words.split(b"\n") if line)
    return sum(said), float(longest)


@pytest.mark.parametrize("free_percent", ["0", "5"])
def test_on_a_full_disk_bytes_are_dropped_counted_and_said(
    small_disk: Path, tmp_path: Path, free_percent: str
) -> None:
    report, stop = tmp_path / "report", tmp_path / "stop"
    spool = small_disk / "spool"
    filler = small_disk / "filler"
    filler.write_bytes(bytes(3 << 20))
    words = [*shim_words(spool), PYTHON, "-c", NUMBERED, str(report), str(stop), "0.0001"]
    with subprocess.Popen(
        words, env=environment({"LOGBOOM_FREE_PERCENT": free_percent}), stdin=subprocess.DEVNULL
    ) as process:
        wait_for(lambda: spool.exists() and os.statvfs(spool).f_bavail < 100, 60)
        subprocess.run(["sleep", "2.5"], check=True)
        filler.unlink()
        wait_for(lambda: b"bytes lost here" in the_driver(spool).data, 60)
        stop.touch()
        assert process.wait(60) == 0
    wait_for_ends(spool)
    lost, longest = _check_counted(spool, report)
    assert lost > 100_000, "the disk was never full"
    last = the_driver(spool).data.splitlines()[-1]
    assert re.fullmatch(rb"\d{9} x{989}", last), "it went on after there was room again"
    assert longest < 20


def test_a_stream_keeps_its_limit(tmp_path: Path) -> None:
    report, stop, spool = tmp_path / "report", tmp_path / "stop", tmp_path / "spool"
    words = [*shim_words(spool), PYTHON, "-c", NUMBERED, str(report), str(stop), "0.00001"]
    limit = 40 << 20
    with subprocess.Popen(
        words,
        env=environment({"LOGBOOM_STREAM_LIMIT_BYTES": str(limit)}),
        stdin=subprocess.DEVNULL,
    ) as process:
        wait_for(lambda: (spool / "runs").exists() and _segments(spool) == 3, 60)
        subprocess.run(["sleep", "4"], check=True)
        kept = len(the_driver(spool).data)
        assert limit // 2 < kept < 4 * limit
        for number in (0, 1):  # what the agent does with what was acknowledged
            next(spool.glob(f"runs/*/driver-*/{number << 24:020}.seg")).unlink()
        wait_for(lambda: b"bytes lost here" in _newest(spool), 60)
        stop.touch()
        assert process.wait(60) == 0
    wait_for_ends(spool)
    assert re.search(
        rb"\[logboom: [0-9,]+ bytes lost here: spool full, this stream", _newest(spool)
    )


def _segments(spool: Path) -> int:
    return len(list(spool.glob("runs/*/driver-*/*.seg")))


def _newest(spool: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(spool.glob("runs/*/driver-*/*.seg"))[-2:])


def test_where_the_disk_is_full_at_start_the_command_runs_as_without_us(small_disk: Path) -> None:
    with (small_disk / "filler").open("wb") as file:
        try:
            while file.write(bytes(1 << 16)):
                file.flush()
        except OSError:
            pass
    done = run_shim(small_disk / "spool", ["sh", "-c", "echo out; exit 5"])
    assert (done.returncode, done.stdout) == (5, b"out\n")
    assert done.stderr.startswith(b"logboom: ")
    assert done.stderr.count(b"\n") == 1


def test_a_limit_of_file_size_is_not_called_a_full_disk() -> None:
    told = {number: refusal(OSError(number, "")) for number in NO_ROOM}
    assert "ulimit -f" in told.pop(errno.EFBIG)
    assert all(text.startswith("spool full, ") for text in told.values())
