"""Spans: which source wrote a stream's bytes, and when. One fixed-size record each.

Layout, 24 bytes, little-endian
    0   u8   record: version (high four bits, 1) and what it is (low four bits)
    1   u8   source, for a span; flags, for a piece; else 0
    2   u16  0
    4   u64  a
    12  u64  b
    20  u32  zlib.crc32 of bytes 0 to 19

    what    a                       b
    SPAN    offset of its first     node's CLOCK_BOOTTIME, ns      in spool, wire and collector
            byte
    PIECE   offset after its last   XXH3-64 of its raw bytes       collector only
            byte                    (0 with flag HOLE: no bytes
                                    are there)
    MARK    bytes of the data file  bytes of this file that were   collector only
            that were durable       durable

Law
    * A span has no length: bytes after the last span belong to it. Of two at one offset the
      later holds. A span is written *before* its bytes.
    * A reader of a living stream takes the length of the bytes **first**, then the spans, and
      leaves spans at or past that length for next time. A broken last record is waited for.
    * Pieces follow one another without a gap: a piece begins where the one before it ended. The
      spans of a piece stand before it.
    * A MARK states what was synced when it was written; it is true however the file ends.
    * A record of zeros is not a record.
"""

from __future__ import annotations

import enum
import struct
import zlib
from typing import Iterable, NamedTuple

from logboom.format.errors import BadFormat

RECORD_BYTES = 24
VERSION = 1
HOLE = 1
_BODY = struct.Struct("<BBHQQ")
_CRC = struct.Struct("<I")


class Source(enum.IntEnum):
    """Where bytes came from. ``LOST`` marks our own words about bytes that could not be kept."""

    STDOUT = 0
    STDERR = 1
    LOST = 2


class What(enum.IntEnum):
    """What a record is."""

    SPAN = 1
    PIECE = 2
    MARK = 3


class Span(NamedTuple):
    """The bytes from ``offset`` on came from ``source``; ``boot_ns`` is when they were read."""

    offset: int
    boot_ns: int
    source: Source


class Piece(NamedTuple):
    """Bytes up to ``end`` are there and have this XXH3-64; or, ``is_hole``, are not there."""

    end: int
    xxh3: int
    is_hole: bool = False


class Mark(NamedTuple):
    """These lengths, in bytes, of data file and spans file were durable."""

    data_length: int
    spans_length: int


def _encode(what: What, extra: int, a: int, b: int) -> bytes:
    body = _BODY.pack(VERSION << 4 | what, extra, 0, a, b)
    return body + _CRC.pack(zlib.crc32(body))


def encode_span(span: Span) -> bytes:
    """Return the 24 bytes of a span."""
    return _encode(What.SPAN, span.source, span.offset, span.boot_ns)


def encode_spans(spans: Iterable[Span]) -> bytes:
    """Return the records of ``spans``, one after another."""
    return b"".join(map(encode_span, spans))


def encode_piece(piece: Piece) -> bytes:
    """Return the 24 bytes of a piece."""
    return _encode(What.PIECE, HOLE if piece.is_hole else 0, piece.end, piece.xxh3)


def encode_mark(mark: Mark) -> bytes:
    """Return the 24 bytes of a commit mark."""
    return _encode(What.MARK, 0, mark.data_length, mark.spans_length)


def decode_record(content: bytes, at: int = 0) -> tuple[What, int, int, int] | None:
    """Return (what, source or flags, a, b) of the record at ``at``, or None if it is not whole."""
    end = at + RECORD_BYTES
    if end > len(content):
        return None
    body = content[at : end - _CRC.size]
    if zlib.crc32(body) != _CRC.unpack_from(content, end - _CRC.size)[0]:
        return None
    head, extra, zero, a, b = _BODY.unpack(body)
    if head >> 4 != VERSION or zero or head & 15 not in (1, 2, 3):
        return None
    what = What(head & 15)
    if what is What.SPAN and extra > Source.LOST:
        return None
    return what, extra, a, b


def decode_spans(content: bytes) -> tuple[list[Span], int]:
    """Return the spans at the beginning of ``content``, and how many of its bytes they take.

    Stops before the first record that is not a whole, sound span: of a living file that one is
    waited for, of a dead one it is cut.
    """
    spans: list[Span] = []
    at = 0
    while True:
        record = decode_record(content, at)
        if record is None or record[0] is not What.SPAN:
            return spans, at
        spans.append(Span(record[2], record[3], Source(record[1])))
        at += RECORD_BYTES


def decode_all_spans(content: bytes) -> list[Span]:
    """Return the spans that ``content`` is made of. Raises ``BadFormat`` if it holds else."""
    spans, taken = decode_spans(content)
    if taken != len(content):
        raise BadFormat("spans broken at byte %d of %d" % (taken, len(content)))
    return spans


def split_sources(spans: Iterable[Span], length: int) -> list[tuple[int, int, Source]]:
    """Return ``(start, end, source)`` ranges that cover ``[0, length)`` in order.

    Neighbours of one source are joined. Bytes before the first span count as stdout. Spans may
    repeat an offset: the later holds.
    """
    ranges: list[tuple[int, int, Source]] = []
    start, source = 0, Source.STDOUT
    for span in spans:
        if span.offset >= length:
            break
        if span.offset > start:
            _extend(ranges, start, span.offset, source)
            start = span.offset
        source = span.source
    if length > start:
        _extend(ranges, start, length, source)
    return ranges


def _extend(ranges: list[tuple[int, int, Source]], start: int, end: int, source: Source) -> None:
    if ranges and ranges[-1][1] == start and ranges[-1][2] is source:
        ranges[-1] = (ranges[-1][0], end, source)
    else:
        ranges.append((start, end, source))
