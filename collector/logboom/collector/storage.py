"""The seam between what is kept and where: the methods that recovery and commit stand on.

Paths are relative to the store's folder, with ``/``, made of names that were checked.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from logboom.format.errors import LogboomError


class LinkInTheWay(LogboomError):
    """A path of the tree leads through something that is no folder or no plain file."""


class Storage(Protocol):
    """Files in folders, of which only what was synced survives the loss of power.

    Every method raises ``OSError`` where the medium fails. Whatever was written is read back at
    once, by everybody. After a crash of this program all of it is still there; after a loss of
    power the bytes and lengths as of the last ``sync`` of a path are, and of what was written
    since any part, in any order. Methods may be called from several threads at once.
    """

    def length(self, path: str) -> int | None:
        """Return a file's length in bytes, or None where there is no such file."""
        ...

    def read(self, path: str, start: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``start`` on; fewer, or none, at the file's end."""
        ...

    def write(self, path: str, offset: int, content: bytes | memoryview) -> None:
        """Write all of ``content`` at ``offset``. Makes the file and its folders if missing."""
        ...

    def set_length(self, path: str, length: int) -> None:
        """Cut the file, or extend it with zeros. Makes the file and its folders if missing."""
        ...

    def sync(self, paths: Collection[str]) -> None:
        """Make durable what these files hold at this moment, and every new name so far.

        After an error none of it may be relied on, and nothing that was written since the last
        ``sync`` of a path: cut back, write again. Paths that do not exist are passed over.
        """
        ...

    def replace(self, path: str, content: bytes) -> None:
        """Give a small file this content, whole or not at all; durable on return."""
        ...

    def link(self, path: str, target: str) -> None:
        """Make ``path`` a symbolic link to ``target``, in place of the link that was there."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where there is no such folder."""
        ...
