"""A stream's folder, held by descriptor: the agent may rename it under us, and it stays ours."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Callable

from logboom.format.spool import RUNS, STREAM_JSON, STREAM_LOCK, folder_name
from logboom.format.stream import StreamAttributes, encode_attributes
from logboom.shim.descriptors import open_anew
from logboom.shim.place import Rights, Spool, check_owner, open_spool

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Folder:
    """One stream's folder with its lock. Made by the shim, inherited by its recorders."""

    def __init__(self, spool: Spool, attributes: StreamAttributes) -> None:
        self.attributes = attributes
        self.fd = -1
        self.lock_fd = -1
        self._spool = spool
        self._rights = spool.rights

    def make(self) -> None:
        """Make the folder and take its lock; it is no stream before ``announce``."""
        fd = self._spool.fd
        names = (RUNS, self.attributes.run_id, folder_name(self.attributes))
        opened = []
        try:
            for name in names:
                fd = _enter(fd, name, self._spool)
                opened.append(fd)
        finally:
            for passed in opened[: len(opened) - (len(opened) == len(names))]:
                os.close(passed)
        self.fd = fd
        self.lock_fd = self.open(STREAM_LOCK, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def announce(self, attributes: StreamAttributes) -> None:
        """Write ``stream.json``: from here on it is a stream."""
        self.attributes = attributes
        self.put(STREAM_JSON, encode_attributes(attributes))

    def unmake(self) -> None:
        """Remove what ``make`` made, as far as it goes: the command runs unrecorded."""
        run = "%s/%s" % (RUNS, self.attributes.run_id)
        stream = "%s/%s" % (run, folder_name(self.attributes))
        for name in (STREAM_JSON, STREAM_JSON + ".tmp", STREAM_LOCK):
            _try_to(os.unlink, "%s/%s" % (stream, name), self._spool.fd)
        _try_to(os.rmdir, stream, self._spool.fd)
        _try_to(os.rmdir, run, self._spool.fd)  # unless another stream is in it

    def has_vanished(self) -> bool:
        """Say whether somebody removed the folder (renaming it is no removal)."""
        return os.fstat(self.fd).st_nlink == 0

    def make_again(self) -> None:
        """Make a folder that vanished anew: for the one writer that lives."""
        if os.fstat(self._spool.fd).st_nlink == 0:  # the whole spool was removed
            again = open_spool(self._spool.path)
            os.dup2(again.fd, self._spool.fd, inheritable=False)
            os.close(again.fd)
        for fd in (self.fd, self.lock_fd):
            os.close(fd)
        self.make()
        self.announce(self.attributes)

    def open(self, name: str, flags: int) -> int:
        """Open a file of the folder, with the spool's rights if it is new."""
        fd = os.open(name, flags | os.O_NOFOLLOW, self._rights.file_mode, dir_fd=self.fd)
        if flags & os.O_CREAT:
            _set_mode(fd, self._rights)
        return fd

    def put(self, name: str, content: bytes) -> None:
        """Write a whole small file: it is there with all of its content, or not at all."""
        passing = name + ".tmp"
        fd = self.open(passing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            written = os.write(fd, content)
        finally:
            os.close(fd)
        if written != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.rename(passing, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def offsets(self, parse: Callable[[str], int | None]) -> list[int]:
        """Return the offsets that ``parse`` finds in the names of the folder, in order."""
        found = (parse(name) for name in self._names())
        return sorted(offset for offset in found if offset is not None)

    def _names(self) -> list[str]:
        fd = open_anew(self.fd)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)


def _try_to(remove: Callable[..., None], path: str, folder_fd: int) -> None:
    try:
        remove(path, dir_fd=folder_fd)
    except OSError:
        pass  # not there, or not ours to remove; a folder without stream.json is not a stream


def _set_mode(fd: int, rights: Rights) -> None:
    try:
        os.fchmod(fd, rights.file_mode)
    except PermissionError:
        pass  # there already, and another user's of the group


def _enter(parent: int, name: str, spool: Spool) -> int:
    for _ in range(3):  # it may vanish between the two: the agent removes empty run folders
        try:
            os.mkdir(name, spool.rights.folder_mode, dir_fd=parent)
            is_new = True
        except FileExistsError:
            is_new = False
        try:
            fd = os.open(name, _FOLDER, dir_fd=parent)
        except FileNotFoundError:
            continue
        if is_new:
            os.fchmod(fd, spool.rights.folder_mode)
        else:
            check_owner(fd, os.path.join(spool.path, name))
        return fd
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
