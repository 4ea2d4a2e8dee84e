"""Starts an agent where none lives in the spool: in a session of its own, with nothing of ours.

The job hears nothing of it, whatever happens: the bytes lie in the spool, and the next agent
ships them.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sys
from typing import Mapping

from logboom.format.spool import AGENT_LOCK
from logboom.shim.descriptors import close_all_but, point_to_null
from logboom.shim.execution import restore_signals
from logboom.shim.place import Spool
from logboom.shim.settings import AGENT_CHECK_S, AGENT_PYTHON

_MOST_CHECKS_APART_S = 300.0  # where an agent cannot be started, trying costs the job's cores


class Starter:
    """Looks at the agent's lock now and then. Times are seconds of one steady clock."""

    def __init__(self, spool: Spool, collector: str, env: Mapping[bytes, bytes]) -> None:
        self._spool = spool
        self._collector = collector
        self._env = env
        self._next = 0.0
        self._apart_s = AGENT_CHECK_S
        self._has_started = False

    def look(self, now: float) -> None:
        """Start an agent if it is time to look and none is there."""
        if not self._collector or now < self._next:
            return
        is_free = not self._is_agent_there()
        if is_free:
            if self._has_started:
                self._apart_s = min(2 * self._apart_s, _MOST_CHECKS_APART_S)
            self._start()
        else:
            self._apart_s = AGENT_CHECK_S
        self._has_started = is_free
        self._next = now + self._apart_s

    def wait_until(self, when: float) -> None:
        """Look for the first time at ``when``."""
        self._next = when

    def _is_agent_there(self) -> bool:
        try:
            fd = os.open(AGENT_LOCK, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._spool.fd)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def _start(self) -> None:
        try:
            pid = os.fork()
        except OSError:
            return  # the next look tries again
        if pid:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass  # reaped by somebody else in this process
            return
        try:
            os.setsid()
            if os.fork() == 0:
                self._become()
        finally:
            os._exit(0)

    def _become(self) -> None:
        python = os.fsdecode(self._env.get(os.fsencode(AGENT_PYTHON), b"")) or sys.executable
        env = dict(self._env)
        if env.get(b"PYTHONPATH"):  # its entries may be relative to the job's folder
            entries = env[b"PYTHONPATH"].split(b":")
            env[b"PYTHONPATH"] = b":".join(map(absolute, entries))
        words = [
            python, "-m", "logboom.command", "agent", "--spool", self._spool.path,
            "--collector", self._collector, "--leave-when-idle",
        ]  # fmt: skip
        close_all_but(())
        point_to_null((0, 1, 2))
        os.chdir("/")
        leave_binding()
        for number in range(1, signal.NSIG):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                pass  # SIGKILL, SIGSTOP, and those that the C library keeps
        restore_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(python, words, env)


def absolute(path: bytes) -> bytes:
    """Return a path seen from the root, as far as there is a way to it."""
    try:
        return os.path.abspath(path) if path else path
    except OSError:
        return path  # the job's folder was removed: nobody finds it


def leave_binding() -> None:
    """Leave the rank's core binding for the whole cpuset, and its soft limits for the hard ones."""
    try:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    except OSError:
        pass
    leave_soft_limits()


def leave_soft_limits() -> None:
    """Leave the rank's soft limits for the hard ones: they are meant for what it does."""
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CPU):
        try:
            hard = resource.getrlimit(limit)[1]
            resource.setrlimit(limit, (hard, hard))
        except (OSError, ValueError):
            pass
