"""Reading a stream's spans file: what is there, and up to where it is right.

Law
    * The last whole commit mark is true wherever it is found: up to the lengths that it states
      both files were synced. What follows is read forward from there and believed as far as
      every record is whole and every piece has its checksum.
    * Nothing is cut by looking: ``logboom verify`` uses this on living trees and copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import xxhash

from logboom.collector.storage import Storage
from logboom.format.spans import HOLE, RECORD_BYTES, Mark, What, decode_record

_CHUNK_BYTES = RECORD_BYTES * 4096
_READ_BYTES = 1 << 20
NOTHING = Mark(0, 0)


class CheckedPiece(NamedTuple):
    """A piece of a stored stream, the end of its record, and whether its bytes are right."""

    start: int
    end: int
    record_end: int
    is_hole: bool
    is_sound: bool


def find_mark(storage: Storage, spans_path: str) -> Mark:
    """Return the last commit mark of a spans file, or one of nothing."""
    length = storage.length(spans_path) or 0
    end = length - length % RECORD_BYTES
    while end > 0:
        start = max(0, end - _CHUNK_BYTES)
        content = storage.read(spans_path, start, end - start)
        for at in range(len(content) - RECORD_BYTES, -1, -RECORD_BYTES):
            if content[at] & 15 != What.MARK:
                continue
            record = decode_record(content, at)
            if record is not None and record[0] is What.MARK and record[3] <= start + at:
                return Mark(record[2], record[3])
        end = start
    return NOTHING


def read_pieces(
    storage: Storage, data_path: str, spans_path: str, mark: Mark = NOTHING
) -> Iterator[CheckedPiece]:
    """Yield the pieces after ``mark``, each checked, up to the first record that is not whole.

    A piece that does not begin where the one before ended is not a piece: reading stops there.
    """
    at, start = mark.spans_length, mark.data_length
    data_length = storage.length(data_path) or 0
    if storage.length(spans_path) is None:
        return
    while True:
        content = storage.read(spans_path, at, _CHUNK_BYTES)
        taken = 0
        while True:
            record = decode_record(content, taken)
            if record is None:
                break
            taken += RECORD_BYTES
            what, flags, end, checksum = record
            if what is not What.PIECE:
                continue
            if end <= start:
                return
            is_hole = bool(flags & HOLE)
            is_sound = end <= data_length and (
                is_hole or _checksum(storage, data_path, start, end) == checksum
            )
            yield CheckedPiece(start, end, at + taken, is_hole, is_sound)
            start = end
        if taken == 0 or len(content) < _CHUNK_BYTES or taken < len(content):
            return
        at += taken


def sound_lengths(storage: Storage, data_path: str, spans_path: str) -> Mark:
    """Return how much of both files is right and belongs together."""
    mark = find_mark(storage, spans_path)
    if mark.data_length > (storage.length(data_path) or 0):
        mark = NOTHING  # shorter than what was durable: a copy, or damage; believe checksums only
    for piece in read_pieces(storage, data_path, spans_path, mark):
        if not piece.is_sound:
            break
        mark = Mark(piece.end, piece.record_end)
    return mark


def _checksum(storage: Storage, path: str, start: int, end: int) -> int:
    hasher = xxhash.xxh3_64()
    for at in range(start, end, _READ_BYTES):
        hasher.update(storage.read(path, at, min(_READ_BYTES, end - at)))
    return hasher.intdigest()
