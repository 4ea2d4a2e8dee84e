"""Overall logs: every line once, through any crash; and made again from their cursors."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from collector.agentlike import made_id, stream
from collector.crashstorage import CrashStorage, Killed
from hypothesis import given
from hypothesis import strategies as st

from logboom.collector.ledger import Placed
from logboom.collector.overall import CHUNK_BYTES, UNFINISHED_NS, Job, RunOverall, SyncFailed
from logboom.collector.stored import StoredStream
from logboom.format.cursors import Cursor, What, decode_cursors, encode_cursor
from logboom.format.spans import Source, Span, encode_spans
from logboom.format.tree import STDERR_LOG, STDOUT_LOG

FOLDER = "runs/r"
RANKS = 3
LINES = 12


def placed_of(rank: int) -> Placed:
    attributes = stream(rank=rank, process=made_id(rank))
    return Placed(
        attributes, 0, f"azureml-logs/70_driver_log_{rank}.txt", "n", "", 0, 0, number=rank + 1
    )


class Streams:
    """Stored streams of a few ranks, of which more is committed again and again."""

    def __init__(self, storage: CrashStorage) -> None:
        self.placed = [placed_of(rank) for rank in range(RANKS)]
        self.streams = [StoredStream(storage, FOLDER, p.path, p.attributes.id) for p in self.placed]
        for one in self.streams:
            storage.sync(one.recover())
            one.recovered()

    def append(self, rank: int, content: bytes, source: Source = Source.STDOUT) -> None:
        one = self.streams[rank]
        spans = encode_spans([Span(one.length, one.length, source)])
        one.append(content, spans)
        one.storage.sync([file.path for file in one.files])
        for file in one.files:
            file.durable = file.length

    def jobs(self, has_ended: bool = False) -> list[Job]:
        pairs = zip(self.placed, self.streams, strict=True)
        return [Job(placed, one.durable, has_ended, ()) for placed, one in pairs]


def lines_of(rank: int, source: Source) -> list[bytes]:
    return [b"rank %d %s line %d" % (rank, source.name.encode(), n) for n in range(LINES)]


def fill(streams: Streams, follow: Callable[[], None]) -> None:
    """Append what is missing, a line and a half of each rank's two sources at a time."""
    for rank, one in enumerate(streams.streams):
        wanted = [
            (source, b"\n".join(lines_of(rank, source)) + b"\n") for source in list(Source)[:2]
        ]
        at = 0
        for step in range(0, 400, 20):
            for source, content in wanted:
                piece = content[step : step + 20]
                if piece and at == one.length:
                    streams.append(rank, piece, source)
                    follow()
                at += len(piece)


def follow_all(overall: RunOverall, streams: Streams, has_ended: bool = True) -> None:
    jobs = streams.jobs(has_ended)
    while jobs:
        jobs = overall.work(jobs, 0)
    overall.commit()


def opened(storage: CrashStorage, streams: Streams, limit: int = 1 << 30) -> RunOverall:
    overall = RunOverall(storage, FOLDER, limit)
    overall.open(streams.jobs())
    return overall


def texts(storage: CrashStorage) -> dict[str, bytes]:
    return {name: storage.files().get(f"{FOLDER}/{name}", b"") for name in (STDOUT_LOG, STDERR_LOG)}


def assert_every_line_once(storage: CrashStorage) -> None:
    for name, source in ((STDOUT_LOG, Source.STDOUT), (STDERR_LOG, Source.STDERR)):
        found = texts(storage)[name]
        assert found.endswith(b"\n")
        lines = found.splitlines()
        for rank in range(RANKS):
            of_rank = [line.split(b"] ", 1)[1] for line in lines if b"Z [%d] " % rank in line]
            assert of_rank == lines_of(rank, source)
        assert len(lines) == RANKS * LINES


def whole_way(storage: CrashStorage) -> None:
    """Everything from an empty store, or from what a crash left, to finished logs."""
    streams = Streams(storage)
    overall = opened(storage, streams)

    def follow() -> None:
        overall.work(streams.jobs(), 0)
        if streams.streams[0].length % 3 == 0 or streams.streams[1].length % 2:
            overall.commit()

    fill(streams, follow)
    follow_all(overall, streams)


@pytest.mark.parametrize("is_power_cut", [False, True])
def test_a_crash_between_any_two_steps_loses_no_line_and_writes_none_twice(
    is_power_cut: bool,
) -> None:
    quiet = CrashStorage()
    whole_way(quiet)
    assert_every_line_once(quiet)
    assert quiet.changes > 300
    for fuse in range(quiet.changes):
        storage = CrashStorage()
        storage.fuse = fuse
        with pytest.raises(Killed):
            whole_way(storage)
        storage.fuse = -1
        if is_power_cut:
            storage.lose_power(random.Random(fuse))
        whole_way(storage)
        assert_every_line_once(storage)


@given(st.lists(st.integers(0, 150), min_size=1, max_size=4), st.integers(0, 2**32))
def test_several_crashes_one_after_another_lose_nothing(fuses: list[int], seed: int) -> None:
    storage, choose = CrashStorage(), random.Random(seed)
    for fuse in fuses:
        storage.fuse = fuse
        try:
            whole_way(storage)
        except Killed:
            pass
        storage.fuse = -1
        storage.lose_power(choose)
    whole_way(storage)
    assert_every_line_once(storage)


