"""``logboom spool``: readable, exact, and clear about what was wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from agent.spool_writer import Writer

from logboom.agent import custody
from logboom.agent.spool import Place, Rights
from logboom.agent.spool_cli import main
from logboom.format.spans import Source
from logboom.format.stream import Kind
from processes import environment


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    found = capsys.readouterr()
    return found.out, found.err


def cat(capfdbinary: pytest.CaptureFixture[bytes], *words: str | Path) -> bytes:
    assert main(["cat", *map(str, words)]) == 0
    return capfdbinary.readouterr().out


def test_ls_of_an_empty_spool_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", str(tmp_path)]) == 0
    assert "is empty" in said(capsys)[0]


def test_ls_shows_state_and_what_is_unsent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    living, ended, dead, refused = (Writer(tmp_path, rank=rank) for rank in range(4))
    for writer in (living, ended, dead, refused):
        writer.write(bytes(2500))
    (living.folder / "acked").write_bytes(b"%020d\n" % 1000)
    ended.end()
    dead.die()
    refused.end()
    custody.refuse(Place(str(tmp_path), "runs", "run", refused.folder.name), Rights(0o600, 0o700))
    assert main(["ls", str(tmp_path)]) == 0
    head, *rows = said(capsys)[0].splitlines()
    assert head.split() == [
        "RUN",
        "KIND",
        "RANK",
        "ON",
        "DISK",
        "ACKED",
        "UNSENT",
        "STATE",
        "AGE",
        "STREAM",
    ]
    assert rows[0].split()[:7] == ["run", "driver", "0", "2,500", "1,000", "1,500", "living"]
    assert rows[1].split()[2:7] == ["1", "2,500", "0", "2,500", "ended"]
    assert "recorder gone" in rows[2]
    assert "refused" in rows[3]
    assert living.id in rows[0]


@pytest.mark.parametrize("what", ["nowhere", "file", "other"])
def test_what_is_no_spool_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "something").write_text("")
    assert main(["ls", str(tmp_path / what)]) == 1
    out, err = said(capsys)
    assert out == ""
    assert err.startswith("logboom: ")
    assert len(err.splitlines()) == 1
    assert what in err


def test_cat_writes_exactly_the_bytes_and_takes_sources_apart(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    writer = Writer(tmp_path, block=64)
    parts = [(bytes(range(256)) * (n + 1), Source(n % 2)) for n in range(6)]
    for raw, source in parts:
        writer.write(raw, source)
    whole = b"".join(raw for raw, _ in parts)
    assert cat(capfdbinary, tmp_path) == whole
    for name, wanted in (("stdout", Source.STDOUT), ("stderr", Source.STDERR)):
        expected = b"".join(raw for raw, source in parts if source is wanted)
        assert cat(capfdbinary, tmp_path, "--source", name) == expected


def test_cat_of_several_matches_lists_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writers = [Writer(tmp_path, rank=rank) for rank in range(2)]
    assert main(["cat", str(tmp_path)]) == 2
    err = said(capsys)[1]
    assert all(writer.id in err for writer in writers)
    assert main(["cat", str(tmp_path), "--rank", "7"]) == 1
    assert "no stream" in said(capsys)[1]


def test_cat_chooses_by_rank_kind_run_and_id(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    first, second = Writer(tmp_path, rank=0), Writer(tmp_path, rank=1)
    events = Writer(tmp_path, rank=1, kind=Kind.EVENTS)
    other = Writer(tmp_path, run_id="other", rank=1)
    for writer, raw in ((first, b"a"), (second, b"b"), (events, b"c"), (other, b"d")):
        writer.write(raw)
    assert cat(capfdbinary, tmp_path, "--rank", "0") == b"a"
    assert cat(capfdbinary, tmp_path, "--rank", "1", "--run-id", "run") == b"b"
    assert cat(capfdbinary, tmp_path, "--kind", "events") == b"c"
    assert cat(capfdbinary, tmp_path, "--stream", other.id[:12]) == b"d"


def test_a_bad_word_is_one_sentence_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["cut"], [], ["cat", "--rank", "x"]):
        assert main(words) == 2
        assert said(capsys)[1].startswith("logboom: ")


@pytest.mark.system
def test_cat_into_a_pipe_that_closes_is_quiet(tmp_path: Path) -> None:
    Writer(tmp_path).write(bytes(5_000_000))
    words = f"{sys.executable} -m logboom.command spool cat {tmp_path} | head -c 10 | wc -c"
    done = subprocess.run(
        ["sh", "-c", words], check=False, env=environment(), capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == ("10", "")
