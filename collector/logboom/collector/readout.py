"""Read, GetRun and EndRun: what the tree has, to whoever asks over the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from logboom.collector.ledger import Placed
from logboom.collector.run import Run
from logboom.collector.spancursor import SpanCursor
from logboom.collector.state import AttemptState
from logboom.collector.store import Store
from logboom.collector.stored import StoredStream
from logboom.format.errors import LogboomError, UsageError
from logboom.format.stream import TEXT_LIMIT
from logboom.format.tree import flat_path
from logboom.wire.convert import attributes_to_message
from logboom.wire.v1 import logboom_pb2 as pb

_CHUNK_BYTES = 256 << 10
_FOLLOW_S = 0.1


class UnknownStream(LogboomError):
    """The run has no such stream."""


class Readout:
    """Answers about runs. Raises ``UnknownRun``, ``UnknownStream``, ``UsageError``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, request: pb.ReadRequest) -> AsyncIterator[pb.ReadReply]:
        """Yield a stream's bytes from ``start`` on, to its length now or, following, its end."""
        run = await self._store.run(request.run_id)
        placed = _find(run, request)
        stream = None if placed.ended else await self._store.stream(run, placed)
        storage, folder = self._store.storage, run.folder
        reader = stream or StoredStream(storage, folder, placed.path, placed.attributes.id)
        cursor = SpanCursor(storage, reader.spans.path)
        at = request.start
        while True:
            has_ended = placed.ended is not None or bool(placed.refused)
            length = placed.ended.length if placed.ended else reader.length
            durable = length if placed.ended else reader.durable
            while at < length:
                end = min(length, at + _CHUNK_BYTES)
                content = await asyncio.to_thread(storage.read, reader.data.path, at, end - at)
                spans = await asyncio.to_thread(cursor.up_to, at, end)
                if not content:
                    return
                yield pb.ReadReply(offset=at, content=content, spans=spans, durable_offset=durable)
                at += len(content)
            if has_ended or not request.follow:
                return
            run.check()
            await asyncio.sleep(_FOLLOW_S)

    async def get_run(self, request: pb.GetRunRequest) -> pb.Run:
        """Return what is known of a run and its streams."""
        run = await self._store.run(request.run_id)
        self._store.tick_run(run)
        await self._store.placed(run)
        state = run.states.run
        found = pb.Run(
            run_id=run.run_id, closed=run.ledger.closed, state=state.value if state else ""
        )
        for _, attempt in sorted(run.states.attempts.items()):
            found.attempts.append(_describe_attempt(attempt))
        for placed in list(run.ledger.streams.values()):
            durable = 0
            if placed.ended is None and not placed.refused:
                durable = (await self._store.stream(run, placed)).durable
            found.streams.append(_describe(run, placed, durable))
        return found

    async def end_run(self, request: pb.EndRunRequest) -> pb.EndRunReply:
        """End a run by hand; durable, and in its status files, on return."""
        if len(request.reason) > TEXT_LIMIT:
            raise UsageError(f"the reason has more than {TEXT_LIMIT} characters")
        run = await self._store.run(request.run_id)
        was_closed = run.close(request.reason, time.time_ns())
        await self._store.placed(run)
        return pb.EndRunReply(was_closed=was_closed)


def _find(run: Run, request: pb.ReadRequest) -> Placed:
    if request.WhichOneof("which") == "path":
        placed, name = run.ledger.by_path.get(flat_path(request.path)), request.path
    else:
        placed, name = run.ledger.streams.get(request.stream), request.stream
    if placed is None:
        raise UnknownStream(f"run {run.run_id} has no stream {name[:200]!r}")
    return placed


def _describe_attempt(attempt: AttemptState) -> pb.RunAttempt:
    return pb.RunAttempt(
        number=attempt.number,
        state=attempt.state.value,
        ended=attempt.ended is not None,
        reason=attempt.reason,
        ended_unix_ns=attempt.ended_ns,
    )


def _describe(run: Run, placed: Placed, durable: int) -> pb.RunStream:
    ended = placed.ended
    described = pb.RunStream(
        attributes=attributes_to_message(placed.attributes),
        attempt=placed.attempt,
        path=placed.path,
        node_id=placed.node_id,
        node_ip=placed.node_ip,
        durable_offset=durable,
        status=run.derivation.status(placed.attributes.process),
    )
    if ended is not None:
        described.durable_offset = described.length = ended.length
        described.ended = True
        described.digest = bytes.fromhex(ended.digest)
        described.corrupt = ended.is_corrupt
    return described
