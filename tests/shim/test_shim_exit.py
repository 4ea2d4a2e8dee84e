"""The shim ends as its command ended."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from shim.shim_processes import SHIM, environment, run_shim, shim_words
from shim.shim_spools import the_driver, the_events, wait_for_ends

from logboom.format.spans import Source
from logboom.shim.rank import end_like

pytestmark = pytest.mark.system


def test_every_exit_status_is_preserved_in_a_shell(tmp_path: Path) -> None:
    words = " ".join(shim_words(tmp_path / "spool"))
    loop = f'for i in $(seq 0 255); do {words} sh -c "exit $i"; echo $?; done'
    done = subprocess.run(
        ["sh", "-c", loop], env=environment(), capture_output=True, timeout=300, check=True
    )
    assert done.stdout.split() == [b"%d" % status for status in range(256)]
    assert done.stderr == b""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV", "SIGABRT", "SIGPIPE"])
def test_death_by_a_signal_is_passed_on(tmp_path: Path, name: str) -> None:
    number = signal.Signals[name]
    done = run_shim(tmp_path, ["sh", "-c", f"echo before; kill -{number.value} $$"])
    assert done.returncode == -number
    wait_for_ends(tmp_path)
    assert the_events(tmp_path).events[-1] == {"event": "exited", "signal": number.value}
    assert the_driver(tmp_path).data == b"before\n"


def test_a_shell_prints_the_same_for_a_death_with_the_shim_and_without(tmp_path: Path) -> None:
    def printed(*words: str) -> tuple[bytes, bytes]:
        script = 'ulimit -c 0; "$@"; echo $?'
        done = subprocess.run(
            ["bash", "-c", script, "bash", *words, "sh", "-c", "kill -SEGV $$"],
            env=environment(),
            capture_output=True,
            timeout=60,
            check=True,
        )
        return done.stdout, re.sub(rb"\d+", b"N", done.stderr)

    without = printed("env")
    assert without[0] == b"139\n"
    assert b"Segmentation fault" in without[1]
    assert printed(*shim_words(tmp_path)) == without


def test_a_command_that_is_not_found_ends_with_127_and_a_line(tmp_path: Path) -> None:
    done = run_shim(tmp_path, ["/no/such/program"])
    assert done.returncode == 127
    assert done.stderr == b"logboom-exec: /no/such/program: No such file or directory\n"
    wait_for_ends(tmp_path)
    told = the_events(tmp_path).events
    assert [event["event"] for event in told] == ["started", "message", "exited"]
    assert told[-1]["code"] == 127


def test_a_command_that_cannot_be_run_ends_with_126(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    done = run_shim(tmp_path / "spool", [str(tmp_path / "file")])
    assert done.returncode == 126
    assert done.stderr.endswith(b"Permission denied\n")


def test_a_script_without_a_first_line_is_run_by_the_shell(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("exit 9\n")
    script.chmod(0o755)
    assert run_shim(tmp_path / "spool", [str(script)]).returncode == 9


def test_what_was_written_lies_in_the_spool_when_the_command_is_back(tmp_path: Path) -> None:
    script = "head -c 150000 /dev/zero; head -c 150000 /dev/zero >&2; printf end"
    done = run_shim(tmp_path, ["sh", "-c", script], "--rank", "1", "--world-size", "4")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    driver = the_driver(tmp_path)  # the recorder may still have the end to write, no byte more
    assert driver.source(Source.STDOUT) == bytes(150000) + b"end"
    assert driver.source(Source.STDERR) == bytes(150000)
    assert driver.folder.name.startswith("driver-1-")
    assert the_events(tmp_path).events[-1] == {"event": "exited", "code": 0}
    wait_for_ends(tmp_path)
    assert driver.end_length == 300003
    assert not driver.is_locked


def test_disabled_it_is_as_if_we_were_not_there(tmp_path: Path) -> None:
    done = run_shim(
        tmp_path / "spool", ["sh", "-c", "echo out; exit 4"], more={"LOGBOOM_DISABLE": "1"}
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, b"out\n", b"")
    assert not (tmp_path / "spool").exists()


def test_words_without_a_command_are_a_usage_error() -> None:
    for words in (["--"], [], ["--rank"], ["--what", "x"]):
        done = subprocess.run(
            [*SHIM, *words], env=environment(), capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 2
        assert done.stderr.startswith(b"logboom: ")
        assert done.stderr.count(b"\n") == 1


def test_our_own_death_of_a_signal_leaves_no_second_core(monkeypatch: pytest.MonkeyPatch) -> None:
    pid = os.fork()
    if pid == 0:
        # Where it would die, it tells whether a core would be left (PR_GET_DUMPABLE).
        monkeypatch.setattr(os, "kill", lambda *_: os._exit(ctypes.CDLL(None).prctl(3)))
        end_like(signal.SIGSEGV)
    assert os.waitpid(pid, 0)[1] == 0
