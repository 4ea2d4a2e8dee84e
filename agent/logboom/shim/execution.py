"""Execution: become the command as a launcher would have started it.

Law
    * The command finds signals as we found them, but two. Python ignores SIGPIPE and SIGXFSZ
      before we run, so that nobody can tell whether they were ignored before: the command gets
      their defaults. SIGINT, which Python catches, goes back to its default if it was not ignored.
    * The environment is the one we got. Python's own addition (LC_CTYPE in a C locale) is
      taken out again.
    * 127 where the command was not found, 126 where it could not be run, as a shell has it.
    * The standard modules used here are few: the command runs even where others are broken.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import Iterable, Mapping, NamedTuple

SIGNALS_OF_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class FoundSignals(NamedTuple):
    """How we found what we change of signals."""

    mask: frozenset[int]
    is_sigchld_ignored: bool

    def give_back(self) -> None:
        """Have it again as we found it."""
        if self.is_sigchld_ignored:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)


def take_signals(blocked: Iterable[int]) -> FoundSignals:
    """Block signals, and have the kernel keep our children for us to reap."""
    found = FoundSignals(
        frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, blocked)),
        signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN,
    )
    if found.is_sigchld_ignored:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return found


def restore_signals() -> None:
    """Give the dispositions back that Python changed."""
    for number in SIGNALS_OF_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def inherited_environment() -> dict[bytes, bytes]:
    """Return the environment as we got it."""
    env = dict(os.environb)
    try:
        with open("/proc/self/environ", "rb") as file:
            given = file.read()
    except OSError:
        return env
    if b"LC_CTYPE" in env and b"\0LC_CTYPE=" not in b"\0" + given:
        del env[b"LC_CTYPE"]
    return env


def execute(command: list[str], env: Mapping[bytes, bytes]) -> OSError:
    """Become ``command``. Returns only where that fails, with the reason."""
    name = os.fsencode(command[0])
    words: list[bytes] = [os.fsencode(word) for word in command]
    if b"/" in name:
        candidates = [name]
    else:
        path = env.get(b"PATH", os.fsencode(os.defpath))
        candidates = [os.path.join(folder or b".", name) for folder in path.split(b":")]
    failure = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for candidate in candidates if name else []:
        try:
            os.execve(candidate, words, env)
        except OSError as error:
            if error.errno == errno.ENOEXEC:  # a script without a first line, as execvp(3) does
                shell = b"/bin/sh"
                try:
                    os.execve(shell, [shell, candidate, *words[1:]], env)
                except OSError as of_shell:
                    return of_shell
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                return error
            if error.errno == errno.EACCES or failure.errno == errno.ENOENT:
                failure = error
        except ValueError:
            return OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # NUL in a word
    return failure


def exit_status_of(failure: OSError) -> int:
    """Return the exit status for a command that could not be run."""
    return 127 if failure.errno in (errno.ENOENT, errno.ENOTDIR) else 126


def complain(fd: int, command: list[str], failure: OSError) -> None:
    """Say on ``fd`` that the command could not be run, in the words of a shell."""
    text = "logboom-exec: %s: %s\n" % (command[0], os.strerror(failure.errno or 0))
    try:
        os.write(fd, text.encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # nobody there to read it
