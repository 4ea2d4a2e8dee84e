"""Supervision: there is always a recorder, or somebody who empties the pipes and counts.

Law
    * Bytes waiting and no turn for PATIENCE_S: the recorder is killed; a stopped one at once. A
      dead one is followed by another at once; a killed one only when it was reaped, for two would
      double bytes.
    * One that is not reaped REAP_S after its killing is stuck in the kernel: until it returns, the
      shim takes the bytes out of the pipes itself and counts them as lost. So it does wherever
      bytes waited that long and there is no recorder; it stops when one moves bytes again.
    * One that dies of itself again and again without moving a byte is started anew ever later,
      at last each RETRY_S.
"""

from __future__ import annotations

import enum
import os
import signal
from typing import Callable, Sequence

from logboom.shim import kernel
from logboom.shim.board import Board, Field
from logboom.shim.settings import (
    DRAIN_STEP_S,
    HOPELESS_DEATHS,
    PATIENCE_S,
    REAP_S,
    RETRY_S,
    SUPERVISE_S,
)


def describe(status: int) -> str:
    """Return a wait status in words."""
    if os.WIFSIGNALED(status):
        return "signal %d" % os.WTERMSIG(status)
    return "exit status %d" % os.WEXITSTATUS(status)


class State(enum.Enum):
    """Of the recorder."""

    LIVES = "lives"
    KILLED = "killed, not reaped yet"
    ABSENT = "absent"
    DONE = "has ended both streams"


class Supervisor:
    """Keeps a recorder alive. Times are seconds of one steady clock."""

    def __init__(
        self, board: Board, pipes: Sequence[int], fork_recorder: Callable[[], int]
    ) -> None:
        """``pipes``: the process's, to be watched and, in need, emptied."""
        self.state = State.ABSENT
        self._board = board
        self._pipes = [pipe for pipe in pipes if pipe >= 0]
        self._fork_recorder = fork_recorder
        self._pid = 0
        self._since = 0.0  # the state
        self._stuck_since: float | None = None
        self._turns = 0
        self._moved = 0
        self._unmoved_since: float | None = None  # bytes wait
        self._is_hopeless = False
        self._deaths = 0  # of their own, since bytes were moved
        self._is_owed = False
        self._refusal = ""  # why none could be started

    def start(self, now: float) -> None:
        """Start a recorder. Raises ``OSError`` where no process can be made."""
        self._board.add(Field.RECORDERS, 1)
        try:
            self._pid = self._fork_recorder()
        except OSError as error:
            self._refusal = str(error)
            raise
        self._refusal = ""
        self._stuck_since = None
        self._enter(State.LIVES, now)

    def expect_answer(self) -> None:
        """From now on a turn is owed even where no bytes wait: the end is to be written."""
        self._is_owed = True

    def is_hopeless(self, now: float) -> bool:
        """Say whether the recorder is stuck, or none stays alive: waiting for it is in vain."""
        is_stuck = self.state is State.KILLED and now - self._since >= REAP_S
        return is_stuck or self._is_hopeless or self._deaths >= HOPELESS_DEATHS

    def why(self) -> str:
        """Return why there is no recorder that answers."""
        if self._refusal:
            return "none could be started, %s" % self._refusal
        failed = self._board[Field.FAILED_ERRNO]
        if failed:
            return "it failed, %s" % os.strerror(failed)
        if self.state is State.KILLED:
            return "it is stuck in the kernel"
        if self.state is State.LIVES:
            return "it takes too long"
        return "it ended with %s" % describe(self._board[Field.LAST_DEATH])

    def look(self, now: float) -> float:
        """See to the recorder; return in how many seconds to look again at the latest."""
        if self.state is State.DONE:
            return SUPERVISE_S
        self._watch_progress(now)
        status = self._reap() if self._pid else None
        if status is not None and os.WIFSTOPPED(status):
            # Somebody stopped it, and the kernel says so at once: no need to be patient.
            self._kill(now)
            status = None
        if status is not None:
            if status == 0:  # only then: it has written everything, the ends included
                self._enter(State.DONE, now)
                return SUPERVISE_S
            self._board[Field.LAST_DEATH] = status
            # Killed, by us or by somebody, is no fault of its own: the next may do better at once.
            self._deaths += status != signal.SIGKILL
            self._enter(State.ABSENT, now)
        if self.state is State.ABSENT and now - self._since >= self._pause_s():
            try:
                self.start(now)
            except OSError:  # no process to be had
                self._deaths += 1
                self._enter(State.ABSENT, now)
        if self.state is State.LIVES:
            if not self._is_stuck(now):
                return SUPERVISE_S if self._stuck_since is None else SUPERVISE_S / 2
            self._kill(now)
        elif self._is_hopeless:
            self._empty_pipes()
        return DRAIN_STEP_S if self._is_hopeless else DRAIN_STEP_S / 10

    def _kill(self, now: float) -> None:
        try:
            os.kill(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # gone already: the next look finds out
        self._enter(State.KILLED, now)

    def _enter(self, state: State, now: float) -> None:
        self.state, self._since = state, now

    def _reap(self) -> int | None:
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:  # reaped by somebody else in this process
            pid, status = self._pid, 1 << 8  # unknown: anything but 0
        if not pid:
            return None
        if not os.WIFSTOPPED(status):
            self._pid = 0
        return status

    def _pause_s(self) -> float:
        if self._deaths < HOPELESS_DEATHS:
            return 0.0
        return float(min(RETRY_S, DRAIN_STEP_S * 2 ** (self._deaths - HOPELESS_DEATHS)))

    def _are_bytes_waiting(self) -> bool:
        return any(kernel.bytes_waiting(pipe) for pipe in self._pipes)

    def _watch_progress(self, now: float) -> None:
        moved = self._board[Field.MOVED] + self._board[Field.LOST]
        if moved != self._moved:
            self._moved = moved
            self._deaths = 0
            self._is_hopeless = False
            self._unmoved_since = None
        elif self._unmoved_since is None:
            self._unmoved_since = now if self._are_bytes_waiting() else None
        elif now - self._unmoved_since >= PATIENCE_S + REAP_S:
            self._is_hopeless = self._is_hopeless or self._are_bytes_waiting()

    def _is_stuck(self, now: float) -> bool:
        turns = self._board[Field.TURNS]
        is_owed = self._is_owed or self._are_bytes_waiting()
        if turns != self._turns or not is_owed:
            self._turns = turns
            self._stuck_since = now if is_owed else None
        elif self._stuck_since is None:
            self._stuck_since = now
        return self._stuck_since is not None and now - self._stuck_since >= PATIENCE_S

    def _empty_pipes(self) -> None:
        for pipe in self._pipes:
            for _ in range(64):
                try:
                    content = os.read(pipe, 1 << 18)
                except BlockingIOError:
                    break
                if not content:
                    break
                self._board.add(Field.SHIM_LOST, len(content))
