"""The data folder: made, probed, locked by one collector, and its own small files.

Law
    * ``.logboom/lock`` is held (flock) while a collector lives, and holds its process id. Neither
      of the two may be a link: it would be another folder that is locked, or written.
    * ``.logboom/store.json`` has the store's random id: who sees another id sees another store.
    * ``.logboom/nodes.json`` says which spool has which node id. Two spools under one node id are
      two nodes: the second is ``<id>-2``, today and tomorrow.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from logboom.collector.storage import Storage
from logboom.format.errors import LogboomError
from logboom.format.ids import check_id, check_name
from logboom.format.tree import OURS

STORE_JSON = OURS + "/store.json"
NODES_JSON = OURS + "/nodes.json"
_PROBE = "probe-%d"


class BadFolder(LogboomError):
    """The data folder cannot be what a collector needs."""


@contextmanager
def owned(root: Path) -> Iterator[None]:
    """Make the data folder if it is missing, probe it, and own it. Raises ``BadFolder``."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            (root / OURS).mkdir()
        flags = os.O_CLOEXEC | os.O_NOFOLLOW
        folder = os.open(root / OURS, os.O_RDONLY | os.O_DIRECTORY | flags)
        try:
            descriptor = os.open("lock", os.O_RDWR | os.O_CREAT | flags, 0o644, dir_fd=folder)
        except OSError:
            os.close(folder)
            raise
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        _lock(root, descriptor)
        _probe(root, folder)
        yield
    finally:
        os.close(descriptor)
        os.close(folder)


def _lock(root: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        raise BadFolder(
            f"data folder {root} belongs to the collector with process id {holder or 'unknown'}",
            "end that one, or name another folder",
        ) from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except OSError as error:
        raise _unwritable(root, error) from error


def _probe(root: Path, folder: int) -> None:
    link = _PROBE % os.getpid()
    try:
        with suppress(FileNotFoundError):
            os.unlink(link, dir_fd=folder)
        try:
            os.symlink("nowhere", link, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise BadFolder(
                    f"data folder {root} is on a file system without symbolic links",
                    "name a folder on one that has them",
                ) from error
            raise
        os.unlink(link, dir_fd=folder)
    except OSError as error:
        raise _unwritable(root, error) from error


def _unwritable(root: Path, error: OSError) -> BadFolder:
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
        return BadFolder(
            f"{root / OURS}, or the lock in it, is a link or something else in their place",
            "remove it, or name another folder",
        )
    return BadFolder(
        f"data folder {root} cannot be written: {error.strerror}",
        "name one that this user may write",
    )


def store_id(storage: Storage, random: bytes) -> str:
    """Return the store's id, made of 16 ``random`` bytes where it has none yet."""
    try:
        content = storage.read(STORE_JSON, 0, 4096)
        return check_id("store", json.loads(content)["store_id"])
    except FileNotFoundError:
        made = random.hex()
        storage.replace(STORE_JSON, json.dumps({"version": 1, "store_id": made}).encode() + b"\n")
        return made
    except (ValueError, KeyError, TypeError) as error:
        raise BadFolder(f"{STORE_JSON} in the data folder cannot be read: {error}") from error


class Nodes:
    """The node ids that were granted, by spool."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._spool_of: dict[str, str] = {}

    def load(self) -> None:
        """Read what was granted before. Raises ``BadFolder``."""
        length = self._storage.length(NODES_JSON)
        if not length:
            return
        try:
            granted = json.loads(self._storage.read(NODES_JSON, 0, length))["spools"]
            self._spool_of = {check_name("node id", k): str(v) for k, v in granted.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFolder(f"{NODES_JSON} in the data folder cannot be read: {error}") from error

    def grant(self, node_id: str, spool_id: str) -> str:
        """Return the node id of a spool that asks for ``node_id``; durable on return."""
        granted, number = node_id, 1
        while self._spool_of.get(granted, spool_id) != spool_id:
            number += 1
            tail = f"-{number}"
            granted = node_id[: 128 - len(tail)].rstrip(".") + tail
        if granted not in self._spool_of:
            content = {"version": 1, "spools": self._spool_of | {granted: spool_id}}
            self._storage.replace(NODES_JSON, json.dumps(content, indent=1).encode() + b"\n")
            self._spool_of[granted] = spool_id
        return granted
