"""stdout and stderr never mix within a line, and neither starves the other."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

import pytest
from shim.shim_processes import PYTHON, run_shim, shim_words
from shim.shim_spools import read_spool, the_driver, wait_for_ends

from launchers import Launcher, openmpi  # noqa: F401
from logboom.format.spans import Source
from logboom.format.stream import Kind

pytestmark = pytest.mark.system
BLOCKS = [1, 3, 100, 4095, 4096, 65536, 1 << 20]

# Floods stdout in blocks of one size, every 100th byte a newline, while another process of the
# rank writes lines with their time to stderr.
FLOOD = r'''
import os, subprocess, sys, time
size, seconds = int(sys.argv[1]), float(sys.argv[2])
line = """
import sys, time
for n in range(int(sys.argv[1])):
    sys.stderr.write("<line %d %.6f>\\n" % (n, time.clock_gettime(time.CLOCK_BOOTTIME)))
    sys.stderr.flush()
    time.sleep(0.02)
"""
other = subprocess.Popen([sys.executable, "-c", line, str(int(seconds * 40))])
text = (b"x" * 99 + b"\n") * (size // 100 + 2)
at = 0
started = time.monotonic()
while other.poll() is None:
    block = text[at % 100:][:size]
    at += os.write(1, block)
    if at > (time.monotonic() - started + 0.1) * 1e8:
        time.sleep(0.001)  # 100 MB/s will do
print("y" * 200)
'''


def test_prints_of_four_ranks_do_not_mix(tmp_path: Path, openmpi: Launcher) -> None:  # noqa: F811
    program = "for i in range(50): print('hello', 'from', i)"
    done = openmpi.run(4, [*shim_words(tmp_path), PYTHON, "-u", "-c", program])
    assert done.returncode == 0
    wait_for_ends(tmp_path)
    expected = b"".join(b"hello from %d\n" % i for i in range(50))
    assert [stream.data for stream in read_spool(tmp_path, Kind.DRIVER)] == [expected] * 4


def test_a_line_written_in_pieces_is_not_torn_by_the_other_source(tmp_path: Path) -> None:
    program = (
        "import os, threading, time\n"
        "def lines(fd, word):\n"
        "    for i in range(300):\n"
        "        for piece in (word, b' ', b'from', b' ', b'%d' % i, b'\\n'):\n"
        "            os.write(fd, piece)\n"
        "            time.sleep(0.0002)\n"
        "other = threading.Thread(target=lines, args=(2, b'stderr'))\n"
        "other.start()\n"
        "lines(1, b'stdout')\n"
        "other.join()\n"
    )
    assert run_shim(tmp_path, [PYTHON, "-c", program]).returncode == 0
    lines = the_driver(tmp_path).data.splitlines(keepends=True)
    assert len(lines) == 600
    for line in lines:
        assert re.fullmatch(rb"std(out|err) from [0-9]+\n", line), line
    kinds = [line[:6] for line in lines]
    assert sum(a != b for a, b in itertools.pairwise(kinds)) > 20, "they never met"


@pytest.mark.parametrize("size", BLOCKS)
def test_lines_come_through_a_flood_whole(tmp_path: Path, size: int) -> None:
    done = subprocess.run(
        [*shim_words(tmp_path), PYTHON, "-c", FLOOD, str(size), "1.5"],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == b""
    wait_for_ends(tmp_path)
    driver = the_driver(tmp_path)
    data = driver.data
    lines = re.findall(rb"<line (\d+) ([0-9.]+)>\n", driver.source(Source.STDERR))
    assert [int(number) for number, _ in lines] == list(range(60))
    assert len(re.findall(rb"^<line \d+ [0-9.]+>\n", data, re.M)) == 60, "a line was torn"
    longest = 0.0
    at = 0
    for span in driver.spans:
        if span.source is Source.STDERR:
            found = re.match(rb"<line \d+ ([0-9.]+)>\n", data[span.offset : span.offset + 60])
            if found:
                longest = max(longest, span.boot_ns / 1e9 - float(found.group(1)))
                at += 1
    assert at > 30, "the lines came all at once"
    flood = len(driver.source(Source.STDOUT))
    print(f"blocks of {size}: {flood} bytes, the longest wait of a line {longest * 1000:.0f} ms")
    assert flood > 10 * len(lines)
    assert longest < 10


def test_an_unfinished_line_holds_up_the_other_source_for_a_moment_only(tmp_path: Path) -> None:
    script = "printf 'loading 10%%'; sleep 0.3; echo warning >&2; sleep 0.5; printf ' done\\n'"
    assert run_shim(tmp_path, ["sh", "-c", script]).returncode == 0
    driver = the_driver(tmp_path)
    assert driver.data == b"loading 10%warning\n done\n"
    assert driver.source(Source.STDERR) == b"warning\n"
