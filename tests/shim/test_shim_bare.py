"""In the poorest surroundings the command still runs, with one line of ours at most."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from shim.shim_processes import SHIM, environment
from shim.shim_spools import the_driver, wait_for_ends

from logboom.shim.starter import absolute

pytestmark = pytest.mark.system
COMMAND = ["sh", "-c", "echo out; exit 5"]


def _run(spool: Path, *before: str, path: str = "") -> subprocess.CompletedProcess[bytes]:
    more = {"PYTHONPATH": os.pathsep.join([path, *(p for p in sys.path if p)])} if path else {}
    return subprocess.run(
        [*before, *SHIM, "--spool", str(spool), "--", *COMMAND],
        env=environment(more), stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("content", ["raise RuntimeError('mine')", "import sys; sys.exit(9)"])
@pytest.mark.parametrize("name", ["resource", "ctypes", "signal", "typing", "json", "mmap"])
def test_a_module_of_the_jobs_that_is_named_like_one_of_pythons(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / f"{name}.py").write_text(content)
    done = _run(tmp_path / "spool", path=str(tmp_path / "path"))
    assert (done.returncode, done.stdout) == (5, b"out\n")
    assert done.stderr.startswith(b"logboom: cannot record: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("separator", [["--"], []])
def test_where_not_even_flags_can_be_read_the_command_is_found(
    tmp_path: Path, separator: list[str]
) -> None:
    (tmp_path / "typing.py").write_text("raise RuntimeError('mine')")
    words = [*SHIM, "--no-tee", "--rank=1", "--name", "n", *separator, *COMMAND]
    more = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])}
    done = subprocess.run(
        words, env=environment(more), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (5, b"out\n")


def test_few_descriptors_mean_a_whole_record_or_one_line(tmp_path: Path) -> None:
    recorded = []
    for number in range(6, 32):
        spool = tmp_path / str(number)
        done = _run(spool, "sh", "-c", f'ulimit -n {number}; exec "$@"', "sh")
        assert done.returncode == 5, number
        if done.stdout:
            assert done.stderr.count(b"\n") == 1, (number, done.stderr)
            assert not (spool / "runs").exists() or not list((spool / "runs").iterdir()), number
            continue
        recorded.append(number)
        assert done.stderr == b""
        wait_for_ends(spool)
        assert the_driver(spool).data == b"out\n"
    print("recorded with", *recorded)
    assert recorded[-1] == 31
    assert len(recorded) < 26, "nothing was ever lacking"


def test_a_hard_limit_of_file_size_below_a_segment_is_said_at_once(tmp_path: Path) -> None:
    done = _run(tmp_path / "spool", "bash", "-c", 'ulimit -f 1000; exec "$@"', "bash")
    assert (done.returncode, done.stdout) == (5, b"out\n")
    assert done.stderr.startswith(b"logboom: no file may grow past 1,024,000 bytes here; ")
    assert done.stderr.count(b"\n") == 1


def test_a_path_for_the_agent_is_made_even_where_the_jobs_folder_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path / "job")
    assert absolute(b"x") == os.fsencode(tmp_path / "job" / "x")
    assert absolute(b"") == b""
    (tmp_path / "job").rmdir()
    assert absolute(b"x") == b"x"
