"""What is no signal to the command never reaches it: our own, and what the kernel did not say."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from shim.shim_processes import children, environment, recorder_of, shim_words, start_shim
from shim.shim_spools import read_spool, the_driver, wait_for, wait_for_ends

from logboom.shim import kernel

pytestmark = pytest.mark.system


def _start(spool: Path, *command: str) -> subprocess.Popen[bytes]:
    process = start_shim(spool, command)
    wait_for(lambda: bool(read_spool(spool)) and b"here" in the_driver(spool).data)
    return process


def test_a_shim_that_was_stopped_for_long_goes_on(tmp_path: Path) -> None:
    process = _start(tmp_path, "sh", "-c", "echo here; sleep 3; exit 5")
    for _ in range(4):
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(0.4)  # longer than it waits for a signal at a time
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.1)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (5, b"", b"")
    wait_for_ends(tmp_path)
    assert the_driver(tmp_path).data == b"here\n"


def test_a_wait_for_a_signal_tells_who_sent_it_and_none_from_an_interruption() -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            found = kernel.sigtimedwait([signal.SIGUSR1], 1.5)
            if found == kernel.SignalInfo(signal.SIGUSR1, 0, os.getpid()):
                status = 0 if kernel.sigtimedwait([signal.SIGUSR1], 0.3) is None else 2
        finally:
            os._exit(status)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    time.sleep(0.2)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.4)
    os.kill(pid, signal.SIGCONT)
    assert os.waitpid(pid, 0)[1] == 0


def test_the_death_of_the_twin_costs_the_command_nothing(tmp_path: Path) -> None:
    process = _start(tmp_path, "sh", "-c", "echo here; sleep 2; exit 5")
    known = {the_driver(tmp_path).attributes.pid, recorder_of(process.pid)}
    (twin,) = set(children(process.pid)) - known
    os.kill(twin, signal.SIGKILL)
    for _ in range(2):
        os.kill(process.pid, signal.SIGURG)  # harmless in itself
        time.sleep(0.3)
    process.communicate(timeout=60)
    assert process.returncode == 5


def test_a_soft_limit_of_file_size_is_the_commands_not_the_records(tmp_path: Path) -> None:
    script = "ulimit -S -f; sleep 1; exit 5"
    words = ["bash", "-c", 'ulimit -S -f 0; exec "$@"', "bash", *shim_words(tmp_path)]
    done = subprocess.run(
        [*words, "sh", "-c", script],
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (5, b"")
    wait_for_ends(tmp_path)
    assert the_driver(tmp_path).data == b"0\n"
