"""Batches and digests: what arrives is what was sent, or the connection ends."""

from __future__ import annotations

import random

import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from logboom.format.errors import BadFormat
from logboom.format.spool import BLOCK_BYTES
from logboom.format.stream import Kind, StreamAttributes
from logboom.wire.batch import BatchReader, BatchWriter
from logboom.wire.convert import attributes_from_message, attributes_to_message
from logboom.wire.digest import Digester, block_hash, stream_digest
from logboom.wire.v1 import logboom_pb2 as pb

PIECE = st.tuples(
    st.integers(1, 9), st.integers(0, 2**40), st.binary(max_size=48), st.binary(max_size=3000)
)


@settings(deadline=None)
@given(st.lists(st.lists(PIECE, max_size=6), max_size=8))
def test_a_running_context_gives_back_every_batch(
    batches: list[list[tuple[int, int, bytes, bytes]]],
) -> None:
    writer, reader = BatchWriter(), BatchReader(1 << 20)
    for pieces in batches:
        message = pb.Batch.FromString(writer.encode(pieces).SerializeToString())
        found = [(p.number, p.offset, p.spans, bytes(raw)) for p, raw in reader.decode(message)]
        assert found == pieces


def test_a_changed_piece_is_refused() -> None:
    for change in ("offset", "number", "spans"):
        batch = BatchWriter().encode([(1, 0, b"s" * 24, b"payload")])
        if change == "spans":
            batch.pieces[0].spans = b"t" * 24
        else:
            setattr(batch.pieces[0], change, 7)
        with pytest.raises(BadFormat, match="checksum"):
            list(BatchReader(100).decode(batch))


def test_a_batch_never_gives_more_than_it_declares() -> None:
    batch = BatchWriter().encode([(1, 0, b"", bytes(50_000_000))])
    with pytest.raises(BadFormat, match="limit"):
        list(BatchReader(2_000_000).decode(batch))
    batch.pieces[0].length = batch.raw_length = 1000
    with pytest.raises(BadFormat, match="checksum"):
        list(BatchReader(2_000_000).decode(batch))


def test_bytes_that_are_no_frame_are_refused() -> None:
    batch = BatchWriter().encode([(1, 0, b"", b"x" * 100)])
    for compressed in (b"", b"\0" * 50, zstandard.compress(b"y" * 10)):
        batch.compressed = compressed
        with pytest.raises(BadFormat):
            list(BatchReader(1000).decode(batch))


def test_bytes_that_a_batch_has_no_use_for_are_refused_and_not_kept() -> None:
    writer, reader = BatchWriter(), BatchReader(1 << 20)
    first = writer.encode([(1, 0, b"", b"some text")])
    assert len(list(reader.decode(first))) == 1
    for pieces in ([], [(1, 9, b"", b"")]):
        batch = writer.encode(pieces)
        batch.compressed = b"x" * 1_000_000
        with pytest.raises(BadFormat, match="cannot need"):
            list(reader.decode(batch))
    batch = writer.encode([(1, 9, b"", b"more")])
    batch.compressed += b"x" * 2000
    with pytest.raises(BadFormat, match="cannot need"):
        list(reader.decode(batch))


def test_bytes_that_do_not_compress_at_all_are_taken() -> None:
    writer, reader = BatchWriter(), BatchReader(2 << 20)
    for size in (1, 1000, 2 << 20):
        content = random.Random(size).randbytes(size)
        halves = [(1, 0, b"", content[: size // 2]), (1, size // 2, b"", content[size // 2 :])]
        found = list(reader.decode(writer.encode(halves)))
        assert b"".join(raw for _, raw in found) == content


def test_a_frame_that_asks_for_a_huge_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressing = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    batch = BatchWriter().encode([(1, 0, b"", b"text")])
    batch.compressed = compressing.compress(b"text")
    batch.compressed += compressing.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    with pytest.raises(BadFormat, match="decompressed"):
        list(BatchReader(1000).decode(batch))


@given(st.lists(st.integers(0, BLOCK_BYTES + 5), max_size=4))
@settings(deadline=None, max_examples=15)
def test_the_digest_does_not_depend_on_the_pieces(sizes: list[int]) -> None:
    content = bytes(range(251)) * (sum(sizes) // 251 + 1)
    content = content[: sum(sizes)]
    digester, at = Digester(), 0
    for size in sizes:
        digester.update(content[at : at + size])
        at += size
    blocks = [content[i : i + BLOCK_BYTES] for i in range(0, len(content), BLOCK_BYTES)]
    expected = blake3(b"".join(blake3(block).digest() for block in blocks)).digest()
    assert digester.digest() == expected == stream_digest(map(block_hash, blocks))


def test_an_empty_stream_has_the_digest_of_no_blocks() -> None:
    assert Digester().digest() == blake3(b"").digest()


def test_unset_attributes_stay_unset_over_the_wire() -> None:
    for rank in (None, 0, 5):
        sent = StreamAttributes("0" * 32, Kind.DRIVER, "r", process="1" * 32, rank=rank)
        message = pb.Attributes.FromString(attributes_to_message(sent).SerializeToString())
        assert attributes_from_message(message) == sent


@pytest.mark.parametrize("change", [{"kind": "nothing"}, {"run_id": "../x"}, {"id": "x"}])
def test_attributes_from_the_network_are_checked(change: dict[str, str]) -> None:
    good = StreamAttributes("0" * 32, Kind.DRIVER, "r", process="1" * 32)
    message = attributes_to_message(good)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(Exception, match=r"unknown kind|run id|stream"):
        attributes_from_message(message)
