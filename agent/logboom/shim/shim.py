"""The shim: the launcher's child, which runs the command as its child and ends as it ended.

Law
    * All that can fail is tried before the command is forked; then the command is held until it
      is clear whether it is recorded. Trouble up to there costs only the recording.
    * Signals reach the command once: what the twin got too, the command has already.
    * Whatever was inherited is closed here once the command runs, but 2.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Any, Mapping, NamedTuple, NoReturn

from logboom.shim import kernel
from logboom.shim.board import Board, Field
from logboom.shim.descriptors import close_all_but, point_to_null
from logboom.shim.execution import end_like
from logboom.shim.folder import Folder
from logboom.shim.place import Spool
from logboom.shim.rank import Rank, fork_rank
from logboom.shim.recorder import Recorder, boot_ns
from logboom.shim.room import Limits, Room
from logboom.shim.segments import Segments
from logboom.shim.settings import END_WITH_FAULTS_S, NICE, PIPE_BYTES, TWIN_HEAD_START_S
from logboom.shim.starter import Starter, leave_binding
from logboom.shim.supervisor import State, Supervisor
from logboom.shim.trouble import say
from logboom.shim.twin import Twin, fork_twin

_ALL = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}


class Equipment(NamedTuple):
    """What shim and recorder share, made before anything is forked."""

    spool: Spool
    driver: Folder
    events: Folder
    board: Board
    outs: tuple[int, int]  # the pipes' ends: the command writes to ins, -1 where it has none
    ins: tuple[int, int]
    stage: tuple[int, int]
    limits: Limits


def make_equipment(
    spool: Spool,
    driver: Folder,
    events: Folder,
    limits: Limits,
    pipe_bytes: int,
    is_there: tuple[bool, bool],
) -> Equipment:
    """Make everything that recording takes. Raises ``OSError`` or ``Trouble``; nothing ran yet.

    ``is_there``: whether the command has a stdout, a stderr. What is closed stays closed.
    """
    outs, ins = [-1, -1], [-1, -1]
    for at in (0, 1):
        if is_there[at]:
            outs[at], ins[at] = os.pipe()
            os.set_blocking(outs[at], False)
            if pipe_bytes:
                kernel.set_pipe_size(outs[at], pipe_bytes)
    stage = os.pipe()
    os.set_blocking(stage[0], False)
    driver.make()
    events.make()
    return Equipment(
        spool, driver, events, Board(), (outs[0], outs[1]), (ins[0], ins[1]), stage, limits
    )


def pipe_size(budget_pages: int, page_bytes: int, local_size: int) -> int:
    """Return the size to ask for each of a process's two pipes; 0: leave it at the default.

    All ranks of a node together take at most a quarter of the user's pipe budget (a page count,
    ``pipe-user-pages-soft``); beyond the budget, the job's own pipes would shrink.
    """
    share = budget_pages * page_bytes // 4 // max(1, local_size)
    if budget_pages <= 0 or share >= 3 * PIPE_BYTES:
        return PIPE_BYTES
    return PIPE_BYTES // 2 if share >= 3 * PIPE_BYTES // 2 else 0


class Shim:
    """One command's shim. ``run`` does not return."""

    def __init__(
        self,
        equipment: Equipment,
        command: list[str],
        env: Mapping[bytes, bytes],
        starter: Starter,
    ) -> None:
        self._equipment = equipment
        self._board = equipment.board
        self._command = command
        self._env = env
        self._starter = starter
        self._about: dict[str, Any] = {}
        self._twin = Twin(0, -1, -1)
        self._to_recorder = -1
        self._from_recorder = -1

    def run(self, first_agent_look_s: float) -> NoReturn:
        """Run the command, record it, end as it ended. Raises ``OSError`` before it was forked."""
        equipment = self._equipment
        mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, _ALL))
        try:
            rank = fork_rank(self._command, self._env, mask, equipment.ins, self._board)
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise
        for pipe in equipment.ins:
            if pipe >= 0:
                os.close(pipe)
        supervisor = Supervisor(self._board, equipment.outs, self._fork_recorder)
        is_recorded = self._prepare(rank, supervisor)
        self._board[Field.STARTED_NS] = boot_ns()
        rank.release(is_recorded)
        if not is_recorded:
            end_like(self._wait_plainly(rank))
        self._close_inherited()
        self._starter.wait_until(time.monotonic() + first_agent_look_s)
        status = self._watch(rank, supervisor)
        self._finish(status, supervisor)
        self._twin.end()
        end_like(status)

    def _prepare(self, rank: Rank, supervisor: Supervisor) -> bool:
        """Make the record ready; False, with a line, where that fails."""
        driver, events = self._equipment.driver, self._equipment.events
        self._about = {
            "pid": rank.pid,
            "command": [_printable(word) for word in self._command],
            "cwd": _printable(_cwd()),
        }
        try:
            for folder in (driver, events):
                folder.announce(folder.attributes._replace(pid=rank.pid))
            self._twin = fork_twin()
            supervisor.start(time.monotonic())
            return True
        except OSError as error:
            self._twin.end()
            driver.unmake()
            events.unmake()
            say("cannot record: %s; the command runs unrecorded" % error)
            return False

    def _watch(self, rank: Rank, supervisor: Supervisor) -> int:
        while True:
            now = time.monotonic()
            wait_s = supervisor.look(now)
            self._starter.look(now)
            found = signal.sigtimedwait(_ALL, wait_s)
            if found is not None and found.si_signo != signal.SIGCHLD:
                self._pass_on(rank, found.si_signo)
            status = rank.reap()
            if status is not None:
                return status

    def _wait_plainly(self, rank: Rank) -> int:
        while True:
            found = signal.sigtimedwait(_ALL, 1.0)
            if found is not None and found.si_signo != signal.SIGCHLD:
                self._pass_on(rank, found.si_signo)
            status = rank.reap()
            if status is not None:
                return status

    def _pass_on(self, rank: Rank, number: int) -> None:
        time.sleep(TWIN_HEAD_START_S)
        if not self._twin.has_got(number):
            rank.signal(number)

    def _finish(self, status: int, supervisor: Supervisor) -> None:
        """Have the recorder write the process's end, and wait for that as long as it takes."""
        self._board[Field.WAIT_STATUS] = status
        self._board[Field.ENDED_NS] = boot_ns()
        supervisor.expect_answer()
        self._tell_recorder()
        until = time.monotonic() + END_WITH_FAULTS_S
        while time.monotonic() < until and supervisor.state is not State.DONE:
            wait_s = supervisor.look(time.monotonic())
            ready, _, _ = select.select([self._from_recorder], [], [], min(wait_s, 0.05))
            if ready and os.read(self._from_recorder, 1):
                return
            if ready:
                time.sleep(0.001)  # it is gone: the supervisor sees to that

    def _tell_recorder(self) -> None:
        try:
            os.write(self._to_recorder, b"E")
        except OSError:
            pass  # it died; its successor is told

    def _fork_recorder(self) -> int:
        wake_out, wake_in = os.pipe()
        done_out, done_in = os.pipe()
        os.set_blocking(wake_out, False)
        for pipe in (wake_in, done_in):
            kernel.set_pipe_size(pipe, 4096)
        pid = os.fork()
        if pid == 0:
            try:
                self._record(wake_out, done_in)
            finally:
                os._exit(1)
        for fd in (wake_out, done_in, self._to_recorder, self._from_recorder):
            if fd >= 0:
                os.close(fd)
        self._to_recorder, self._from_recorder = wake_in, done_out
        if self._board[Field.ENDED_NS]:
            self._tell_recorder()
        return pid

    def _record(self, wake: int, done: int) -> None:
        """Be the recorder."""
        kit = self._equipment
        close_all_but((*self._shared_fds(), wake, done))
        point_to_null((0, 1, 2))
        os.setsid()
        os.nice(NICE)
        leave_binding()
        os.chdir("/")
        board = kit.board
        driver = Segments(kit.driver, board[Field.LENGTH])
        events = Segments(kit.events, board[Field.EVENTS_LENGTH])
        room = Room(kit.limits, kit.spool.path, kit.driver.fd)
        recorder = Recorder(
            board, kit.outs, kit.stage, (wake, done), driver, events, room, self._about
        )
        if board[Field.RECORDERS] > 1:
            recorder.say("the recorder was started again after %s" % self._last_death())
        try:
            recorder.run()
        except Exception as error:  # a bug or a broken disk: the next recorder goes on
            recorder.say("the recorder failed: %r" % error)
            os._exit(1)
        os._exit(0)

    def _last_death(self) -> str:
        status = self._board[Field.LAST_DEATH]
        if os.WIFSIGNALED(status):
            return "signal %d" % os.WTERMSIG(status)
        return "exit status %d" % os.WEXITSTATUS(status)

    def _shared_fds(self) -> tuple[int, ...]:
        kit = self._equipment
        return (
            *kit.outs, *kit.stage, kit.spool.fd,
            kit.driver.fd, kit.driver.lock_fd, kit.events.fd, kit.events.lock_fd,
        )  # fmt: skip

    def _close_inherited(self) -> None:
        ours = (*self._shared_fds(), *self._twin.fds, self._to_recorder, self._from_recorder)
        close_all_but((2, *ours))
        point_to_null((0, 1))


def _printable(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "replace")


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # removed under us
