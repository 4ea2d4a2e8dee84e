"""The command runs once, and the shim ends as it ended, whatever of ours fails meanwhile."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from shim.shim_processes import PYTHON, environment, run_shim, shim_words
from shim.shim_spools import the_driver, the_events, wait_for_ends

from launchers import lacking

pytestmark = pytest.mark.system

# Starts logboom-exec with something broken in it. The arguments after the code are its own.
BROKEN = """
import os, signal, sys, time
from logboom.shim import cli, recording, segments, shim, supervisor
{fault}
sys.exit(cli.main(sys.argv[1:]))
"""
SUPERVISION_FAILS = """
look, looks = supervisor.Supervisor.look, []
def fail(self, now):
    looks.append(now)
    if len(looks) > 2:
        raise {error}
    return look(self, now)
supervisor.Supervisor.look = fail
"""
KILLED_WHILE_HELD = """
prepare = shim.Shim._prepare
def kill(self, rank, *rest):
    is_recorded = prepare(self, rank, *rest)
    os.kill(rank.pid, signal.SIGKILL)
    time.sleep(0.2)
    return is_recorded
shim.Shim._prepare = kill
"""
ANNOUNCING_FAILS = """
def fail(self, attributes):
    raise RuntimeError("a bug")
recording.Folder.announce = fail
"""
NO_FORK = """
def fail(*_):
    raise BlockingIOError(11, "Resource temporarily unavailable")
shim.fork_rank = fail
"""
NO_RECORDER = """
def fail(self, *_):
    raise OSError(30, "Read-only file system")
segments.Segments.__init__ = fail
"""


def _run_broken(spool: Path, fault: str, command: list[str]) -> subprocess.CompletedProcess[bytes]:
    code = BROKEN.format(fault=fault)
    words = [PYTHON, "-c", code, "--spool", str(spool), "--run-id", "r", "--", *command]
    return subprocess.run(words, env=environment(), capture_output=True, timeout=60, check=False)


def _marking(mark: Path) -> list[str]:
    return ["sh", "-c", f"echo ran >> {mark}; sleep 1; exit 5"]


@pytest.mark.parametrize("error", ["ChildProcessError(10, 'x')", "ValueError('x')", "MemoryError"])
def test_where_supervision_fails_the_command_runs_on_and_once(tmp_path: Path, error: str) -> None:
    fault = SUPERVISION_FAILS.format(error=error)
    done = _run_broken(tmp_path / "spool", fault, _marking(tmp_path / "mark"))
    assert done.returncode == 5
    assert (tmp_path / "mark").read_text() == "ran\n"
    assert done.stderr.startswith(b"logboom: recording failed, ")
    assert done.stderr.count(b"\n") == 1
    wait_for_ends(tmp_path / "spool")
    assert the_events(tmp_path / "spool").events[-1] == {"event": "exited", "code": 5}


def test_where_the_record_cannot_be_made_ready_the_command_runs_once(tmp_path: Path) -> None:
    done = _run_broken(tmp_path / "spool", ANNOUNCING_FAILS, _marking(tmp_path / "mark"))
    assert done.returncode == 5
    assert (tmp_path / "mark").read_text() == "ran\n"
    assert done.stderr == b"logboom: cannot record: a bug; the command runs unrecorded\n"
    assert not list((tmp_path / "spool" / "runs").iterdir())


def test_a_command_killed_before_it_began_is_not_begun_again(tmp_path: Path) -> None:
    done = _run_broken(tmp_path / "spool", KILLED_WHILE_HELD, _marking(tmp_path / "mark"))
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "mark").exists()


def test_where_no_process_can_be_made_no_folder_is_left_behind(tmp_path: Path) -> None:
    done = _run_broken(tmp_path / "spool", NO_FORK, _marking(tmp_path / "mark"))
    assert done.returncode == 5
    assert (tmp_path / "mark").read_text() == "ran\n"
    assert not list((tmp_path / "spool" / "runs").iterdir())


def test_where_no_recorder_lives_one_line_says_what_is_not_recorded(tmp_path: Path) -> None:
    script = "head -c 1000 /dev/zero; exit 5"
    started = time.monotonic()
    done = _run_broken(tmp_path / "spool", NO_RECORDER, ["sh", "-c", script])
    print(f"back after {time.monotonic() - started:.2f} s")
    assert done.returncode == 5
    assert done.stderr.startswith(b"logboom: 1000 bytes and the end of the command are not in ")
    assert done.stderr.endswith(b"it failed, Read-only file system\n")
    assert done.stderr.count(b"\n") == 1


def test_a_launcher_that_ignores_sigchld_changes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; print('ran', file=open(sys.argv[1], 'a'))\n"
        "print(*[line for line in open('/proc/self/status') if 'SigIgn' in line]); sys.exit(5)"
    )
    command = [PYTHON, "-c", code, str(tmp_path / "mark")]
    words = ["env", "--ignore-signal=CHLD", *shim_words(tmp_path / "spool"), *command]
    done = subprocess.run(words, env=environment(), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (5, b"")
    assert (tmp_path / "mark").read_text() == "ran\n"
    wait_for_ends(tmp_path / "spool")
    ignored = int(the_driver(tmp_path / "spool").data.split()[1], 16)
    assert ignored & 1 << signal.SIGCHLD - 1, "the command finds it ignored, as without us"


def test_without_dev_null_the_command_is_recorded_and_runs_once(tmp_path: Path) -> None:
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh"]
    if subprocess.run([*hidden, "true"], capture_output=True, check=False).returncode:
        lacking("cannot hide /dev here; run as root")
    script = f"echo ran >> {tmp_path}/mark; echo out; exit 5"
    done = subprocess.run(
        [*hidden, *shim_words(tmp_path / "spool"), "sh", "-c", script],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (5, b"")
    assert (tmp_path / "mark").read_text() == "ran\n"
    wait_for_ends(tmp_path / "spool")
    assert the_driver(tmp_path / "spool").data == b"out\n"


def test_more_descriptors_than_select_can_name_change_nothing(tmp_path: Path) -> None:
    code = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))\n"
        "for _ in range(1100): os.set_inheritable(os.dup(0), True)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    script = "kill -URG $PPID; sleep 0.3; echo out; exit 5"  # the shim asks its twin, too
    words = [PYTHON, "-c", code, *shim_words(tmp_path), "sh", "-c", script]
    done = subprocess.run(
        words, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (5, b"")
    wait_for_ends(tmp_path)
    assert the_driver(tmp_path).data == b"out\n"
    assert the_events(tmp_path).events[-1] == {"event": "exited", "code": 5}


def test_a_launch_mark_of_any_bytes_is_stored(tmp_path: Path) -> None:
    done = run_shim(tmp_path, ["true"], more={"LOGBOOM_LAUNCH_MARK": "m\udcff"})
    assert (done.returncode, done.stderr) == (0, b"")
    wait_for_ends(tmp_path)
    assert the_driver(tmp_path).attributes.launch_mark == "m\ufffd"
