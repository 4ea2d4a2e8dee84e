"""A file that only grows, and how much of it is durable."""

from __future__ import annotations

from logboom.collector.storage import Storage


class AppendFile:
    """One file: ``length`` bytes were appended, the first ``durable`` of them were synced.

    A write that fails changes nothing here: the next one goes to the same place, after what the
    failed one left behind was cut.
    """

    def __init__(self, storage: Storage, path: str, length: int = 0) -> None:
        self.storage = storage
        self.path = path
        self.length = length
        self.durable = length
        self.is_ragged = False

    def append(self, content: bytes | memoryview) -> None:
        """Append ``content``. Raises ``OSError``."""
        self.trim()
        try:
            self.storage.write(self.path, self.length, content)
        except OSError:
            self.is_ragged = True
            raise
        self.length += len(content)

    def extend(self, length: int) -> None:
        """Leave a hole up to ``length``. Raises ``OSError``."""
        self.storage.set_length(self.path, length)
        self.length = length

    def trim(self) -> None:
        """Cut what a failed write may have left. Raises ``OSError``."""
        if self.is_ragged:
            self.storage.set_length(self.path, self.length)
            self.is_ragged = False

    def fall_back(self) -> None:
        """Forget all that is not durable, here and in the file. Raises ``OSError``."""
        self.length = self.durable
        self.is_ragged = True
        self.trim()
