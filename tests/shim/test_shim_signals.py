"""Signals reach the command once, whoever they are sent to."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from shim.shim_processes import PYTHON, children, is_alive, recorder_of, start_shim
from shim.shim_spools import read_spool, the_driver, the_events, wait_for, wait_for_ends

pytestmark = pytest.mark.system

# Counts what arrives by the bytes that the C-level handler writes, one a signal, so that two in
# quick succession are not taken for one.
COUNT = """
import os, signal, sys, time
r, w = os.pipe()
os.set_blocking(w, False)
signal.set_wakeup_fd(w)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, lambda *_: None)
print("ready", flush=True)
got = os.read(r, 1)
time.sleep(0.5)
os.set_blocking(r, False)
try:
    got += os.read(r, 100)
except BlockingIOError:
    pass
print("got", *got, flush=True)
"""


def _start(tmp_path: Path) -> subprocess.Popen[bytes]:
    process = start_shim(tmp_path, [PYTHON, "-c", COUNT])
    wait_for(lambda: bool(read_spool(tmp_path)) and b"ready" in the_driver(tmp_path).data)
    return process


def _send(process: subprocess.Popen[bytes], number: int, whom: str) -> None:
    if whom == "process":
        os.kill(process.pid, number)
    elif whom == "group":
        os.killpg(process.pid, number)
    else:
        group = [pid for pid in children(process.pid) if os.getpgid(pid) == process.pid]
        assert len(group) == 2, "the command and the twin"
        for pid in (*group, process.pid):  # children first, as Slurm's linuxproc
            os.kill(pid, number)


@pytest.mark.parametrize("whom", ["process", "group", "each process"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_is_handled_once(tmp_path: Path, name: str, whom: str) -> None:
    number = signal.Signals[name]
    process = _start(tmp_path)
    _send(process, number, whom)
    assert process.wait(30) == 0
    assert the_driver(tmp_path).data == b"ready\ngot %d\n" % number
    process.communicate()


@pytest.mark.soak
@pytest.mark.parametrize("whom", ["process", "group", "each process"])
def test_a_signal_is_handled_once_each_time(tmp_path: Path, whom: str) -> None:
    for attempt in range(50):
        spool = tmp_path / str(attempt)
        process = _start(spool)
        _send(process, signal.SIGTERM, whom)
        assert process.wait(30) == 0
        assert the_driver(spool).data == b"ready\ngot 15\n"
        process.communicate()


def test_without_the_twin_a_signal_to_the_process_still_arrives(tmp_path: Path) -> None:
    process = _start(tmp_path)
    command = the_driver(tmp_path).attributes.pid
    recorder = recorder_of(process.pid)
    (twin,) = set(children(process.pid)) - {command, recorder}
    os.kill(twin, signal.SIGKILL)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0
    assert the_driver(tmp_path).data == b"ready\ngot 15\n"
    process.communicate()


def test_the_default_of_a_signal_ends_command_and_shim(tmp_path: Path) -> None:
    process = start_shim(tmp_path, ["sleep", "60"])
    wait_for(lambda: bool(read_spool(tmp_path)) and b"started" in the_events(tmp_path).data)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    process.communicate()


def test_sigkill_to_the_shim_ends_the_command_and_the_record_says_unknown(tmp_path: Path) -> None:
    process = start_shim(tmp_path, ["sh", "-c", "echo here; exec sleep 60"])
    wait_for(lambda: bool(read_spool(tmp_path)) and b"here" in the_driver(tmp_path).data)
    command = the_driver(tmp_path).attributes.pid
    others = children(process.pid)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    wait_for(lambda: not is_alive(command))
    wait_for_ends(tmp_path)
    assert "unknown" in the_events(tmp_path).events[-1]
    wait_for(lambda: not any(is_alive(pid) for pid in others))
    process.communicate()


def test_stopping_and_continuing_the_group_works(tmp_path: Path) -> None:
    process = _start(tmp_path)
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGCONT)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0
    assert the_driver(tmp_path).data == b"ready\ngot 15\n"
    process.communicate()


def test_whoever_kills_the_group_does_not_kill_the_witness(tmp_path: Path) -> None:
    process = start_shim(tmp_path, ["sh", "-c", "echo last words; sleep 60"])
    wait_for(lambda: bool(read_spool(tmp_path)) and b"words" in the_driver(tmp_path).data)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    wait_for_ends(tmp_path)
    assert the_driver(tmp_path).data == b"last words\n"
    process.communicate()
