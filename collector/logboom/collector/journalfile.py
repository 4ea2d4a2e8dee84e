"""A run's journal on disk.

Law: opened by cutting at the first unsound line, and synced. What is cut and is more than one
unfinished line is kept beside it, for a person to see.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from logboom.collector.appendfile import AppendFile
from logboom.collector.storage import Storage
from logboom.format.journal import Line, decode_line, decode_lines, encode_line

CUT_SUFFIX = ".cut"


class JournalFile:
    """The journal of one run. ``take_durable`` gives each line once, when it is durable."""

    def __init__(self, storage: Storage, path: str) -> None:
        self.file = AppendFile(storage, path)
        self.files = (self.file,)
        self._storage = storage
        self._count = 0
        self._waiting: deque[tuple[int, Line]] = deque()

    def recover(self) -> list[Line]:
        """Cut the file to its sound lines, sync it, and return them. Raises ``OSError``."""
        path = self.file.path
        length = self._storage.length(path) or 0
        content = self._storage.read(path, 0, length) if length else b""
        lines, sound = decode_lines(content)
        if b"\n" in content[sound:]:
            self._storage.replace(path + CUT_SUFFIX, content[sound:])
        if sound != length:
            self._storage.set_length(path, sound)
        self._storage.sync([path])
        self.file.length = self.file.durable = sound
        self._count = len(lines)
        return lines

    def append(self, what: str, **fields: Any) -> Line:
        """Append a line and return it. Raises ``OSError``, and has changed nothing then."""
        content = encode_line(self._count, what, fields)
        line = decode_line(content[:-1], self._count)
        if line is None:
            raise AssertionError(f"journal line {content!r} cannot be read back")
        self.file.append(content)
        self._count += 1
        self._waiting.append((self.file.length, line))
        return line

    def take_durable(self) -> list[Line]:
        """Return the lines that became durable since the last call."""
        lines = []
        while self._waiting and self._waiting[0][0] <= self.file.durable:
            lines.append(self._waiting.popleft()[1])
        return lines
