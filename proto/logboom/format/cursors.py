"""Cursors: how far a file that is made of several streams has come in each. One record each.

They lie where a stream's spans would: ``.logboom/spans/<path>``.

Layout, 32 bytes, little-endian
    0   u8   record: version (high four bits, 1) and what it is (low four bits)
    1   u8   0
    2   u16  0
    4   u32  stream: the number of the journal's line that placed it (0 for LIMIT)
    8   u64  source: the offset in the stream after what was taken
    16  u64  end: the offset in the file after it
    24  u32  0
    28  u32  zlib.crc32 of bytes 0 to 27

    LINES    from the record before (``end``) on, the file has whole lines of this stream, up to
             ``source``; the last of them is a part where the stream has no newline there
    LIMIT    the file has reached its limit; its last line says so; nothing follows

Law
    * A record is written after the file was synced up to its ``end``: it is true however the
      file ends. A file is cut to the ``end`` of its last sound record, and goes on there.
    * Streams, journal and these records together give the file, byte for byte.
"""

from __future__ import annotations

import enum
import struct
import zlib
from typing import NamedTuple

RECORD_BYTES = 32
VERSION = 1
_BODY = struct.Struct("<BBHIQQI")
_CRC = struct.Struct("<I")


class What(enum.IntEnum):
    """What a record is."""

    LINES = 1
    LIMIT = 2


class Cursor(NamedTuple):
    """Stream ``stream`` was taken up to ``source``; the file has ``end`` bytes then."""

    what: What
    stream: int
    source: int
    end: int


def encode_cursor(cursor: Cursor) -> bytes:
    """Return the record's 32 bytes."""
    body = _BODY.pack(VERSION << 4 | cursor.what, 0, 0, cursor.stream, cursor.source, cursor.end, 0)
    return body + _CRC.pack(zlib.crc32(body))


def decode_cursors(content: bytes, end: int = 0) -> list[Cursor]:
    """Return the records at the beginning of ``content``, up to the first that is not sound.

    ``end``: that of the record before. A record is sound if it is whole and ends no earlier.
    """
    found: list[Cursor] = []
    for at in range(0, len(content) - RECORD_BYTES + 1, RECORD_BYTES):
        body = content[at : at + RECORD_BYTES - _CRC.size]
        if zlib.crc32(body) != _CRC.unpack_from(content, at + len(body))[0]:
            break
        head, _, _, stream, source, here, _ = _BODY.unpack(body)
        if head >> 4 != VERSION or head & 15 not in (1, 2) or here < end:
            break
        end = here
        found.append(Cursor(What(head & 15), stream, source, here))
    return found
