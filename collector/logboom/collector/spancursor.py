"""Finding spans in a stored stream's spans file, for who reads the stream from some place on."""

from __future__ import annotations

from logboom.collector.storage import Storage
from logboom.format.spans import RECORD_BYTES, What, decode_record

_CHUNK_BYTES = 256 << 10


class SpanCursor:
    """Finds the spans of ranges that follow one another in a stream's spans file."""

    def __init__(self, storage: Storage, path: str) -> None:
        self._storage = storage
        self._path = path
        self._at = 0
        self._last = b""

    def up_to(self, start: int, end: int) -> bytes:
        """Return the records of ``[start, end)``; the first is the one that holds at ``start``."""
        found: list[bytes] = []
        while True:
            length = self._storage.length(self._path) or 0
            size = min(_CHUNK_BYTES // RECORD_BYTES * RECORD_BYTES, length - self._at)
            content = self._storage.read(self._path, self._at, size) if size > 0 else b""
            for at in range(0, len(content) - RECORD_BYTES + 1, RECORD_BYTES):
                record = decode_record(content, at)
                if record is not None and record[0] is What.SPAN:
                    if record[2] >= end:
                        return self._give(found)
                    if record[2] <= start:
                        found = []
                        self._last = b""
                    found.append(content[at : at + RECORD_BYTES])
                elif record is None:
                    return self._give(found)
                self._at += RECORD_BYTES
            if len(content) < RECORD_BYTES:
                return self._give(found)

    def _give(self, found: list[bytes]) -> bytes:
        given = self._last + b"".join(found)
        if found:
            self._last = found[-1]
        return given
