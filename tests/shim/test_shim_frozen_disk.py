"""A disk that hangs: the recorder is stuck in the kernel, and the job must not be."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shim.shim_processes import PYTHON, environment, recorder_of, shim_words
from shim.shim_spools import the_driver, wait_for, wait_for_ends

from launchers import lacking

pytestmark = pytest.mark.system
LINE = b"a line of a training log, always the same, so that what is lost can be counted\n"
WRITER = """
import os, sys, time
line, report, stop = sys.argv[1].encode() + b"\\n", sys.argv[2], sys.argv[3]
written, longest = 0, 0.0
while not os.path.exists(stop):
    for _ in range(200):
        started = time.monotonic()
        written += os.write(1, line)
        longest = max(longest, time.monotonic() - started)
    time.sleep(0.002)
with open(report, "w") as file:
    print(written, longest, file=file)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that can be frozen."""
    if shutil.which("fsfreeze") is None or shutil.which("mkfs.ext4") is None:
        lacking("no fsfreeze or mkfs.ext4; install util-linux and e2fsprogs")
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    words = ["mount", "-o", "loop", str(image), str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        lacking("cannot mount a file here; run as root")
    try:
        yield folder
    finally:
        subprocess.run(["fsfreeze", "-u", str(folder)], capture_output=True, check=False)
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_hanging_disk_never_holds_up_the_job_and_every_byte_is_kept_or_counted(
    tmp_path: Path, disk: Path
) -> None:
    report, stop = tmp_path / "report", tmp_path / "stop"
    spool = disk / "spool"
    command = [PYTHON, "-c", WRITER, LINE.decode().rstrip("\n"), str(report), str(stop)]
    job = subprocess.Popen([*shim_words(spool), *command], env=environment())
    try:
        wait_for(lambda: any(spool.glob("runs/r/driver-*/*.seg")))
        recorder = recorder_of(job.pid)
        subprocess.run(["fsfreeze", "-f", str(disk)], check=True)
        wait_for(lambda: _state(recorder) == "D")
        time.sleep(3.0)
        assert recorder_of(job.pid) == recorder, "the stuck recorder must not be doubled"
        subprocess.run(["fsfreeze", "-u", str(disk)], check=True)
        wait_for(lambda: recorder_of(job.pid) not in (0, recorder))
        stop.touch()
        assert job.wait(60) == 0
    finally:
        subprocess.run(["fsfreeze", "-u", str(disk)], capture_output=True, check=False)
        job.kill()
        job.wait()
    wait_for_ends(spool)
    written, longest = report.read_text().split()
    print(f"longest write {longest} s")
    assert float(longest) < 20  # the promise is 2 s; only a hang fails here
    data = the_driver(spool).data
    markers = re.findall(rb"\n?\[logboom: ([0-9,]+) bytes lost here: [^\n]*\n", data)
    assert markers, "the fault did not bite: nothing was lost"
    said = sum(int(count.replace(b",", b"")) for count in markers)
    kept = re.sub(rb"\[logboom: [0-9,]+ bytes lost here: [^\n]*\n", b"", data)
    # A marker within a line begins with a newline of its own.
    assert len(kept) - int(written) + said in range(len(markers) + 1)
