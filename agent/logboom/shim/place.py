"""Where the spool lies, and whether it may lie there.

Law
    * ``--spool``, ``LOGBOOM_SPOOL``, ``/var/spool/logboom`` if writable, else
      ``/var/tmp/logboom-<uid>``. Never ``$TMPDIR`` or ``/tmp``, which may go with the job.
    * A spool that is a link, or somebody else's, is refused: who owns it decides what becomes of
      our files. The exception is a folder with a set-gid group (a pod's ``fsGroup``), which job
      and sidecar share under different users.
    * On a network file system or in memory only where the user said so: ``splice`` and ``flock``
      are not what they are on a disk, or the bytes go with the machine.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from logboom.format.spool import OWN_SPOOL, SYSTEM_SPOOL
from logboom.shim import kernel
from logboom.shim.trouble import Trouble

_NOT_A_DISK = frozenset(
    [
        0x01021994,  # tmpfs
        0x858458F6,  # ramfs
        0x6969,  # NFS
        0x517B, 0xFE534D42, 0xFF534D42,  # SMB, SMB2, CIFS
        0x65735546,  # FUSE
        0x00C36400,  # Ceph
        0x0BD00BD0,  # Lustre
        0x47504653,  # GPFS
        0x19830326,  # BeeGFS
        0x5346414F,  # AFS
    ]
)  # fmt: skip


class Rights(NamedTuple):
    """The modes of what we make in a spool, whatever the umask."""

    file_mode: int
    folder_mode: int


PRIVATE = Rights(0o600, 0o700)
SHARED = Rights(0o660, 0o2770)


class Spool(NamedTuple):
    """A spool's root, open."""

    path: str
    fd: int
    rights: Rights


def open_spool(wanted: str) -> Spool:
    """Open (or make) the spool at ``wanted``, or at the default place if that is empty.

    Raises ``Trouble`` or ``OSError``.
    """
    if wanted:
        path = os.path.abspath(wanted)
        os.makedirs(path, 0o700, exist_ok=True)
        return _open(path)
    if os.path.isdir(SYSTEM_SPOOL) and os.access(SYSTEM_SPOOL, os.W_OK | os.X_OK):
        return _on_disk(_open(SYSTEM_SPOOL))
    path = OWN_SPOOL % os.geteuid()
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    return _on_disk(_open(path))


def _open(path: str) -> Spool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        if os.path.islink(path):
            raise Trouble("spool %s is a link" % path, "name the folder itself") from error
        raise
    return Spool(path, fd, check_owner(fd, path))


def check_owner(fd: int, path: str) -> Rights:
    """Return the rights of what is made in this folder. Raises ``Trouble`` if it is not ours."""
    found = os.fstat(fd)
    if found.st_mode & stat.S_ISGID and found.st_mode & stat.S_IWGRP:
        return SHARED
    if found.st_uid != os.geteuid():
        raise Trouble(
            "spool %s belongs to user %d" % (path, found.st_uid),
            "give --spool a folder of yours, or one with a set-gid group",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Trouble("spool %s can be written by others" % path, "take that right away")
    return PRIVATE


def _on_disk(spool: Spool) -> Spool:
    if kernel.file_system_type(spool.path) in _NOT_A_DISK:
        raise Trouble(
            "%s is in memory or on a network file system" % spool.path,
            "give --spool a folder on a local disk, or that one, to say that it is meant",
        )
    return spool
