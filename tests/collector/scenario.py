"""A small run over the double: what its agents would send, and the steps of one commit."""

from __future__ import annotations

import random
from typing import Any

from collector.agentlike import digest_of, stream

from logboom.collector.group import Group
from logboom.collector.run import Run
from logboom.collector.storage import Storage
from logboom.collector.stored import StoredStream
from logboom.format.events import Event, encode_event
from logboom.format.spans import Source, Span, encode_spans
from logboom.format.stream import Kind, StreamAttributes

RUN_ID = "r"


def truth_of(attributes: StreamAttributes) -> bytes:
    """Return all that a stream's writer wrote."""
    choose = random.Random(attributes.id)
    if attributes.kind is Kind.DRIVER:
        return choose.randbytes(choose.randrange(0, 900))
    rank = attributes.rank or 0
    events = [Event(0, 5, "started", {"pid": 100 + rank})]
    events += [Event(n, n, "message", {"text": "x" * n * 7}) for n in range(1, 4)]
    events.append(Event(4, 50, "exited", {"code": rank % 2}))
    lines = [encode_event(event) for event in events]
    if rank == 1:
        lines.insert(2, b"a broken line\n" + lines[1])  # and one that was written twice
    return b"".join(lines)


def streams(ranks: int = 3) -> list[StreamAttributes]:
    """Return the streams of a run: a driver and events for each rank, rank 0 in two attempts."""
    found = []
    for rank in range(ranks):
        found += [stream(Kind.EVENTS, rank=rank), stream(Kind.DRIVER, rank=rank)]
    again: dict[str, Any] = {"process": "f" * 32, "started_unix_ns": 10**18 + 10**11}
    found += [stream(Kind.DRIVER, rank=0, **again), stream(Kind.EVENTS, rank=0, **again)]
    return found


def opened(storage: Storage) -> tuple[Run, Group]:
    """Open the run as after a start."""
    group = Group(storage)
    run = Run(storage, RUN_ID, group)
    run.open()
    run.resume()
    return run, group


def commit(group: Group) -> None:
    """Commit until nothing is dirty."""
    while group.dirty:
        taken = group.take()
        group.storage.sync(taken.paths)
        assert not group.settle(taken)


def place(run: Run, attributes: StreamAttributes) -> None:
    """Place a stream."""
    run.place(attributes, f"node-{attributes.rank}", "10.0.0.5", 0, 0)


def recover(run: Run, attributes: StreamAttributes) -> StoredStream:
    """Open a placed stream as the store does."""
    if attributes.id in run.streams:
        return run.streams[attributes.id]
    return run.adopt(run.recover_stream(run.ledger.streams[attributes.id]))


def append(run: Run, found: StoredStream, content: bytes) -> None:
    """Append a piece with two spans."""
    at = found.length
    middle = at + len(content) // 2
    spans = [Span(at, at, Source.STDOUT), Span(middle, at, Source.STDERR)]
    run.append(found, memoryview(content), encode_spans(spans))


def end(run: Run, found: StoredStream, truth: bytes) -> None:
    """End a stream of which all is durable."""
    assert found.durable == len(truth)
    here = found.read_digest(len(truth))
    run.end_stream(found, len(truth), digest_of(truth), "eof", 60, here)


def finish(run: Run, group: Group, all_streams: list[StreamAttributes]) -> None:
    """Send all that is missing, and end every stream."""
    for attributes in all_streams:
        place(run, attributes)
    commit(group)
    for attributes in all_streams:
        if run.ledger.streams[attributes.id].ended is None:
            found, truth = recover(run, attributes), truth_of(attributes)
            if found.length < len(truth):
                append(run, found, truth[found.length :])
    commit(group)
    for attributes in all_streams:
        if run.ledger.streams[attributes.id].ended is None:
            end(run, recover(run, attributes), truth_of(attributes))
    commit(group)
