"""Room: whether the spool may grow.

Law
    * A stream keeps at most its limit on disk (what the agent removed does not count), a spool
      its limit, and a share of the disk stays free.
    * Looking costs something, so it is done seldom and only while bytes move: the limits may be
      passed by what moves in between.
    * Where there was no room there is none again until some is free to write on: a disk at the
      brink would stop the job for each block.
"""

from __future__ import annotations

import errno
import os

from logboom.format.spool import OWN, SEGMENT
from logboom.shim.descriptors import open_anew
from logboom.shim.settings import ROOM_CHECK_S, USE_CHECK_BYTES, USE_CHECK_S

NO_ROOM = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
_MARGIN_BYTES = 1024 * 1024
_MARGIN_SHARE = 64  # of a small disk


class Limits:
    """How much may lie in the spool."""

    def __init__(self, stream_bytes: int, spool_bytes: int, free_percent: int) -> None:
        self.stream_bytes = stream_bytes
        self.spool_bytes = spool_bytes
        self.free_percent = free_percent


class Room:
    """Looks after the limits for one stream."""

    def __init__(self, limits: Limits, spool_path: str, folder_fd: int) -> None:
        self._limits = limits
        self._spool_path = spool_path
        self._folder_fd = folder_fd
        self._disk_ns = 0
        self._use_ns = 0
        self._use_length = 0
        self._why = ""

    def move_to(self, folder_fd: int) -> None:
        """Look at another folder from now on."""
        self._folder_fd = folder_fd

    def why_none(self, now_ns: int, length: int) -> str:
        """Return why the stream, now of ``length``, may not grow; "" where it may."""
        if now_ns - self._disk_ns < ROOM_CHECK_S * 1e9:
            return self._why
        self._disk_ns = now_ns
        was_full = bool(self._why)
        why = full_disk(self._folder_fd, self._limits.free_percent, was_full)
        if not why:
            grown = length - self._use_length
            is_due = now_ns - self._use_ns >= USE_CHECK_S * 1e9
            if is_due and (was_full or grown >= USE_CHECK_BYTES):
                self._use_ns, self._use_length = now_ns, length
                why = self._overuse(was_full)
            elif was_full:
                why = self._why
        self._why = why
        return why

    def _overuse(self, was_full: bool) -> str:
        margin = _MARGIN_BYTES if was_full else 0
        limit = self._limits.stream_bytes
        if _use_of_stream(self._folder_fd) + min(margin, limit // _MARGIN_SHARE) >= limit:
            return f"spool full, this stream has its {limit:,} bytes"
        limit = self._limits.spool_bytes
        if _use(self._spool_path) + min(margin, limit // _MARGIN_SHARE) >= limit:
            return f"spool full, it has its {limit:,} bytes"
        return ""


def full_disk(fd: int, free_percent: int, was_full: bool = False) -> str:
    """Return why the disk of ``fd`` takes no more, or ""."""
    found = os.fstatvfs(fd)
    free = found.f_bavail * found.f_frsize
    total = found.f_blocks * found.f_frsize
    margin = min(_MARGIN_BYTES, total // _MARGIN_SHARE) if was_full else 0
    if free * 100 < total * free_percent + margin * 100:
        if free <= margin:
            return "spool full, no space left on the disk"
        return "spool full, less than %d %% of the disk is free" % free_percent
    return ""


def refusal(error: OSError) -> str:
    """Return why a disk took no more, for an error in ``NO_ROOM``."""
    if error.errno == errno.EFBIG:
        return "no file may grow any more here (ulimit -f)"
    return "spool full, %s" % os.strerror(error.errno or 0).lower()


def _use_of_stream(folder_fd: int) -> int:
    try:
        fd = open_anew(folder_fd)
    except OSError:
        return 0
    try:
        return _use(fd)
    finally:
        os.close(fd)


def _use(root: int | str) -> int:
    """Return how many bytes of disk the segments below a folder take."""
    total = 0
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                try:
                    if entry.name.endswith(SEGMENT):
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                    elif (
                        isinstance(root, str)
                        and entry.name != OWN
                        and entry.is_dir(follow_symlinks=False)
                    ):
                        total += _use(entry.path)
                except OSError:
                    pass  # the agent removed it meanwhile
    except OSError:
        pass
    return total
