"""A stored stream: the data file that people read, and its spans file that proves it.

Law
    * A piece is appended as its bytes, then its spans, then the PIECE record with the checksum of
      the bytes since the piece before. The first record after a commit is a MARK of the lengths
      that the commit made durable.
    * Opening is recovering: both files are cut after the last piece that is right, and synced,
      before anybody hears of an offset. What is right stays, acknowledged or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import xxhash

from logboom.collector.appendfile import AppendFile
from logboom.collector.recovery import sound_lengths
from logboom.collector.storage import Storage
from logboom.format.spans import Mark, Piece, encode_mark, encode_piece
from logboom.format.tree import spans_path
from logboom.wire.digest import Digester

_READ_BYTES = 4 << 20


class StoredStream:
    """A stream's two files. ``watchers`` are called when more of it is durable."""

    def __init__(self, storage: Storage, folder: str, path: str, stream_id: str) -> None:
        self.id = stream_id
        self.storage = storage
        self.data = AppendFile(storage, folder + "/" + path)
        self.spans = AppendFile(storage, folder + "/" + spans_path(path))
        self.files = (self.data, self.spans)
        self.watchers: set[Callable[[], None]] = set()
        self._digester: Digester | None = None
        self._is_mark_due = False

    @property
    def length(self) -> int:
        """How many bytes are here."""
        return self.data.length

    @property
    def durable(self) -> int:
        """How many bytes are durable."""
        return self.data.durable

    def recover(self) -> list[str]:
        """Cut both files to what is right. Return the paths to sync before an offset is answered.

        ``recovered`` is to be called after that sync.
        """
        mark = sound_lengths(self.storage, self.data.path, self.spans.path)
        for file, length in zip(self.files, (mark.data_length, mark.spans_length), strict=True):
            if (self.storage.length(file.path) or 0) != length:
                self.storage.set_length(file.path, length)
            file.length = length
            file.durable = 0
        return [file.path for file in self.files]

    def recovered(self) -> None:
        """Note that what ``recover`` left is durable."""
        for file in self.files:
            file.durable = file.length
        self._digester = None if self.length else Digester()
        self._is_mark_due = self.length > 0

    def append(self, content: bytes | memoryview, spans: bytes) -> None:
        """Append a piece. Raises ``OSError``, and has changed nothing then."""
        length = self.data.length
        self.data.append(content)
        piece = Piece(length + len(content), xxhash.xxh3_64_intdigest(content))
        self._record(spans + encode_piece(piece), length)
        if self._digester is not None:
            self._digester.update(content)

    def leave_hole(self, end: int) -> None:
        """Go on at ``end``: the bytes before it are not here. Raises ``OSError``."""
        length = self.data.length
        self.data.extend(end)
        self._record(encode_piece(Piece(end, 0, is_hole=True)), length)
        self._digester = None

    def _record(self, records: bytes, length: int) -> None:
        if self._is_mark_due:
            records = encode_mark(Mark(self.data.durable, self.spans.durable)) + records
        try:
            self.spans.append(records)
        except Exception:
            self.data.length = length
            self.data.is_ragged = True
            raise
        self._is_mark_due = False

    def settled(self) -> None:
        """Take note that more is durable."""
        self._is_mark_due = True
        for watcher in tuple(self.watchers):
            watcher()

    def is_same(self, offset: int, content: memoryview, holes: Iterable[tuple[int, int]]) -> bool:
        """Say whether ``content`` is what is here at ``offset``, outside of ``holes``."""
        here = self.storage.read(self.data.path, offset, len(content))
        if here == content:
            return True
        if len(here) != len(content):
            return False
        end = offset + len(content)
        at = offset
        for hole_start, hole_end in sorted(holes):
            stop = min(max(hole_start, at), end)
            if here[at - offset : stop - offset] != content[at - offset : stop - offset]:
                return False
            at = min(max(at, hole_end), end)
        return here[at - offset :] == content[at - offset :]

    def known_digest(self, length: int) -> bytes | None:
        """Return the digest of all bytes if it was kept while they came, and they are so many."""
        if self._digester is None or not self._digester.length == self.length == length:
            return None
        return self._digester.digest()

    def read_digest(self, length: int) -> bytes:
        """Return the digest of the first ``length`` bytes, read from the file (takes long)."""
        return file_digest(self.storage, self.data.path, length)


def file_digest(storage: Storage, path: str, length: int) -> bytes:
    """Return the digest of a file's first ``length`` bytes, or of fewer where it is shorter."""
    digester = Digester()
    while digester.length < length:
        size = min(_READ_BYTES, length - digester.length)
        content = storage.read(path, digester.length, size)
        if not content:
            break
        digester.update(content)
    return digester.digest()
