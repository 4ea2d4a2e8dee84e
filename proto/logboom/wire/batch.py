"""Batches: many pieces of many streams, compressed in one running zstd frame a connection.

Lines of a training log are short: a frame each costs more than it saves, one running context
over the connection does not. Every batch is flushed, so that it decompresses alone, in order,
to exactly the size it declares; a batch that would give more, or less, is refused before more
memory is taken than was declared. Nothing is kept from one batch to the next but the running
window: compressed bytes that a batch has no use for are refused too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import IO, cast

import xxhash
import zstandard

from logboom.format.errors import BadFormat
from logboom.wire.v1 import logboom_pb2 as pb

LEVEL = 1  # ratio 0.69 on short lines already; higher levels cost the job's cores
_WINDOW_BYTES = 8 << 20  # no frame may ask for more; level 1 asks for 512 KiB
_HEAD = struct.Struct("<IQI")


def piece_checksum(number: int, offset: int, spans: bytes, raw: bytes | memoryview) -> int:
    """Return the XXH3-64 that a Piece carries."""
    hasher = xxhash.xxh3_64(_HEAD.pack(number, offset, len(raw)))
    hasher.update(spans)
    hasher.update(raw)
    return hasher.intdigest()


class BatchWriter:
    """The sending side of a connection's batches."""

    def __init__(self) -> None:
        self._compress = zstandard.ZstdCompressor(level=LEVEL).compressobj()

    def encode(self, pieces: Iterable[tuple[int, int, bytes, bytes]]) -> pb.Batch:
        """Return a Batch of ``(stream number, offset, spans, raw bytes)`` pieces."""
        batch = pb.Batch()
        out = []
        for number, offset, spans, raw in pieces:
            xxh3 = piece_checksum(number, offset, spans, raw)
            batch.pieces.add(number=number, offset=offset, length=len(raw), xxh3=xxh3, spans=spans)
            out.append(self._compress.compress(raw))
            batch.raw_length += len(raw)
        out.append(self._compress.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        batch.compressed = b"".join(out)
        return batch


class _Source:
    """Feeds a stream reader what has arrived, and no more."""

    def __init__(self) -> None:
        self.waiting = b""

    def read(self, size: int = -1) -> bytes:
        taken, self.waiting = self.waiting, b""
        return taken


class BatchReader:
    """The receiving side of a connection's batches.

    After a ``BadFormat`` the running frame is lost: the connection must end.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._source = _Source()
        self._reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).stream_reader(
            cast(IO[bytes], self._source)
        )

    def decode(self, batch: pb.Batch) -> Iterator[tuple[pb.Piece, memoryview]]:
        """Yield each piece with its raw bytes, checked. Raises ``BadFormat``.

        Never makes more than the declared bytes, whatever the compressed ones would give: what
        is over stays in the frame and shows as a wrong checksum of the next batch.
        """
        declared = batch.raw_length
        if declared > self._limit_bytes or sum(p.length for p in batch.pieces) != declared:
            raise BadFormat(f"batch declares {declared} bytes, its pieces or the limit say else")
        size = len(batch.compressed)
        most = declared + declared // 128 + 1024 if declared else 0  # what does not compress
        if size > most or self._source.waiting:
            raise BadFormat(f"batch of {declared} bytes has compressed bytes that it cannot need")
        self._source.waiting = batch.compressed
        try:
            raw = memoryview(self._reader.read(declared) if declared else b"")
        except zstandard.ZstdError as error:
            raise BadFormat(f"batch cannot be decompressed: {error}") from error
        if len(raw) != declared:
            raise BadFormat(f"batch of {len(raw)} bytes declares {declared}")
        at = 0
        for piece in batch.pieces:
            content = raw[at : at + piece.length]
            at += piece.length
            if piece_checksum(piece.number, piece.offset, piece.spans, content) != piece.xxh3:
                raise BadFormat(f"piece at {piece.offset} does not have its checksum")
            yield piece, content
