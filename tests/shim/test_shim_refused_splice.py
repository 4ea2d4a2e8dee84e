"""Where splice(2) to a file is refused, bytes are read and written, and still all there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from shim.shim_spools import read_spool

from logboom.format.spans import Source
from logboom.format.stream import Kind, StreamAttributes
from logboom.shim import kernel
from logboom.shim.board import Board, Field
from logboom.shim.folder import Folder
from logboom.shim.intake import Intake
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
        for fd in (self.out, self.stage[0]):
            os.set_blocking(fd, False)

    def intake(self) -> Intake:
        """Return the intake of a new recorder."""
        segments = Segments(self.folder, self.board[Field.LENGTH])
        return Intake(self.board, (self.out, -1), self.stage, segments)


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