def test_logs_that_were_removed_are_made_again_byte_for_byte() -> None:
    storage = CrashStorage()
    whole_way(storage)
    expected = texts(storage)
    streams = Streams(storage)
    for name in (STDOUT_LOG, STDERR_LOG):
        storage.remove(f"{FOLDER}/{name}")
    follow_all(opened(storage, streams), streams)
    assert texts(storage) == expected
    for name in (STDOUT_LOG, STDERR_LOG):
        storage.set_length(f"{FOLDER}/{name}", len(expected[name]) // 2)
    follow_all(opened(storage, streams), streams)
    assert texts(storage) == expected


def test_cursors_that_do_not_fit_the_streams_are_left_and_nothing_is_lost() -> None:
    storage = CrashStorage()
    whole_way(storage)
    for name in (STDOUT_LOG, STDERR_LOG):
        storage.remove(f"{FOLDER}/{name}")
        false = [Cursor(What.LINES, 1, 30, 31), Cursor(What.LINES, 9, 5, 99)]
        storage.write(f"{FOLDER}/.logboom/spans/{name}", 0, b"".join(map(encode_cursor, false)))
    streams = Streams(storage)
    follow_all(opened(storage, streams), streams)
    assert_every_line_once(storage)


def test_an_unfinished_line_goes_out_after_10_s_and_is_remembered_over_a_crash() -> None:
    storage = CrashStorage()
    streams = Streams(storage)
    overall = opened(storage, streams)
    streams.append(0, b"half a")
    overall.work(streams.jobs(), 5)
    assert not overall.age(5 + UNFINISHED_NS - 1)
    assert overall.age(5 + UNFINISHED_NS)
    assert texts(storage)[STDOUT_LOG].endswith("] half a ⏎\n".encode())
    overall.commit()
    streams.append(0, b" line\n")
    again = opened(storage, streams)
    follow_all(again, streams)
    expected = texts(storage)
    assert [line.split(b"] ", 1)[1] for line in expected[STDOUT_LOG].splitlines()] == [
        "half a ⏎".encode(),
        b" line",
    ]
    storage.remove(f"{FOLDER}/{STDOUT_LOG}")
    opened(storage, streams)
    assert texts(storage) == expected


def test_the_log_ends_at_its_limit_with_a_line_that_says_where_the_rest_is() -> None:
    storage = CrashStorage()
    streams = Streams(storage)
    overall = opened(storage, streams, 1000)
    for number in range(50):
        streams.append(0, b"line %d\n" % number)
        overall.work(streams.jobs(), 0)
    overall.commit()
    found = texts(storage)[STDOUT_LOG]
    assert len(found) <= 1000
    assert found.splitlines()[-1] == (
        b"[logboom: this file ends at 1,000 bytes; the whole streams are "
        b"azureml-logs/70_driver_log*.txt]"
    )
    follow_all(opened(storage, streams, 1000), streams)
    assert texts(storage)[STDOUT_LOG] == found


def test_a_sync_that_fails_is_told_as_what_it_is_and_no_cursor_is_written() -> None:
    storage = CrashStorage()
    streams = Streams(storage)
    overall = opened(storage, streams)
    streams.append(0, b"line\n")
    overall.work(streams.jobs(), 0)
    storage.is_broken = True
    with pytest.raises(SyncFailed):
        overall.commit()
    assert not [p for p in storage.files() if "spans/logs" in p]


def test_a_hole_ends_the_line_before_it() -> None:
    storage = CrashStorage()
    streams = Streams(storage)
    streams.append(0, b"before")
    streams.streams[0].leave_hole(CHUNK_BYTES * 3)
    streams.append(0, b"after\n")
    overall = opened(storage, streams)
    jobs = [streams.jobs()[0]._replace(holes=((6, CHUNK_BYTES * 3),))]
    while jobs:
        jobs = overall.work(jobs, 0)
    lines = texts(storage)[STDOUT_LOG].splitlines()
    assert [line.split(b"] ", 1)[1] for line in lines] == ["before ⏎".encode(), b"after"]


def test_a_stream_takes_turns_with_others_a_chunk_at_a_time() -> None:
    storage = CrashStorage()
    streams = Streams(storage)
    streams.append(0, b"a loud rank\n" * 50_000)
    streams.append(1, b"a quiet one\n")
    overall = opened(storage, streams)
    assert [job.placed.number for job in overall.work(streams.jobs(), 0)] == [1]
    assert b"[1] a quiet one\n" in texts(storage)[STDOUT_LOG]


def test_cursor_records_are_read_up_to_the_first_that_is_not_sound() -> None:
    good = [
        Cursor(What.LINES, 1, 10, 20),
        Cursor(What.LINES, 2, 5, 30),
        Cursor(What.LIMIT, 0, 0, 40),
    ]
    content = b"".join(map(encode_cursor, good))
    assert decode_cursors(content) == good
    for at in range(len(content)):
        torn = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        assert decode_cursors(torn) == good[: at // 32]
        assert decode_cursors(content[:at]) == good[: at // 32]
    backwards = encode_cursor(good[1]) + encode_cursor(good[0])
    assert decode_cursors(backwards) == good[1:2]
