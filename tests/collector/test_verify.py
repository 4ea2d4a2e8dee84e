"""Verify finds what is wrong, says where, and takes nothing right for wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from collector.agentlike import stream
from collector.crashstorage import CrashStorage
from collector.scenario import RUN_ID, append, commit, finish, opened, place, recover, streams

from logboom.collector import verify_cli
from logboom.collector.local import LocalStorage
from logboom.format.spans import RECORD_BYTES

LOG = "azureml-logs/70_driver_log_0.txt"
SPANS = ".logboom/spans/" + LOG
BLOCK = 16 << 20


def store(root: Path) -> Path:
    """Make a store with one finished run; return the run's folder."""
    root.mkdir()
    with LocalStorage(root) as storage:
        finish(*opened(storage), streams())
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
    assert out.startswith("complete: run r: 8 complete; ")
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
    assert "2 incomplete; 3 bytes" in out


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
    finish(*opened(storage), streams())
    assert {finding.verdict for finding in verify_run(storage, RUN_ID)} == {Verdict.COMPLETE}
