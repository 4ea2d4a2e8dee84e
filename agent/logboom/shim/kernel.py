"""The few system calls that Python 3.8 has no name for, or a wrong one, by ctypes.

Each raises ``OSError`` as its namesake in ``os`` would.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import termios
from typing import Iterable, NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)

_splice = _libc.splice
_splice.restype = ctypes.c_ssize_t
_splice.argtypes = [
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_uint,
]
_tee = _libc.tee
_tee.restype = ctypes.c_ssize_t
_tee.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint]
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
_statfs = _libc.statfs
_statfs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
_sigtimedwait = _libc.sigtimedwait
_sigtimedwait.argtypes = [ctypes.c_void_p] * 3

NONBLOCK = 2  # SPLICE_F_NONBLOCK
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_F_SETPIPE_SZ = 1031
_F_GETPIPE_SZ = 1032


def _check(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def splice_to_pipe(source: int, pipe: int, length: int) -> int:
    """Move up to ``length`` bytes from pipe to pipe without waiting; 0 is the source's end."""
    return _check(int(_splice(source, None, pipe, None, length, NONBLOCK)))


def splice_to_file(pipe: int, file: int, offset: int, length: int) -> int:
    """Move up to ``length`` bytes of a pipe to ``offset`` of a file.

    The pipe gives up exactly what the file has taken, whatever interrupts it.
    """
    at = ctypes.c_longlong(offset)
    return _check(int(_splice(pipe, None, file, ctypes.byref(at), length, NONBLOCK)))


def tee(source: int, pipe: int, length: int) -> int:
    """Copy up to ``length`` bytes from pipe to pipe; the source keeps them."""
    return _check(int(_tee(source, pipe, length, NONBLOCK)))


def die_with_parent(signal: int) -> None:
    """Have the kernel send this process ``signal`` when the thread that forked it ends."""
    _check(int(_prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0)))


def dump_no_core() -> None:
    """Have this process leave no core, neither as a file nor to a program that collects them."""
    _check(int(_prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)))


class SignalInfo(NamedTuple):
    """What the kernel says of a signal, under the kernel's names."""

    si_signo: int
    si_code: int
    si_pid: int  # of who sent it, where si_code says that a process did


def sigtimedwait(signals: Iterable[int], seconds: float) -> SignalInfo | None:
    """Take one of ``signals``, blocked by the caller; None where none came, or it was interrupted.

    That of ``signal`` returns memory that nobody wrote when SIGCONT interrupts it and its time
    has passed meanwhile.
    """
    wanted = (ctypes.c_ulong * 128)()
    _libc.sigemptyset(wanted)
    for number in signals:
        _libc.sigaddset(wanted, number)
    info = (ctypes.c_int * 64)()
    timeout = (ctypes.c_long * 2)(int(seconds), int(seconds % 1 * 1e9))
    try:
        _check(int(_sigtimedwait(wanted, info, timeout)))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EINTR):
            return None
        raise
    # After three ints comes a union, which is aligned as a pointer is.
    return SignalInfo(info[0], info[2], info[4 if ctypes.sizeof(ctypes.c_void_p) == 8 else 3])


def bytes_waiting(pipe: int) -> int:
    """Return how many bytes are in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def set_pipe_size(pipe: int, size: int) -> None:
    """Ask for a size of a pipe; a refusal leaves it as it is."""
    try:
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, size)
    except OSError:
        pass  # beyond the user's pipe budget


def pipe_size(pipe: int) -> int:
    """Return how many bytes a pipe holds."""
    return fcntl.fcntl(pipe, _F_GETPIPE_SZ)


def file_system_type(path: str) -> int:
    """Return the magic number of the file system of ``path`` (statfs, ``f_type``)."""
    buffer = (ctypes.c_long * 64)()
    _check(int(_statfs(os.fsencode(path), ctypes.byref(buffer))))
    return int(buffer[0]) & 0xFFFFFFFF
