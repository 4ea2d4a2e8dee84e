"""The shim: the launcher's child, which runs the command as its child and ends as it ended.

Law
    * What can fail is tried before the command is forked; then the command is held until it is
      clear whether it is recorded. Trouble up to there costs only the recording.
    * Once the command is forked nothing is raised any more, for it must not be started twice:
      whatever fails, the shim passes signals on, waits for the command, and ends as it ended.
    * Signals reach the command once: what the twin got too, the command has already.
    * Whatever was inherited is closed here once the command runs, but 2.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from typing import Any, Mapping, NamedTuple, NoReturn

from logboom.format.spool import BLOCK_BYTES
from logboom.shim import kernel
from logboom.shim.board import Board, Field
from logboom.shim.descriptors import close_all_but, is_readable, point_to_null
from logboom.shim.execution import take_signals
from logboom.shim.folder import Folder
from logboom.shim.loss import unmarked_bytes
from logboom.shim.names import printable
from logboom.shim.place import Spool
from logboom.shim.rank import Rank, end_like, fork_rank
from logboom.shim.recorder import Recorder, boot_ns
from logboom.shim.room import Limits, Room
from logboom.shim.segments import Segments
from logboom.shim.settings import (
    END_S,
    END_WITH_FAULTS_S,
    NICE,
    PIPE_BYTES,
    SUPERVISE_S,
    TWIN_HEAD_START_S,
)
from logboom.shim.starter import Starter, leave_binding, leave_soft_limits
from logboom.shim.supervisor import State, Supervisor, describe
from logboom.shim.trouble import Trouble, say
from logboom.shim.twin import Twin, fork_twin

_ALL = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
_SI_USER = 0


class Equipment(NamedTuple):
    """What shim and recorder share, made before anything is forked."""

    spool: Spool
    driver: Folder
    events: Folder
    board: Board
    outs: tuple[int, int]  # the pipes' ends: the command writes to ins, -1 where it has none
    ins: tuple[int, int]
    stage: tuple[int, int]
    look: tuple[int, int]
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
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    if most != resource.RLIM_INFINITY and most < BLOCK_BYTES:
        raise Trouble(
            f"no file may grow past {most:,} bytes here",
            f"give a hard limit (ulimit -H -f) of {BLOCK_BYTES:,} bytes or more",
        )
    outs, ins = [-1, -1], [-1, -1]
    for at in (0, 1):
        if is_there[at]:
            outs[at], ins[at] = os.pipe()
            os.set_blocking(outs[at], False)
            if pipe_bytes:
                kernel.set_pipe_size(outs[at], pipe_bytes)
    stage, look = os.pipe(), os.pipe()
    os.set_blocking(stage[0], False)
    driver.make()
    events.make()
    ends = (outs[0], outs[1]), (ins[0], ins[1])
    return Equipment(spool, driver, events, Board(), *ends, stage, look, limits)


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
        """Run the command, record it, end as it ended. Raises only before it was forked."""
        signals = take_signals(_ALL)
        try:
            rank = fork_rank(self._command, self._env, signals, self._equipment.ins, self._board)
        except BaseException:
            signals.give_back()
            raise
        supervisor = Supervisor(self._board, self._equipment.outs, self._fork_recorder)
        is_recorded = False
        try:
            is_recorded = self._prepare(rank, supervisor)
            if is_recorded:
                self._run_recorded(rank, supervisor, first_agent_look_s)
        except Exception as error:  # ours to find, not the command's to pay for
            place = self._equipment.spool.path
            say("recording failed, %r; what was recorded until then is in %s" % (error, place))
        finally:
            rank.release(is_recorded=False)
            end_like(self._see_out(rank, supervisor if is_recorded else None))

    def _run_recorded(self, rank: Rank, supervisor: Supervisor, first_agent_look_s: float) -> None:
        self._board[Field.STARTED_NS] = boot_ns()
        rank.release(is_recorded=True)
        self._close_inherited()
        self._starter.wait_until(time.monotonic() + first_agent_look_s)
        self._starter.look(time.monotonic())  # also for a command that has ended by now
        while rank.reap() is None:
            now = time.monotonic()
            wait_s = supervisor.look(now)
            self._starter.look(now)
            self._hear_signal(rank, wait_s)
        self._finish(rank, supervisor)

    def _see_out(self, rank: Rank, supervisor: Supervisor | None) -> int:
        """Be there for the command until it has ended, with as little as that takes."""
        while rank.reap() is None:
            wait_s = SUPERVISE_S
            try:
                if supervisor is not None:
                    wait_s = supervisor.look(time.monotonic())
            except Exception:
                pass  # tried again: while a recorder lives, it records
            self._hear_signal(rank, wait_s)
        status = self._note_end(rank)
        self._twin.end()
        return status

    def _prepare(self, rank: Rank, supervisor: Supervisor) -> bool:
        """Make the record ready; False, with a line, where that fails."""
        driver, events = self._equipment.driver, self._equipment.events
        self._about = {
            "pid": rank.pid,
            "command": [printable(word) for word in self._command],
            "cwd": printable(_cwd()),
        }
        try:
            leave_soft_limits()  # here only: the command keeps them
            for pipe in self._equipment.ins:
                if pipe >= 0:
                    os.close(pipe)
            for folder in (driver, events):
                folder.announce(folder.attributes._replace(pid=rank.pid))
            self._twin = fork_twin()
            supervisor.start(time.monotonic())
            return True
        except Exception as error:
            self._twin.end()
            driver.unmake()
            events.unmake()
            say("cannot record: %s; the command runs unrecorded" % error)
            return False

    def _hear_signal(self, rank: Rank, wait_s: float) -> None:
        found = kernel.sigtimedwait(_ALL, wait_s)
        if found is None or found.si_signo == signal.SIGCHLD:
            return
        if found.si_code == _SI_USER and found.si_pid == os.getpid():
            return  # ours: SIGPIPE and SIGXFSZ come to who wrote, ignored or not, if blocked
        time.sleep(TWIN_HEAD_START_S)
        if not self._twin.has_got(found.si_signo):
            rank.signal(found.si_signo)

    def _note_end(self, rank: Rank) -> int:
        status = rank.status or 0
        if not self._board[Field.ENDED_NS]:
            self._board[Field.WAIT_STATUS] = status
            self._board[Field.ENDED_NS] = boot_ns()
        return status

    def _finish(self, rank: Rank, supervisor: Supervisor) -> None:
        """Have the recorder write the process's end, and wait for that as long as it takes."""
        self._note_end(rank)
        supervisor.expect_answer()
        self._tell_recorder()
        started = now = time.monotonic()
        while supervisor.state is not State.DONE:
            wait_s = supervisor.look(now)
            if self._has_answer(min(wait_s, 0.05)):
                return
            now = time.monotonic()
            if now - started >= (END_S if supervisor.is_hopeless(now) else END_WITH_FAULTS_S):
                kit = self._equipment
                waiting = (kernel.bytes_waiting(p) for p in (*kit.outs, kit.stage[0]) if p >= 0)
                count = unmarked_bytes(self._board) + sum(waiting)
                text = "%d bytes and the end of the command are not in %s: no recorder answers, %s"
                say(text % (count, kit.spool.path, supervisor.why()))
                return

    def _has_answer(self, seconds: float) -> bool:
        if self._from_recorder < 0:
            time.sleep(seconds)
        elif is_readable(self._from_recorder, seconds):
            if os.read(self._from_recorder, 1):
                return True
            time.sleep(0.001)  # it is gone: the supervisor sees to that
        return False

    def _tell_recorder(self) -> None:
        try:
            os.write(self._to_recorder, b"E")
        except OSError:
            pass  # it died; its successor is told

    def _fork_recorder(self) -> int:
        for fd in (self._to_recorder, self._from_recorder):
            if fd >= 0:
                os.close(fd)
        self._to_recorder = self._from_recorder = -1
        made: list[int] = []
        try:
            for _ in range(2):
                made += os.pipe()
            wake_out, wake_in, done_out, done_in = made
            os.set_blocking(wake_out, False)
            for pipe in (wake_in, done_in):
                kernel.set_pipe_size(pipe, 4096)
            pid = os.fork()
        except OSError:
            for fd in made:
                os.close(fd)
            raise
        if pid == 0:
            try:
                self._record(wake_out, done_in)
            finally:
                os._exit(1)
        os.close(wake_out)
        os.close(done_in)
        self._to_recorder, self._from_recorder = wake_in, done_out
        if self._board[Field.ENDED_NS]:
            self._tell_recorder()
        return pid

    def _record(self, wake: int, done: int) -> None:
        """Be the recorder."""
        kit, board = self._equipment, self._board
        recorder = None
        try:
            close_all_but((*self._shared_fds(), wake, done))
            point_to_null((0, 1, 2))
            os.setsid()
            os.nice(NICE)
            leave_binding()
            os.chdir("/")
            driver = Segments(kit.driver, board[Field.LENGTH])
            events = Segments(kit.events, board[Field.EVENTS_LENGTH])
            room = Room(kit.limits, kit.spool.path, kit.driver.fd)
            ours = (kit.outs, kit.stage, kit.look, (wake, done), driver, events, room)
            recorder = Recorder(board, *ours, self._about)
            if board[Field.RECORDERS] > 1:
                last = describe(board[Field.LAST_DEATH])
                recorder.say("the recorder was started again after %s" % last)
            recorder.run()
        except Exception as error:  # a bug or a broken disk: the next recorder goes on
            board[Field.FAILED_ERRNO] = getattr(error, "errno", None) or 0
            if recorder is not None:
                recorder.say("the recorder failed: %r" % error)
            os._exit(1)
        os._exit(0)

    def _shared_fds(self) -> tuple[int, ...]:
        kit = self._equipment
        return (
            *kit.outs, *kit.stage, *kit.look, kit.spool.fd,
            kit.driver.fd, kit.driver.lock_fd, kit.events.fd, kit.events.lock_fd,
        )  # fmt: skip

    def _close_inherited(self) -> None:
        ours = (*self._shared_fds(), *self._twin.fds, self._to_recorder, self._from_recorder)
        close_all_but((2, *ours))
        point_to_null((0, 1))


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # removed under us
