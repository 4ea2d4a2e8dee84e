"""Verify finds what is wrong, says where, and takes nothing right for wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from collector.agentlike import stream
from collector.crashstorage import CrashStorage
from collector.scenario import (
    RUN_ID,
    append,
    commit,
    end,
    finish,
    opened,
    place,
    recover,
    streams,
)

from logboom.collector import verify_cli
from logboom.collector.local import LocalStorage
from logboom.format.events import Event, encode_event
from logboom.format.spans import RECORD_BYTES
from logboom.format.stream import Kind

LOG = "azureml-logs/70_driver_log_0.txt"
SPANS = ".logboom/spans/" + LOG
BLOCK = 16 << 20
WHOLE = streams(4)[:-2]  # every rank of the world, each with its events


def store(root: Path) -> Path:
    """Make a store with one finished run; return the run's folder."""
    root.mkdir()
    with LocalStorage(root) as storage:
        finish(*opened(storage), WHOLE)
    return root / "runs" / RUN_ID


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return store(tmp_path / "data")


def verify(run: Path) -> int:
    return verify_cli.main([RUN_ID, "--data", str(run.parent.parent)])


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_whole_run_is_complete_and_so_is_its_copy(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(run) == 0
    out = capsys.readouterr().out
    assert out.startswith("complete: run r: 8 streams complete; ")
    assert out.count("\n") == 1
    shutil.copytree(tmp_path / "data", tmp_path / "copy", symlinks=True)
    assert verify(tmp_path / "copy/runs/r") == 0


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a flipped byte": (lambda run: flip(run / LOG, 3), "are not as they arrived"),
    "a truncated file": (lambda run: cut(run / LOG), "are missing"),
    "an emptied file": (lambda run: os.truncate(run / LOG, 0), "are missing"),
    "a missing file": (lambda run: (run / LOG).unlink(), "missing"),
    "appended bytes": (lambda run: longer(run / LOG), "more than"),
    "a broken span": (lambda run: flip(run / SPANS, 5), "spans are broken"),
    "a broken piece": (lambda run: flip(run / SPANS, 2 * RECORD_BYTES + 5), "spans are broken"),
    "missing spans": (lambda run: (run / SPANS).unlink(), "spans are broken"),
    "appended spans": (lambda run: longer(run / SPANS), "more than"),
    "a broken journal": (lambda run: flip(run / ".logboom/journal.jsonl", 300), "journal"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_corrupt_and_its_place_is_named(
    damage: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    does, says = DAMAGES[damage]
    assert (run / LOG).stat().st_size > 100
    does(run)
    assert verify(run) == 4
    out = capsys.readouterr().out
    assert says in out
    assert ("journal" if "journal" in damage else LOG) in out
    assert out.splitlines()[-1].startswith("corrupt: run r: ")


def test_a_flipped_byte_far_inside_names_its_block(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    with LocalStorage(tmp_path / "data") as storage:
        run, group = opened(storage)
        place(run, stream())
        commit(group)
        found = recover(run, stream())
        for _ in range(36):
            append(run, found, bytes(1 << 20))
        commit(group)
        append(run, found, b"after a commit")
        commit(group)
    flip(tmp_path / "data/runs/r" / LOG, 2 * BLOCK + 100)
    assert verify(tmp_path / "data/runs/r") == 4
    assert "block 2" in capsys.readouterr().out


def test_a_stream_whose_end_never_came_is_incomplete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    with LocalStorage(tmp_path / "data") as storage:
        run, group = opened(storage)
        for attributes in (stream(), stream(rank=1)):
            place(run, attributes)
        commit(group)
        append(run, recover(run, stream()), b"abc")
        commit(group)
    assert verify(tmp_path / "data/runs/r") == 3
    out = capsys.readouterr().out
    assert f"incomplete: {LOG}: not ended yet, 3 bytes durable" in out
    assert "0 streams complete, 5 findings above" in out


@pytest.mark.parametrize("kept", [0, 1, 200, 700])
def test_a_journal_that_was_cut_never_proves_a_run(
    run: Path, kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    os.truncate(run / ".logboom/journal.jsonl", kept)
    assert verify(run) in (3, 4)
    (run / ".logboom/journal.jsonl").unlink()
    assert verify(run) == 4
    assert "journal" in capsys.readouterr().out


def test_a_rank_that_nothing_was_heard_of_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    with LocalStorage(tmp_path / "data") as storage:
        finish(*opened(storage), [*WHOLE[:2], WHOLE[5]])
    assert verify(tmp_path / "data/runs/r") == 3
    out = capsys.readouterr().out
    assert "attempt 0: nothing was heard of ranks 1, 3 of 4" in out
    assert "what became of it never came" in out


@pytest.mark.parametrize("does", [Path.unlink, longer, cut, lambda path: flip(path, 9)])
def test_a_derived_file_that_is_not_what_the_journal_gives_is_corrupt(
    run: Path, does: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    does(run / "azureml-logs/process_status.json")
    is_longer = does is longer  # a living run's file may be ahead of the journal that was read
    assert verify(run) == (0 if is_longer else 4)
    assert is_longer or "process_status.json: is not what" in capsys.readouterr().out


def test_what_a_node_could_not_keep_makes_the_run_incomplete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = encode_event(Event(9, 51, "lost", {"bytes": 1234567, "why": "spool full"}))
    (tmp_path / "data").mkdir()
    with LocalStorage(tmp_path / "data") as storage:
        run, group = opened(storage)
        found = [stream(Kind.DRIVER, world_size=1), stream(Kind.EVENTS, world_size=1)]
        for attributes in found:
            place(run, attributes)
        commit(group)
        for attributes, content in zip(found, (b"abc", lost), strict=True):
            append(run, recover(run, attributes), content)
        commit(group)
        for attributes, content in zip(found, (b"abc", lost), strict=True):
            end(run, recover(run, attributes), content)
        commit(group)
    assert verify(tmp_path / "data/runs/r") == 3
    assert "1,234,567 bytes were lost on the node" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["nosuchrun"], 1, "nosuchrun"),
        (["../x"], 2, "run id"),
        (["r", "--data", "/nowhere/at/all"], 1, "/nowhere/at/all"),
    ],
)
def test_what_cannot_be_verified_is_one_sentence(
    run: Path, words: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--data" not in words:
        words = [*words, "--data", str(run.parent.parent)]
    assert verify_cli.main(words) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("logboom: ")
    assert says in said.err
    assert said.err.count("\n") == 1


def test_verifying_changes_nothing(run: Path) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        return {p: (p.lstat().st_mtime_ns, p.lstat().st_size) for p in run.parent.parent.rglob("*")}

    flip(run / LOG, 0)
    before = state()
    verify(run)
    assert state() == before


def test_the_double_is_verified_like_a_folder() -> None:
    from logboom.collector.verify import Verdict, verify_run

    storage = CrashStorage()
    finish(*opened(storage), WHOLE)
    assert {finding.verdict for finding in verify_run(storage, RUN_ID)} == {Verdict.COMPLETE}
