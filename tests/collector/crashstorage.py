"""A storage that can lose power: it keeps what was synced, and of the rest whatever it likes.

Pages reach the medium in any order, lengths and names apart from them. ``PAGE`` is small, so
that few bytes make many pages.
"""

from __future__ import annotations

import random
from collections.abc import Collection

PAGE = 32


class _Inode:
    def __init__(self) -> None:
        self.content = bytearray()
        self.synced = b""

    def lose_power(self, choose: random.Random) -> None:
        old, new = self.synced, bytes(self.content)
        length = choose.choice([len(old), len(new), choose.randint(*sorted((len(old), len(new))))])
        pages = bytearray(length)
        for at in range(0, length, PAGE):
            source = (
                choose.choice([old, new]) if old[at : at + PAGE] != new[at : at + PAGE] else new
            )
            page = source[at : at + PAGE][: length - at]
            pages[at : at + len(page)] = page
        self.content, self.synced = pages, bytes(pages)


class Killed(BaseException):
    """The program ended in the middle of a step."""


class CrashStorage:
    """``Storage`` in memory. ``is_broken``: syncs fail; ``fuse``: so many changes, then death."""

    def __init__(self) -> None:
        self.is_broken = False
        self.fuse = -1
        self.changes = 0
        self._files: dict[str, _Inode] = {}
        self._links: dict[str, str] = {}
        self._durable: dict[str, _Inode] = {}
        self._durable_links: dict[str, str] = {}

    def lose_power(self, choose: random.Random) -> None:
        """Come back as after a loss of power."""
        for inode in {id(i): i for i in [*self._files.values(), *self._durable.values()]}.values():
            inode.lose_power(choose)
        for path, inode in self._files.items():
            if path not in self._durable and choose.random() < 0.5:
                self._durable[path] = inode
        self._files = dict(self._durable)
        for path, target in self._links.items():
            if choose.random() < 0.5:
                self._durable_links[path] = target
        self._links = dict(self._durable_links)
        self.is_broken = False

    def _burn(self) -> None:
        self.changes += 1
        if self.fuse == 0:
            raise Killed
        self.fuse -= 1

    def length(self, path: str) -> int | None:
        inode = self._files.get(path)
        return None if inode is None else len(inode.content)

    def read(self, path: str, start: int, size: int) -> bytes:
        if path not in self._files:
            raise FileNotFoundError(2, "no such file", path)
        return bytes(self._files[path].content[start : start + size])

    def write(self, path: str, offset: int, content: bytes | memoryview) -> None:
        self._burn()
        inode = self._files.setdefault(path, _Inode())
        if len(inode.content) < offset:
            inode.content.extend(bytes(offset - len(inode.content)))
        inode.content[offset : offset + len(content)] = content

    def set_length(self, path: str, length: int) -> None:
        self._burn()
        inode = self._files.setdefault(path, _Inode())
        del inode.content[length:]
        inode.content.extend(bytes(length - len(inode.content)))

    def sync(self, paths: Collection[str]) -> None:
        self._burn()
        if self.is_broken:
            raise OSError(5, "the medium fails")
        for path in paths:
            if path in self._files:
                self._files[path].synced = bytes(self._files[path].content)
        self._durable = dict(self._files)
        self._durable_links = dict(self._links)

    def replace(self, path: str, content: bytes) -> None:
        self._burn()
        inode = _Inode()
        inode.content, inode.synced = bytearray(content), bytes(content)
        self._files[path] = self._durable[path] = inode

    def link(self, path: str, target: str) -> None:
        self._burn()
        self._links[path] = target

    def files(self) -> dict[str, bytes]:
        """Return every file's content."""
        return {path: bytes(inode.content) for path, inode in self._files.items()}

    def links(self) -> dict[str, str]:
        """Return every link's target."""
        return dict(self._links)

    def remove(self, path: str) -> None:
        """Remove a file or link, as a person would."""
        for known in (self._files, self._durable, self._links, self._durable_links):
            known.pop(path, None)

    def names(self, folder: str) -> list[str]:
        start = folder + "/" if folder else ""
        inside = [p[len(start) :] for p in (*self._files, *self._links) if p.startswith(start)]
        return sorted({p.split("/", 1)[0] for p in inside})
