"""The few system calls that Python 3.8 has no name for, by ctypes.

Each raises ``OSError`` as its namesake in ``os`` would.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import termios

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

NONBLOCK = 2  # SPLICE_F_NONBLOCK
_PR_SET_PDEATHSIG = 1
_F_SETPIPE_SZ = 1031


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


def file_system_type(path: str) -> int:
    """Return the magic number of the file system of ``path`` (statfs, ``f_type``)."""
    buffer = (ctypes.c_long * 64)()
    _check(int(_statfs(os.fsencode(path), ctypes.byref(buffer))))
    return int(buffer[0]) & 0xFFFFFFFF
