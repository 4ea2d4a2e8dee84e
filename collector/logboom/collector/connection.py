"""One agent's connection, its messages in order. Transport is elsewhere."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time

from logboom.collector.lane import Lane
from logboom.collector.outbox import MIN_GAP_MS, Outbox
from logboom.collector.store import Store
from logboom.format.errors import BadFormat, LogboomError
from logboom.format.ids import check_id, check_name
from logboom.wire.batch import BatchReader
from logboom.wire.v1 import logboom_pb2 as pb

WIRE_VERSION = 1
BATCH_LIMIT_BYTES = 2 << 20
WINDOW_BYTES = 64 << 20
_OPENS_AT_ONCE = 1024
log = logging.getLogger(__name__)


class Rejected(LogboomError):
    """The connection is refused as a whole: an agent that tries again hears the same."""


def check_hello(hello: pb.Hello) -> None:
    """Raise ``LogboomError`` where this agent cannot be served."""
    if not hello.oldest_version <= WIRE_VERSION <= hello.newest_version:
        raise Rejected(
            f"agent speaks wire versions {hello.oldest_version} to {hello.newest_version}, "
            f"this collector version {WIRE_VERSION}",
            "bring both to releases at most one minor version apart",
        )
    check_name("node id", hello.node_id)
    check_id("spool", hello.spool_id)
    if hello.node_ip:
        try:
            ipaddress.ip_address(hello.node_ip)
        except ValueError as error:
            raise Rejected(f"node ip {hello.node_ip[:80]!r} is not an address") from error


class Connection:
    """The lanes of one connection. Raises ``BadFormat`` where the peer breaks the protocol."""

    def __init__(
        self, store: Store, outbox: Outbox, node_id: str, node_ip: str, tasks: asyncio.TaskGroup
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._node_id = node_id
        self._node_ip = node_ip
        self._tasks = tasks
        self._lanes: dict[int, Lane] = {}
        self._reader = BatchReader(BATCH_LIMIT_BYTES)
        self._opens = asyncio.Semaphore(_OPENS_AT_ONCE)
        self._pending = 0

    def welcome(self, store_id: str, program_version: str) -> None:
        """Say Welcome."""
        welcome = pb.Welcome(
            version=WIRE_VERSION,
            program_version=program_version,
            node_id=self._node_id,
            store_id=store_id,
            batch_limit_bytes=BATCH_LIMIT_BYTES,
            window_bytes=WINDOW_BYTES,
            min_gap_ms=MIN_GAP_MS,
        )
        self._outbox.say(pb.ToAgent(welcome=welcome))

    async def handle(self, message: pb.FromAgent) -> None:
        """Take the next message."""
        self._store.heard_ns[self._node_id] = time.time_ns()
        what = message.WhichOneof("what")
        if what == "batch":
            self._batch(message.batch)
        elif what == "open":
            await self._open(message.open)
        elif what == "end":
            lane = self._lane(message.end.number)
            if lane.end(message.end):
                self._start(self._finish(lane, message.end))
        elif what == "ping":
            pong = pb.Pong(sequence=message.ping.sequence, unix_ns=time.time_ns())
            self._outbox.say(pb.ToAgent(pong=pong))
        else:
            raise BadFormat(f"message {what!r} does not belong here")
        await self._outbox.room()

    async def drain(self) -> None:
        """Wait until everything that was taken is acknowledged, or refused."""
        while self._pending or any(lane.is_waiting() for lane in self._lanes.values()):
            self._store.committer.wake()
            await asyncio.sleep(0.005)

    def leave(self) -> None:
        """The connection has ended."""
        for lane in self._lanes.values():
            lane.leave()

    def _batch(self, batch: pb.Batch) -> None:
        for piece, content in self._reader.decode(batch):
            self._lane(piece.number).piece(piece.offset, content, piece.spans)

    async def _open(self, message: pb.Open) -> None:
        if message.number == 0 or message.number in self._lanes:
            raise BadFormat(f"stream number {message.number} was used before")
        await self._opens.acquire()
        lane = self._lanes[message.number] = Lane(message.number, self._store, self._outbox)
        if await lane.place(message, self._node_id, self._node_ip):
            self._start(self._opened(lane, message.lowest_offset))
        else:
            self._opens.release()

    async def _opened(self, lane: Lane, lowest_offset: int) -> None:
        try:
            await lane.open(lowest_offset)
        finally:
            self._opens.release()
            self._pending -= 1

    async def _finish(self, lane: Lane, message: pb.End) -> None:
        try:
            await lane.finish(message)
        finally:
            self._pending -= 1

    def _start(self, work: object) -> None:
        self._pending += 1
        self._tasks.create_task(work)  # type: ignore[arg-type]

    def _lane(self, number: int) -> Lane:
        try:
            return self._lanes[number]
        except KeyError:
            raise BadFormat(f"stream number {number} was never opened") from None
