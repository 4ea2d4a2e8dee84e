"""Supervision: a recorder that is stuck is replaced; where none can be had, bytes are counted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from logboom.format.stream import Kind, StreamAttributes
from logboom.shim.board import Board, Field
from logboom.shim.folder import Folder
from logboom.shim.place import open_spool
from logboom.shim.room import Limits
from logboom.shim.settings import PATIENCE_S, REAP_S
from logboom.shim.shim import Shim, make_equipment
from logboom.shim.starter import Starter
from logboom.shim.supervisor import State, Supervisor

pytestmark = pytest.mark.system


def _full_pipe() -> tuple[int, int]:
    out, into = os.pipe()
    os.set_blocking(out, False)
    os.write(into, bytes(1000))
    return out, into


def _look_until(supervisor: Supervisor, holds: Callable[[], bool]) -> float:
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < 10 * PATIENCE_S, "it never came to hold"
        time.sleep(min(0.01, supervisor.look(time.monotonic())))
    return time.monotonic() - started


def test_a_recorder_that_takes_no_turn_while_bytes_wait_is_replaced() -> None:
    out, into = _full_pipe()
    board = Board()
    started: list[int] = []

    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        started.append(pid)
        return pid

    supervisor = Supervisor(board, [out], fork)
    supervisor.start(time.monotonic())
    took = _look_until(supervisor, lambda: len(started) == 2)
    assert took >= PATIENCE_S, "it was not given its time"
    assert board[Field.LAST_DEATH] == signal.SIGKILL
    assert board[Field.SHIM_LOST] == 0
    os.read(out, 1000)
    until = time.monotonic() + 2 * PATIENCE_S
    while time.monotonic() < until:  # nothing waits: an idle one is left alone
        time.sleep(min(0.05, supervisor.look(time.monotonic())))
    assert len(started) == 2
    os.kill(started[1], signal.SIGKILL)
    os.waitpid(started[1], 0)
    os.close(out)
    os.close(into)


def test_where_no_recorder_can_be_had_the_pipes_are_emptied_and_counted() -> None:
    out, into = _full_pipe()
    board = Board()

    def fork() -> int:
        raise BlockingIOError("no process to be had")

    supervisor = Supervisor(board, [out], fork)
    took = _look_until(supervisor, lambda: board[Field.SHIM_LOST] == 1000)
    assert took >= PATIENCE_S + REAP_S
    assert supervisor.state is State.ABSENT
    os.write(into, bytes(500))  # from now on nobody waits again
    assert _look_until(supervisor, lambda: board[Field.SHIM_LOST] == 1500) < PATIENCE_S
    os.close(out)
    os.close(into)


def test_a_recorder_that_cannot_be_forked_costs_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(str(tmp_path / "spool"))
    made = [
        Folder(spool, StreamAttributes(letter * 32, kind, "r", process="c" * 32))
        for letter, kind in (("a", Kind.DRIVER), ("b", Kind.EVENTS))
    ]
    kit = make_equipment(spool, made[0], made[1], Limits(1, 1, 0), 0, (True, True))
    shim = Shim(kit, ["true"], {}, Starter(spool, "", {}))

    def fork() -> int:
        raise BlockingIOError("no process to be had")

    monkeypatch.setattr(os, "fork", fork)
    supervisor = Supervisor(kit.board, kit.outs, shim._fork_recorder)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        supervisor.look(1000.0 * (number + 1))
    assert kit.board[Field.RECORDERS] == 5
    assert len(os.listdir("/proc/self/fd")) == before
    assert supervisor.is_hopeless(6000.0)
    assert "no process to be had" in supervisor.why()
