"""What somebody removes of the spool while it is written: the stream goes on where it was."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from shim.shim_processes import start_shim
from shim.shim_spools import read_spool, the_driver, the_events, wait_for, wait_for_ends

from logboom.format.spans import Source
from logboom.format.stream import Kind, StreamAttributes
from logboom.shim.folder import Folder
from logboom.shim.place import open_spool
from logboom.shim.segments import Segments

pytestmark = pytest.mark.system


def _folder(spool: Path) -> Folder:
    attributes = StreamAttributes("a" * 32, Kind.DRIVER, "r", process="b" * 32)
    folder = Folder(open_spool(str(spool)), attributes)
    folder.make()
    folder.announce(attributes)
    return folder


def _inherited(folder: Folder) -> Folder:
    """Return a folder as a forked recorder has it, whose death closes only its own descriptors."""
    heir = copy.copy(folder)
    heir.fd, heir.lock_fd = os.dup(folder.fd), os.dup(folder.lock_fd)
    return heir


def _append(segments: Segments, content: bytes) -> None:
    segments.prepare(Source.STDOUT, 1)
    assert segments.write(content) == len(content)


def _written_one(spool: Path) -> subprocess.Popen[bytes]:
    """Start a command that has written ``one`` and writes ``two`` when the file ``go`` is there."""
    wait = f"until [ -e {spool.parent}/go ]; do sleep 0.05; done"
    process = start_shim(spool, ["sh", "-c", f"echo one; {wait}; echo two; exit 5"])
    wait_for(lambda: bool(read_spool(spool)) and the_driver(spool).data == b"one\n")
    return process


def _went_on(spool: Path) -> tuple[str, bytes]:
    """Return name and content of the one segment there is, when the streams have ended."""
    wait_for_ends(spool)
    (segment,) = the_driver(spool).folder.glob("*.seg")
    return segment.name, segment.read_bytes()


def test_a_recorder_killed_while_listing_does_not_hide_the_segments(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "spool")
    _append(Segments(folder, 0), b"one\n")
    pid = os.fork()
    if pid == 0:
        listing = os.scandir(folder.fd)  # which it never closes
        next(listing)
        os._exit(0)
    os.waitpid(pid, 0)
    successor = Segments(folder, 4)
    _append(successor, b"two\n")
    assert the_driver(tmp_path / "spool").data == b"one\ntwo\n"
    assert [path.name for path in the_driver(tmp_path / "spool").folder.glob("*.seg")] == [
        f"{0:020}.seg"
    ]


def test_a_successor_goes_on_in_the_folder_that_its_predecessor_made_again(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "spool")
    _append(Segments(folder, 0), b"one\n")
    shutil.rmtree(tmp_path / "spool" / "runs")
    first = _inherited(folder)
    _append(Segments(first, 4), b"two\n")  # and it dies before it tells anybody
    os.close(first.lock_fd)
    second = Segments(folder, 4)
    _append(second, b"three\n")
    (segment,) = the_driver(tmp_path / "spool").folder.glob("*.seg")
    assert (segment.name, segment.read_bytes()) == (f"{4:020}.seg", b"two\nthree\n")


def test_bytes_that_are_there_are_never_written_over(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "spool")
    late = Segments(folder, 0)
    _append(Segments(folder, 0), b"one\n")
    with pytest.raises(FileExistsError):
        late.prepare(Source.STDOUT, 1)
    assert the_driver(tmp_path / "spool").data == b"one\n"


def test_after_the_newest_segment_was_removed_the_stream_goes_on_in_another(
    tmp_path: Path,
) -> None:
    spool = tmp_path / "spool"
    with _written_one(spool) as process:
        next(the_driver(spool).folder.glob("*.seg")).unlink()
        (tmp_path / "go").touch()
        assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 5
    assert _went_on(spool) == (f"{4:020}.seg", b"two\n")
    assert the_driver(spool).end_length == 8
    said = [event["text"] for event in the_events(spool).events if event["event"] == "message"]
    assert said == [
        "the newest segment of driver was removed; the stream goes on at byte 4 in a new one"
    ]


def test_a_whole_spool_that_vanished_is_made_again(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with _written_one(spool) as process:
        shutil.rmtree(spool)
        (tmp_path / "go").touch()
        assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 5
    assert _went_on(spool) == (f"{4:020}.seg", b"two\n")
