"""Lines of overall logs: their form, whoever wrote the bytes and however they came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logboom.collector.linecutter import LINE_LIMIT_BYTES, LineCutter
from logboom.format.spans import Source, Span

P = b"2026-11-23T08:31:07.764Z [3] "
BASE = 1795422667764428389


def cutter(source: Source = Source.STDOUT, cursor: int = 0) -> LineCutter:
    return LineCutter(source, 3, lambda ns: BASE + ns, cursor)


def cut(content: bytes, spans: list[Span] | None = None, source: Source = Source.STDOUT) -> bytes:
    return cutter(source).take(content, spans or [Span(0, 0, Source.STDOUT)])


def test_each_line_has_time_and_rank_before_its_bytes() -> None:
    assert cut(b"one\n\n\xff\x00two\nnot yet") == P + b"one\n" + P + b"\n" + P + b"\xff\x00two\n"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"1%\r2%\r3%", b"3%"),
        (b"3%\r", b"3%"),
        (b"dos\r", b"dos"),
        (b"a\r\rb\r\r", b"b"),
        (b"\r", b""),
    ],
)
def test_of_pieces_that_a_return_divides_the_last_is_the_line(line: bytes, shown: bytes) -> None:
    assert cut(line + b"\n") == P + shown + b"\n"


def test_each_source_has_its_own_lines_and_its_own_times() -> None:
    content = b"out " + b"err\n" + b"more\nnext\n"
    second = 10**9
    spans = [
        Span(0, 0, Source.STDOUT),
        Span(4, second, Source.STDERR),
        Span(8, 2 * second, Source.STDOUT),
    ]
    later = P.replace(b"07.764", b"09.764")
    assert cut(content, spans) == P + b"out more\n" + later + b"next\n"
    assert cut(content, spans, Source.STDERR) == P.replace(b"07.764", b"08.764") + b"err\n"


def test_words_about_lost_bytes_are_in_both() -> None:
    content = b"half\n[logboom: 5 bytes lost here]\n"
    spans = [Span(0, 0, Source.STDOUT), Span(4, 0, Source.LOST)]
    assert cut(content, spans) == P + b"half\n" + P + b"[logboom: 5 bytes lost here]\n"
    assert P + b"[logboom: 5 bytes lost here]\n" in cut(content, spans, Source.STDERR)


@pytest.mark.parametrize("over", [0, 1, LINE_LIMIT_BYTES, LINE_LIMIT_BYTES + 1])
def test_a_line_past_64_kib_goes_out_in_parts(over: int) -> None:
    line = bytes(ord("a") + n % 26 for n in range(LINE_LIMIT_BYTES + over))
    found = cut(line + b"\nnext\n").splitlines()
    assert len(found) == 1 + -(-len(line) // LINE_LIMIT_BYTES)
    assert found[-1] == P + b"next"
    assert all(part.endswith(" ⏎".encode()) for part in found[:-2])
    bare = [part.removeprefix(P).removesuffix(" ⏎".encode()) for part in found[:-1]]
    assert b"".join(bare) == line


def test_what_nobody_finishes_goes_out_as_a_part_and_goes_on_after_it() -> None:
    one = cutter()
    spans = [Span(0, 0, Source.STDOUT)]
    assert one.take(b"50%\r60%", spans) == b""
    assert (one.part(), one.cursor, one.part()) == (P + b"60%" + " ⏎\n".encode(), 7, b"")
    assert one.take(b"\r70%\n", spans) == P + b"70%\n"


_PIECES = st.lists(
    st.tuples(
        st.sampled_from(list(Source)),
        st.lists(st.sampled_from([b"a", b"\n", b"\r", b"bc", b"x" * 40_000])).map(b"".join),
    ),
    max_size=8,
)


@given(_PIECES, st.sampled_from([Source.STDOUT, Source.STDERR]), st.data())
def test_how_the_bytes_are_divided_and_where_reading_goes_on_changes_nothing(
    pieces: list[tuple[Source, bytes]], source: Source, data: st.DataObject
) -> None:
    content, spans = b"", []
    for number, (of, some) in enumerate(pieces):
        spans.append(Span(len(content), number * 10**9, of))
        content += some
    whole = cutter(source)
    expected = whole.take(content, spans) + whole.part()
    expected_cursor = whole.cursor
    divided, found, at = cutter(source), b"", 0
    while at < len(content):
        end = data.draw(st.integers(at + 1, len(content)))
        inside = [s for s in spans if at < s.offset < end]
        before = [s for s in spans if s.offset <= at][-1:]
        found += divided.take(content[at:end], before + inside)
        at = end
        if data.draw(st.booleans()):  # a crash: what did not come out is read again
            at = divided.cursor
            divided = cutter(source, at)
    assert found + divided.part() == expected
    assert divided.cursor == expected_cursor or not content
