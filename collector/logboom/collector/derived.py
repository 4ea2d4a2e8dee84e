"""A derived file on disk: opening it makes it repeat what the journal gives."""

from __future__ import annotations

from logboom.collector.appendfile import AppendFile
from logboom.collector.storage import Storage


class DerivedFile:
    """A file that repeats what a ``Derivation`` gave for it."""

    def __init__(self, storage: Storage, path: str) -> None:
        self.file = AppendFile(storage, path)
        self.files = (self.file,)
        self._storage = storage

    def recover(self, expected: bytes) -> None:
        """Cut what differs from ``expected`` and append what is missing. Raises ``OSError``."""
        path = self.file.path
        length = self._storage.length(path) or 0
        found = self._storage.read(path, 0, length) if length else b""
        same = _common(found, expected)
        keep = expected.rfind(b"\n", 0, same) + 1
        if keep != length:
            self._storage.set_length(path, keep)
        self.file.length = keep
        if keep < len(expected):
            self.file.append(expected[keep:])

    def settled(self) -> None:
        """Nobody waits for a derived file."""


def _common(one: bytes, other: bytes) -> int:
    """Return the length of the longest common prefix."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
