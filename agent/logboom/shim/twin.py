"""The twin: a child in the launcher's process group that blocks all signals and does nothing.

What the shim gets, the twin got too if it was sent to the group, or to each process of a step;
then the command has it already. Only what the shim alone got is passed on.
"""

from __future__ import annotations

import os
import signal
import struct
import time

from logboom.shim import kernel
from logboom.shim.descriptors import close_all_but, is_readable
from logboom.shim.settings import TWIN_ANSWER_S

_QUESTION = struct.Struct("<IB")
_ANSWER = struct.Struct("<I?")


class Twin:
    """The shim's side of its twin."""

    def __init__(self, pid: int, ask_fd: int, answer_fd: int) -> None:
        self.pid = pid
        self._ask_fd = ask_fd
        self._answer_fd = answer_fd
        self._asked = 0

    @property
    def fds(self) -> tuple[int, int]:
        """The descriptors that the shim keeps for it."""
        return self._ask_fd, self._answer_fd

    def has_got(self, number: int) -> bool:
        """Say whether the twin got this signal too; no, if it does not answer in time."""
        if self.pid == 0:
            return False
        self._asked += 1
        try:
            os.write(self._ask_fd, _QUESTION.pack(self._asked, number))
            until = time.monotonic() + TWIN_ANSWER_S
            while True:
                left = until - time.monotonic()
                if left <= 0 or not is_readable(self._answer_fd, left):
                    return False
                answer = os.read(self._answer_fd, _ANSWER.size)
                if len(answer) < _ANSWER.size:
                    self._forget()
                    return False
                asked, has_got = _ANSWER.unpack(answer)
                if asked == self._asked:
                    return bool(has_got)
        except OSError:
            self._forget()
            return False

    def end(self) -> None:
        """End and reap it."""
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # reaped by somebody else in this process
            self._forget()

    def _forget(self) -> None:
        pid, self.pid = self.pid, 0
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass


def fork_twin() -> Twin:
    """Fork the twin; the caller has blocked all signals."""
    question_out, ask = os.pipe()
    answer_out, answer = os.pipe()
    for pipe in (ask, answer):
        kernel.set_pipe_size(pipe, 4096)
    shim = os.getpid()
    pid = os.fork()  # where this fails, nothing is recorded and the descriptors do no harm
    if pid:
        os.close(question_out)
        os.close(answer)
        return Twin(pid, ask, answer_out)
    try:
        close_all_but((2, question_out, answer))
        _live(question_out, answer, shim)
    finally:
        os._exit(0)


def _live(question_fd: int, answer_fd: int, shim: int) -> None:
    try:
        kernel.die_with_parent(signal.SIGKILL)
    except OSError:
        pass  # the end of its questions ends it too
    if os.getppid() != shim:
        return
    while True:
        question = os.read(question_fd, _QUESTION.size)
        if len(question) < _QUESTION.size:
            return
        asked, number = _QUESTION.unpack(question)
        has_got = kernel.sigtimedwait([number], 0) is not None
        os.write(answer_fd, _ANSWER.pack(asked, has_got))
