"""Where splice(2) is refused, bytes are read and written, and still all there."""

from __future__ import annotations

import errno
import os
import platform
import random
import subprocess
from pathlib import Path

import pytest
from shim.shim_processes import PYTHON, environment, shim_words
from shim.shim_spools import read_spool, the_driver, the_events, wait_for_ends

from logboom.format.spans import Source
from logboom.format.stream import Kind, StreamAttributes
from logboom.shim import kernel
from logboom.shim.board import Board, Field
from logboom.shim.folder import Folder
from logboom.shim.intake import Intake
from logboom.shim.loss import HandCheck
from logboom.shim.place import open_spool
from logboom.shim.segments import Segments


class Bench:
    """An intake over real pipes and files, whose recorder can die and be followed."""

    def __init__(self, spool: Path) -> None:
        self.board = Board()
        attributes = StreamAttributes("a" * 32, Kind.DRIVER, "r", process="b" * 32)
        self.folder = Folder(open_spool(str(spool)), attributes)
        self.folder.make()
        self.folder.announce(attributes)
        self.out, self.into = os.pipe()
        self.stage = os.pipe()
        self.look = os.pipe()
        for fd in (self.out, self.stage[0]):
            os.set_blocking(fd, False)

    def intake(self) -> Intake:
        """Return the intake of a new recorder."""
        segments = Segments(self.folder, self.board[Field.LENGTH])
        return Intake(self.board, (self.out, -1), self.stage, self.look, segments)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that refuses to be spliced to."""

    def refuse(pipe: int, file: int, offset: int, length: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(kernel, "splice_to_file", refuse)


@pytest.mark.usefixtures("refused")
def test_bytes_arrive_without_splice(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s")
    intake = bench.intake()
    expected = b""
    for number in range(50):
        content = bytes([number]) * (number * 997 % 30_000 + 1)
        os.write(bench.into, content)
        expected += content
        while intake.waiting(Source.STDOUT):
            intake.stage(Source.STDOUT, 1 << 16)
            intake.flush(number)
    (stream,) = read_spool(tmp_path / "s")
    assert stream.data == expected
    assert bench.board[Field.LOST] == 0


@pytest.mark.usefixtures("refused")
def test_what_a_dead_recorder_had_in_hand_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "s")
    os.write(bench.into, b"x" * 1000)
    intake = bench.intake()
    intake.stage(Source.STDOUT, 1 << 16)

    class Killed(Exception):
        pass

    def die(self: Segments, content: bytes) -> int:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Segments, "write", die)
        with pytest.raises(Killed):
            intake.flush(1)
    successor = bench.intake()
    assert not successor.has_unwritten
    assert bench.board[Field.LOST] == 1000
    assert successor.mark(2, "the recorder was killed") == 1000
    (stream,) = read_spool(tmp_path / "s")
    assert stream.data == b"[logboom: 1,000 bytes lost here: the recorder was killed]\n"


@pytest.mark.usefixtures("refused")
def test_what_was_on_its_way_to_the_stage_when_a_recorder_died_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: int, pipe: int, length: int) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(kernel, "splice_to_pipe", refuse)
    bench = Bench(tmp_path / "s")
    os.write(bench.into, b"x" * 1000)
    with monkeypatch.context() as patch:

        def die(fd: int, content: bytes) -> int:
            raise KeyboardInterrupt

        patch.setattr(os, "write", die)
        with pytest.raises(KeyboardInterrupt):
            bench.intake().stage(Source.STDOUT, 1 << 16)
    assert not bench.intake().has_unwritten
    assert bench.board[Field.LOST] == 1000
    os.write(bench.into, b"y" * 1000)
    bench.intake().stage(Source.STDOUT, 1 << 16)
    successor = bench.intake()
    assert successor.staged == 1000
    successor.flush(1)
    assert bench.board[Field.LOST] == 1000
    assert the_driver(tmp_path / "s").data == b"y" * 1000


def test_a_loss_that_a_recorder_counted_as_it_died_is_counted_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s")
    os.write(bench.into, b"x" * 1000)
    intake = bench.intake()
    intake.stage(Source.STDOUT, 1 << 16)
    intake.drop()
    assert bench.board[Field.LOST] == 1000
    bench.board[Field.IN_HAND] = 1000  # it died between its two words: counted, not released
    for _ in range(3):
        bench.intake()
        assert bench.board[Field.LOST] == 1000


def test_what_a_recorder_was_about_to_take_as_it_died_is_not_lost(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s")
    os.write(bench.into, b"x" * 1000)
    bench.intake().stage(Source.STDOUT, 1 << 16)
    HandCheck(bench.board).take(1000, 0, is_lost=False)
    successor = bench.intake()
    successor.flush(1)
    assert bench.board[Field.LOST] == 0
    assert the_driver(tmp_path / "s").data == b"x" * 1000


def test_a_marker_that_a_recorder_wrote_as_it_died_is_written_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s")
    bench.board[Field.SHIM_LOST] = 77
    assert bench.intake().mark(1, "x") == 77
    bench.board[Field.MARKED] = 0  # it died before it could note that
    assert bench.intake().mark(2, "x") == 0
    assert the_driver(tmp_path / "s").data == b"[logboom: 77 bytes lost here: x]\n"
    bench.board[Field.SHIM_LOST] = 100
    assert bench.intake().mark(3, "x") == 23


def test_what_a_recorder_looked_at_as_it_died_does_not_mislead_the_next(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s")
    os.write(bench.look[1], b"stale\n")
    os.write(bench.into, b"no line end")
    assert bench.intake().line_end(Source.STDOUT) == 0


# Starts a command under a seccomp filter that refuses splice and tee with EPERM.
FILTER = """
import ctypes, os, struct, sys
code = struct.pack("<HBBI", 0x20, 0, 0, 0)  # load the system call's number
code += struct.pack("<HBBI", 0x15, 1, 0, 275) + struct.pack("<HBBI", 0x15, 0, 1, 276)
code += struct.pack("<HBBI", 0x06, 0, 0, 0x00050001) + struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
buffer = ctypes.create_string_buffer(code)
program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 2 + [ctypes.c_ulong] * 2
assert prctl(38, 1, 0, 0, 0) == 0  # no new privileges
holder = ctypes.create_string_buffer(program)
assert prctl(22, 2, ctypes.addressof(holder), 0, 0) == 0, ctypes.get_errno()
libc = ctypes.CDLL(None, use_errno=True)
assert libc.tee(0, 1, 1, 0) == -1 and ctypes.get_errno() == 1, "nothing is refused"
os.execv(sys.argv[1], sys.argv[1:])
"""
TALKER = """
import os, random
dice = random.Random(3)
for _ in range(200):
    os.write(1 + dice.randrange(2), dice.randbytes(dice.choice([1, 100, 5000, 70000])))
"""


@pytest.mark.system
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter knows x86_64's numbers")
def test_where_a_seccomp_filter_refuses_splice_every_byte_is_recorded(tmp_path: Path) -> None:
    words = [PYTHON, "-c", FILTER, *shim_words(tmp_path), PYTHON, "-c", TALKER]
    done = subprocess.run(words, env=environment(), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    wait_for_ends(tmp_path)
    expected, dice = [bytearray(), bytearray()], random.Random(3)
    for _ in range(200):
        expected[dice.randrange(2)] += dice.randbytes(dice.choice([1, 100, 5000, 70000]))
    driver = the_driver(tmp_path)
    assert driver.source(Source.STDOUT) == expected[0]
    assert driver.source(Source.STDERR) == expected[1]
    assert driver.source(Source.LOST) == b""
    assert [event["event"] for event in the_events(tmp_path).events] == ["started", "exited"]
