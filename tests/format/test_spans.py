"""Span records: what a torn file may look like, and what is read from it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from logboom.format.spans import (
    RECORD_BYTES,
    Mark,
    Piece,
    Source,
    Span,
    What,
    decode_record,
    decode_spans,
    encode_mark,
    encode_piece,
    encode_span,
    encode_spans,
    split_sources,
)

U64 = st.integers(0, 2**64 - 1)
SPANS = st.lists(st.builds(Span, U64, U64, st.sampled_from(Source)), max_size=20)


@given(SPANS)
def test_spans_come_back_as_written(spans: list[Span]) -> None:
    content = encode_spans(spans)
    assert len(content) == RECORD_BYTES * len(spans)
    assert decode_spans(content) == (spans, len(content))


@given(SPANS, st.data())
def test_a_cut_file_gives_its_whole_records(spans: list[Span], data: st.DataObject) -> None:
    content = encode_spans(spans)
    cut = data.draw(st.integers(0, len(content)))
    whole = cut // RECORD_BYTES
    assert decode_spans(content[:cut]) == (spans[:whole], whole * RECORD_BYTES)


@given(SPANS.filter(bool), st.data())
def test_a_flipped_bit_ends_the_reading(spans: list[Span], data: st.DataObject) -> None:
    content = bytearray(encode_spans(spans))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    assert decode_spans(bytes(content)) == (spans[: at // RECORD_BYTES], at // RECORD_BYTES * 24)


def test_zeros_are_no_record() -> None:
    assert decode_record(bytes(RECORD_BYTES)) is None


def test_the_three_records_tell_themselves_apart() -> None:
    assert decode_record(encode_span(Span(5, 6, Source.STDERR))) == (What.SPAN, 1, 5, 6)
    assert decode_record(encode_piece(Piece(7, 2**64 - 1))) == (What.PIECE, 0, 7, 2**64 - 1)
    assert decode_record(encode_piece(Piece(7, 0, True))) == (What.PIECE, 1, 7, 0)
    assert decode_record(encode_mark(Mark(8, 9))) == (What.MARK, 0, 8, 9)
    assert decode_spans(encode_mark(Mark(8, 9))) == ([], 0)


def test_the_layout_is_the_documented_one() -> None:
    record = encode_span(Span(0x0102030405060708, 9, Source.LOST))
    assert record[:20] == bytes.fromhex("11020000 0807060504030201 0900000000000000")


@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(Source)), max_size=15),
    st.integers(0, 50),
)
def test_ranges_cover_all_bytes_and_the_later_of_two_spans_holds(
    found: list[tuple[int, Source]], length: int
) -> None:
    spans = [Span(offset, 0, source) for offset, source in sorted(found, key=lambda f: f[0])]
    ranges = split_sources(spans, length)
    assert sum(end - start for start, end, _ in ranges) == length
    assert all(a[1] == b[0] and a[2] is not b[2] for a, b in pairwise(ranges))
    for start, end, source in ranges:
        for at in range(start, end):
            before = [span.source for span in spans if span.offset <= at]
            assert source is (before[-1] if before else Source.STDOUT)
