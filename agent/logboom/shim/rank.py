"""The rank: the command, forked but held until everything is ready to record it.

Law
    * It dies with the shim (SIGKILL), as it would be gone if the launcher killed it directly.
    * It keeps everything it would have had without us, but that stdout and stderr are pipes.
    * Told so, it runs as if we were not there.
    * Its death by a signal is passed on by dying of that signal; our own core dump is switched off.
"""

from __future__ import annotations

import os
import resource
import signal
from typing import Mapping, NoReturn

from logboom.shim import kernel
from logboom.shim.board import Board, Field
from logboom.shim.execution import (
    FoundSignals,
    complain,
    execute,
    exit_status_of,
    restore_signals,
)

_RECORDED, _PLAINLY = b"R", b"P"
_UNKNOWN = 1 << 8  # a wait status: 1


class Rank:
    """The command's process, from its fork to its end. Nothing here raises once it runs."""

    def __init__(self, pid: int, go_fd: int) -> None:
        self.pid = pid
        self.status: int | None = None  # wait status, once it has ended
        self._go_fd = go_fd

    def release(self, is_recorded: bool) -> None:
        """Let it become the command; once, whoever asks again."""
        if self._go_fd < 0:
            return
        try:
            os.write(self._go_fd, _RECORDED if is_recorded else _PLAINLY)
        except OSError:
            pass  # killed while it was held: its status tells
        os.close(self._go_fd)
        self._go_fd = -1

    def signal(self, number: int) -> None:
        """Pass a signal on. It must not have been reaped."""
        try:
            os.kill(self.pid, number)
        except OSError:
            pass  # it has another user (a set-uid program), as it would have without us

    def reap(self) -> int | None:
        """Return its wait status if it has ended."""
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, _UNKNOWN  # reaped by somebody else in this process
            if pid:
                self.status = status
        return self.status


def fork_rank(
    command: list[str],
    env: Mapping[bytes, bytes],
    signals: FoundSignals,
    pipes: tuple[int, int],
    board: Board,
) -> Rank:
    """Fork the command and hold it. ``pipes``: where stdout and stderr go, -1 to leave one."""
    ready, go = os.pipe()
    shim = os.getpid()
    pid = os.fork()
    if pid:
        os.close(ready)
        return Rank(pid, go)
    try:
        os.close(go)
        _become(command, env, signals, pipes, board, ready, shim)
    finally:
        os._exit(126)


def _become(
    command: list[str],
    env: Mapping[bytes, bytes],
    signals: FoundSignals,
    pipes: tuple[int, int],
    board: Board,
    ready: int,
    shim: int,
) -> NoReturn:
    try:
        kernel.die_with_parent(signal.SIGKILL)
    except OSError:
        pass  # where that is forbidden, the command outlives a killed shim
    if os.getppid() != shim:
        os._exit(1)
    word = os.read(ready, 1)
    if not word:
        os._exit(1)  # the shim is gone
    complaints = os.dup(2)
    if word == _RECORDED:
        for number, pipe in zip((1, 2), pipes):
            if pipe >= 0:
                os.dup2(pipe, number)
    restore_signals()
    signals.give_back()
    failure = execute(command, env)
    board[Field.EXEC_ERRNO] = failure.errno or 0
    complain(complaints, command, failure)
    os._exit(exit_status_of(failure))


def end_like(status: int) -> NoReturn:
    """End this process as the wait status says another one ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            _, hard = resource.getrlimit(resource.RLIMIT_CORE)
            resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
            kernel.dump_no_core()  # a program that collects cores heeds no limit
        except (OSError, ValueError):
            pass  # a second core is no reason to end otherwise
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass  # SIGKILL has no other
        os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os._exit(128 + number)  # only as PID 1, which a signal cannot end
    os._exit(os.WEXITSTATUS(status))
