"""Reading a spool and what custody does to it: bytes and spans across segments, law by law."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from agent.spool_writer import Writer, payload
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logboom.agent import custody
from logboom.agent.spool import (
    SPANS_LIMIT_BYTES,
    Place,
    Rights,
    SpoolError,
    Stream,
    check_spool,
    find_streams,
)
from logboom.agent.watch import Watch
from logboom.agent.words import Ended, Found, Grew, Looked, Vanished
from logboom.format.spans import RECORD_BYTES, Source, Span, decode_all_spans, encode_span
from logboom.format.spool import BLOCK_BYTES
from logboom.format.stream import Why, decode_end
from logboom.wire.digest import Digester

PRIVATE = Rights(0o600, 0o700)


def place_of(writer: Writer, spool: Path) -> Place:
    return Place(str(spool), "runs", writer.attributes.run_id, writer.folder.name)


def opened(writer: Writer, spool: Path) -> Stream:
    stream = Stream(place_of(writer, spool))
    stream.refresh()
    return stream


def spool_in(folder: Path) -> Path:
    spool = folder / "spool"
    spool.mkdir(mode=0o700)
    return spool


def digest(content: bytes) -> bytes:
    digester = Digester()
    digester.update(content)
    return digester.digest()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    writes=st.lists(
        st.tuples(st.integers(1, 300), st.sampled_from([Source.STDOUT, Source.STDERR])),
        min_size=1, max_size=30,
    ),
    reads=st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 700)), max_size=30),
)  # fmt: skip
def test_any_range_comes_back_as_written_with_just_the_spans_that_begin_in_it(
    tmp_path_factory: pytest.TempPathFactory,
    writes: list[tuple[int, Source]],
    reads: list[tuple[int, int]],
) -> None:
    spool = spool_in(tmp_path_factory.mktemp("s"))
    writer = Writer(spool, block=512)
    content = b""
    expected: list[tuple[int, Source]] = []
    for length, source in writes:
        at = len(content)
        while at < len(content) + length:
            if at % 512 == 0 or (
                at == len(content) and (not expected or expected[-1][1] is not source)
            ):
                expected.append((at, source))
            at = min(len(content) + length, at - at % 512 + 512)
        raw = os.urandom(length)
        writer.write(raw, source)
        content += raw
    with opened(writer, spool) as stream:
        assert stream.length() == len(content)
        for start, length in [(0, len(content)), *reads]:
            found = stream.read(start, length, len(content))
            assert found.raw == content[start : start + length]
            spans = [(span.offset, span.source) for span in decode_all_spans(found.spans)]
            assert spans == [s for s in expected if start <= s[0] < found.end]
    writer.die()


def test_spans_past_the_length_are_left_for_next_time(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    writer.write(b"abc")
    with opened(writer, spool) as stream:
        length = stream.length()
        writer._span(Source.STDERR)  # written before its bytes, as the law says
        first = stream.read(0, 100, length)
        assert [s.offset for s in decode_all_spans(first.spans)] == [0]
        writer.write(b"def", Source.STDERR)
        second = stream.read(3, 100, stream.length())
        assert [s.source for s in decode_all_spans(second.spans)] == [Source.STDERR]
        assert second.raw == b"def"


def test_a_living_streams_broken_last_span_is_waited_for(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    writer.write(b"abc")
    record = encode_span(Span(3, 7, Source.STDERR))
    with opened(writer, spool) as stream:
        os.write(writer._spans_fd, record[:10])
        assert len(stream.read(0, 100, 3).spans) == RECORD_BYTES
        os.write(writer._spans_fd, record[10:])
        writer._source = Source.STDERR
        writer.write(b"def", Source.STDERR)
        assert stream.read(3, 100, 6).spans == record


def test_a_broken_span_is_waited_for_while_its_writer_lives_and_passed_over_afterwards(
    tmp_path: Path,
) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    writer.write(b"abc")
    os.write(writer._spans_fd, bytes(RECORD_BYTES))  # as a power cut leaves it
    writer._span(Source.STDERR)
    os.write(writer._data_fd, b"def")
    with opened(writer, spool) as stream:
        assert [s.offset for s in decode_all_spans(stream.read(0, 9, 6).spans)] == [0]
        found = decode_all_spans(stream.read(0, 9, 6, is_ended=True).spans)
        assert [(s.offset, s.source) for s in found] == [(0, Source.STDOUT), (3, Source.STDERR)]


def test_spans_of_one_offset_are_never_parted(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    writer.write(bytes(100))
    limit = SPANS_LIMIT_BYTES // RECORD_BYTES
    records = [encode_span(Span(0, n, Source.STDOUT)) for n in range(limit - 1)]
    records += [encode_span(Span(50, n, Source(n % 2))) for n in range(3)]
    records += [encode_span(Span(60, 0, Source.STDOUT))]
    (writer.folder / ("%020d.spans" % 0)).write_bytes(b"".join(records))
    with opened(writer, spool) as stream:
        first = stream.read(0, 100, 100)
        assert first.end == 60
        assert first.spans == b"".join(records[:-1])
        assert stream.read(60, 100, 100).spans == records[-1]


def test_a_stream_with_more_spans_than_bytes_is_read_in_small_pieces(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    count = 3 * SPANS_LIMIT_BYTES // RECORD_BYTES
    records = b""
    for n in range(count):
        records += encode_span(Span(n, n, Source(n % 2)))
    writer.write(bytes(count))
    (writer.folder / ("%020d.spans" % 0)).write_bytes(records)
    with opened(writer, spool) as stream:
        at, spans, pieces = 0, b"", 0
        while at < count:
            found = stream.read(at, 1 << 20, count)
            assert 0 < len(found.spans) <= SPANS_LIMIT_BYTES
            assert all(at <= span.offset < found.end for span in decode_all_spans(found.spans))
            at, spans, pieces = found.end, spans + found.spans, pieces + 1
        assert spans == records
        assert pieces >= 3


def test_a_hole_is_named_and_never_filled_in_silence(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool, block=512)
    content = payload(1, 1200)
    writer.write(content)
    os.truncate(writer.folder / ("%020d.seg" % 0), 100)
    with opened(writer, spool) as stream:
        assert stream.read(0, 1000, 1200).raw == content[:100]
        assert stream.read(100, 1000, 1200).raw == b""
        assert stream.lacks(100) == (100, 512)
        assert stream.lacks(99) is None
        assert stream.read(512, 1000, 1200).raw == content[512:]
        assert stream.length() == 1200


def test_the_newest_segment_is_never_trimmed_and_hashes_stay(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    content = payload(3, 2 * BLOCK_BYTES + 1000)
    writer.write(content)
    place = place_of(writer, spool)
    custody.trim(place, BLOCK_BYTES - 1, PRIVATE)
    assert len(list(writer.folder.glob("*.seg"))) == 3
    custody.trim(place, BLOCK_BYTES, PRIVATE)
    assert len(list(writer.folder.glob("*.seg"))) == 2
    custody.trim(place, len(content), PRIVATE)
    assert [p.name for p in writer.folder.glob("*.seg")] == ["%020d.seg" % (2 * BLOCK_BYTES)]
    assert len(list(writer.folder.glob("*.blake3"))) == 2
    assert custody.digest_of(place, len(content)) == digest(content)
    with opened(writer, spool) as stream:
        assert stream.lowest == 2 * BLOCK_BYTES
        assert stream.lacks(5) == (0, 2 * BLOCK_BYTES)


@pytest.mark.parametrize("length", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_the_digest_is_that_of_the_wire(tmp_path: Path, length: int) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    content = payload(4, length)
    writer.write(content)
    assert custody.digest_of(place_of(writer, spool), length) == digest(content)


def test_a_digest_over_a_block_that_went_without_its_hash_is_unknown(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    writer.write(payload(5, BLOCK_BYTES + 10))
    custody.trim(place_of(writer, spool), BLOCK_BYTES, PRIVATE)
    (writer.folder / ("%020d.blake3" % 0)).unlink()
    assert custody.digest_of(place_of(writer, spool), BLOCK_BYTES + 10) == b""


def test_a_full_disk_does_not_keep_a_segment_that_may_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    content = payload(3, BLOCK_BYTES + 1000)
    writer.write(content)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(custody, "write_whole", fail)
    custody.trim(place_of(writer, spool), len(content), PRIVATE)
    assert not (writer.folder / ("%020d.seg" % 0)).exists()
    assert custody.digest_of(place_of(writer, spool), len(content)) == digest(content)
    writer.die()
    with opened(writer, spool) as stream:
        end = custody.bury(stream, PRIVATE)
    assert end is not None
    assert end.length == len(content)


def test_a_living_stream_is_not_buried_and_a_dead_one_keeps_every_byte(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    writer.write(b"abcdef")
    with opened(writer, spool) as stream:
        assert custody.bury(stream, PRIVATE) is None
        assert stream.is_living()
        os.write(writer._spans_fd, b"torn")
        writer.die()
        assert not stream.is_living()
        end = custody.bury(stream, PRIVATE)
        assert end is not None
        assert (end.length, end.why) == (6, Why.RECORDER_GONE)
        assert decode_end((writer.folder / "end.json").read_bytes()) == end
        assert (writer.folder / ("%020d.spans" % 0)).stat().st_size == RECORD_BYTES
        assert stream.read(0, 10, 6).raw == b"abcdef"


def test_burying_keeps_the_end_that_the_writer_left(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    writer.write(b"abc")
    writer.end()
    with opened(writer, spool) as stream:
        end = custody.bury(stream, PRIVATE)
        assert end is not None
        assert end.why is Why.EOF


def test_a_retired_stream_leaves_nothing_but_its_neighbours(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    first, second = Writer(spool, rank=0), Writer(spool, rank=1)
    custody.retire(place_of(first, spool), PRIVATE)
    assert [place.id for place in find_streams(str(spool))] == [second.id]
    custody.retire(place_of(second, spool), PRIVATE)
    assert not (spool / "runs" / "run").exists()
    assert not list((spool / "gone").iterdir())
    custody.retire(place_of(second, spool), PRIVATE)  # another agent was first


def test_a_refused_stream_keeps_its_bytes_out_of_the_way(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    writer.write(b"kept")
    custody.refuse(place_of(writer, spool), PRIVATE)
    assert not list(find_streams(str(spool)))
    place = next(find_streams(str(spool), "refused"))
    with Stream(place) as stream:
        stream.refresh()
        assert stream.read(0, 10, 4).raw == b"kept"


def test_a_writer_goes_on_in_a_folder_that_was_renamed(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    writer.write(b"abc")
    with opened(writer, spool) as stream:
        custody.refuse(place_of(writer, spool), PRIVATE)
        writer.write(b"def")
        assert stream.read(0, 10, stream.length()).raw == b"abcdef"
        assert not stream.is_there()


def test_a_spool_that_is_not_ours_to_use_is_refused(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    assert check_spool(str(spool)) == PRIVATE
    (tmp_path / "link").symlink_to(spool)
    with pytest.raises(SpoolError, match="link"):
        check_spool(str(tmp_path / "link"))
    spool.chmod(0o777)
    with pytest.raises(SpoolError, match="written by others"):
        check_spool(str(spool))
    spool.chmod(0o2770)
    assert check_spool(str(spool)) == Rights(0o660, 0o2770)
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="not a folder"):
        check_spool(str(tmp_path / "file"))


def test_the_watch_tells_of_everything_new_and_of_nothing_twice(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    watch = Watch(str(spool), PRIVATE)
    assert watch.look() == [Looked(0)]
    writer = Writer(spool, block=512)
    assert watch.glance() == [Found(writer.id, writer.attributes, 0)]
    assert watch.glance() == []
    writer.write(b"abc")
    assert watch.glance() == [Grew(writer.id, 3)]
    writer.write(bytes(1000))
    assert watch.glance() == [Grew(writer.id, 1003)]
    writer.write(b"x")
    writer.end()
    events = watch.glance()
    assert events[0] == Grew(writer.id, 1004)
    assert isinstance(events[1], Ended)
    assert events[1].end.length == 1004
    assert watch.glance() == []
    assert watch.look() == [Looked(0)]


def test_two_changes_in_one_tick_of_the_file_systems_clock_are_both_seen(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool, block=512)
    watch = Watch(str(spool), PRIVATE)
    watch.glance()
    watch.glance()
    tick_ns = time.time_ns()
    os.utime(writer.folder, ns=(tick_ns, tick_ns))
    watch.glance()
    writer.write(bytes(700))
    os.utime(writer.folder, ns=(tick_ns, tick_ns))
    assert watch.glance() == [Grew(writer.id, 700)]


def test_a_stream_on_its_way_out_is_not_found_again(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    watch = Watch(str(spool), PRIVATE)
    watch.look()
    watch.forget(writer.id)
    assert watch.look() == [Looked(0)]
    custody.retire(place_of(writer, spool), PRIVATE)
    assert watch.look() == [Looked(0)]


def test_the_watch_buries_a_stream_whose_writers_died(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    writer.write(b"abc")
    watch = Watch(str(spool), PRIVATE)
    assert [type(event) for event in watch.look()] == [Found, Looked]
    writer.die()
    found = [event for event in watch.look() if isinstance(event, Ended)]
    assert [(e.end.length, e.end.why) for e in found] == [(3, Why.RECORDER_GONE)]


def test_the_watch_counts_what_it_cannot_read_and_goes_on(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    bad, good = Writer(spool, rank=0), Writer(spool, rank=1)
    (bad.folder / "stream.json").write_text('{"version": 99}')
    watch = Watch(str(spool), PRIVATE)
    events = watch.look()
    assert [event.stream for event in events if isinstance(event, Found)] == [good.id]
    assert events[-1] == Looked(1)


def test_a_stream_that_vanished_and_came_back_is_found_anew(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writer = Writer(spool)
    watch = Watch(str(spool), PRIVATE)
    watch.look()
    away = tmp_path / "away"
    writer.folder.rename(away)
    assert Vanished(writer.id) in watch.look()
    away.rename(writer.folder)
    assert [type(event) for event in watch.look()] == [Found, Looked]


def test_more_streams_than_descriptors_allow_wait_for_their_turn(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    writers = [Writer(spool, rank=rank) for rank in range(5)]
    watch = Watch(str(spool), PRIVATE, stream_limit=2)
    seen: set[str] = set()
    for _ in range(4):
        found = {event.stream for event in watch.look() if isinstance(event, Found)}
        assert len(watch) <= 2
        seen |= found
        for stream in found:
            watch.forget(stream)
    assert seen == {writer.id for writer in writers}
