"""A collector in memory, for the agent's tests: right by the wire's contract, and breakable.

It keeps what was acknowledged (``durable``) apart from what it merely has; a ``crash`` forgets
the difference, as a power cut would.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any

import grpc

from logboom.wire.batch import BatchReader
from logboom.wire.digest import Digester
from logboom.wire.v1 import logboom_pb2 as pb
from logboom.wire.v1 import logboom_pb2_grpc as rpc
from processes import HANG_S

BATCH_LIMIT_BYTES = 4 << 20
Context = Any


@dataclass
class Kept:
    """One stream as the collector has it."""

    attributes: pb.Attributes
    content: bytearray = field(default_factory=bytearray)
    spans: dict[int, bytes] = field(default_factory=dict)
    durable: int = 0
    end: pb.End | None = None
    holes: list[tuple[int, int]] = field(default_factory=list)

    @property
    def digest(self) -> bytes:
        digester = Digester()
        digester.update(bytes(self.content))
        return digester.digest()


@dataclass
class Knobs:
    """What a test can break."""

    drop_after_messages: int = 0  # 0: never; else each connection ends after so many
    refuse_streams_times: int = 0  # so many Opens are refused with retry
    refuse_never: set[str] = field(default_factory=set)  # streams that are never taken
    refuse_connection: str = ""
    may_retry_connection: bool = False
    forget_every: int = 0  # each nth piece is forgotten: the next is past the end
    token: str = ""
    window_bytes: int = 8 << 20
    holds_acks: bool = False


class FakeCollector(rpc.CollectorServicer):
    """The servicer; ``streams`` is its memory."""

    def __init__(self) -> None:
        self.knobs = Knobs()
        self.streams: dict[str, Kept] = {}
        self.connections = 0
        self.opens: list[str] = []
        self.hellos: list[pb.Hello] = []
        self.conflicts: list[str] = []
        self.ended_runs: list[tuple[str, str]] = []
        self.resumes = 0
        self._pieces = 0

    def crash(self) -> None:
        """Forget what was not acknowledged."""
        for kept in self.streams.values():
            del kept.content[kept.durable :]

    async def EndRun(self, request: pb.EndRunRequest, context: Context) -> pb.EndRunReply:
        if request.run_id == "nosuchrun":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such run")
        was_closed = any(run == request.run_id for run, _ in self.ended_runs)
        self.ended_runs.append((request.run_id, request.reason))
        return pb.EndRunReply(was_closed=was_closed)

    async def Ship(
        self, requests: AsyncIterator[pb.FromAgent], context: Context
    ) -> AsyncIterator[pb.ToAgent]:
        self.connections += 1
        if self.knobs.token:
            said = dict(context.invocation_metadata() or ()).get("authorization")
            if said != f"Bearer {self.knobs.token}":
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong")
        out: asyncio.Queue[pb.ToAgent | None] = asyncio.Queue()
        call = _Call(self, out)
        reading = asyncio.create_task(call.read(requests))
        try:
            while (message := await out.get()) is not None:
                yield message
            await reading
            if call.is_dropped:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "dropped by the test")
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


class _Call:
    def __init__(self, server: FakeCollector, out: asyncio.Queue[pb.ToAgent | None]) -> None:
        self.server = server
        self.out = out
        self.numbers: dict[int, Kept] = {}
        self.resuming: set[int] = set()
        self.reader = BatchReader(BATCH_LIMIT_BYTES)
        self.is_dropped = False

    async def read(self, requests: AsyncIterator[pb.FromAgent]) -> None:
        count = 0
        try:
            async for message in requests:
                count += 1
                limit = self.server.knobs.drop_after_messages
                if limit and count > limit:
                    self.is_dropped = True
                    return
                self.handle(message)
        finally:
            self.out.put_nowait(None)

    def say(self, **what: object) -> None:
        self.out.put_nowait(pb.ToAgent(**what))  # type: ignore[arg-type]

    def handle(self, message: pb.FromAgent) -> None:
        what = message.WhichOneof("what")
        if what == "hello":
            self.hello(message.hello)
        elif what == "ping":
            pong = pb.Pong(sequence=message.ping.sequence, unix_ns=time.time_ns() + 10**9)
            self.say(pong=pong)
        elif what == "open":
            self.open(message.open)
        elif what == "batch":
            self.batch(message.batch)
        elif what == "end":
            self.end(message.end)

    def hello(self, hello: pb.Hello) -> None:
        knobs = self.server.knobs
        self.server.hellos.append(hello)
        if knobs.refuse_connection:
            self.say(
                refused=pb.Refused(
                    number=0, reason=knobs.refuse_connection, retry=knobs.may_retry_connection
                )
            )
            return
        self.say(
            welcome=pb.Welcome(
                version=1, program_version="test", node_id=hello.node_id, store_id="5" * 32,
                batch_limit_bytes=BATCH_LIMIT_BYTES, window_bytes=knobs.window_bytes, min_gap_ms=2,
            )
        )  # fmt: skip

    def open(self, opened: pb.Open) -> None:
        stream = opened.attributes.id
        self.server.opens.append(stream)
        if stream in self.server.knobs.refuse_never:
            self.say(refused=pb.Refused(number=opened.number, reason="never", retry=False))
            return
        if self.server.knobs.refuse_streams_times > 0:
            self.server.knobs.refuse_streams_times -= 1
            self.say(refused=pb.Refused(number=opened.number, reason="busy", retry=True))
            return
        kept = self.server.streams.setdefault(stream, Kept(opened.attributes))
        if len(kept.content) < opened.lowest_offset:
            kept.holes.append((len(kept.content), opened.lowest_offset))
            kept.content.extend(bytes(opened.lowest_offset - len(kept.content)))
        kept.durable = len(kept.content)
        self.numbers[opened.number] = kept
        self.say(
            opened=pb.Opened(
                number=opened.number, path="x", durable_offset=kept.durable,
                ended=kept.end is not None,
            )
        )  # fmt: skip

    def batch(self, batch: pb.Batch) -> None:
        touched = set()
        for piece, raw in self.reader.decode(batch):
            self.server._pieces += 1
            every = self.server.knobs.forget_every
            if every and self.server._pieces % every == 0:
                continue
            if self.piece(piece, bytes(raw)):
                touched.add(piece.number)
        self.ack(touched)

    def piece(self, piece: pb.Piece, raw: bytes) -> bool:
        kept = self.numbers[piece.number]
        have = len(kept.content)
        if piece.offset > have:
            if piece.number not in self.resuming:
                self.server.resumes += 1
                self.say(resume=pb.Resume(number=piece.number, offset=have))
            self.resuming.add(piece.number)
            return False
        self.resuming.discard(piece.number)
        overlap = min(have - piece.offset, len(raw))
        if kept.content[piece.offset : piece.offset + overlap] != raw[:overlap]:
            self.server.conflicts.append(kept.attributes.id)
            refused = pb.Refused(number=piece.number, reason="conflict", retry=False)
            self.say(refused=refused)
            return False
        kept.content.extend(raw[overlap:])
        for at in range(0, len(piece.spans), 24):
            record = piece.spans[at : at + 24]
            offset = int.from_bytes(record[4:12], "little")
            assert piece.offset <= offset < piece.offset + len(raw), "a span outside of its piece"
            if offset >= have:
                kept.spans[offset] = record
        return True

    def ack(self, numbers: set[int]) -> None:
        if self.server.knobs.holds_acks:
            return
        ack = pb.Ack(min_gap_ms=2)
        for number in numbers:
            kept = self.numbers[number]
            kept.durable = len(kept.content)
            ack.streams.add(number=number, durable_offset=kept.durable, ended=kept.end is not None)
        self.say(ack=ack)

    def end(self, end: pb.End) -> None:
        kept = self.numbers[end.number]
        if len(kept.content) < end.length:
            self.server.resumes += 1
            self.say(resume=pb.Resume(number=end.number, offset=len(kept.content)))
            self.resuming.add(end.number)
            return
        kept.end = end
        self.ack({end.number})


class Served:
    """The fake collector on a real port of this machine."""

    def __init__(self, port: int = 0) -> None:
        self.fake = FakeCollector()
        self.port = port
        self.address = ""
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen in the running loop."""
        self._server = grpc.aio.server()
        rpc.add_CollectorServicer_to_server(self.fake, self._server)  # type: ignore[no-untyped-call]
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.address = f"127.0.0.1:{self.port}"
        await self._server.start()

    async def stop(self) -> None:
        """Stop at once; calls end with UNAVAILABLE or CANCELLED."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None


class InThread:
    """The fake collector in a thread of its own, so that tests are plain code."""

    def __init__(self, port: int = 0) -> None:
        self.served = Served(port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self.served.start())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(HANG_S)

    def restart(self, crashes: bool) -> None:
        """Stop and start again on the same port; ``crashes``: what was not acknowledged is lost."""
        self._call(self.served.stop())
        if crashes:
            self.served.fake.crash()
        self._call(self.served.start())

    def close(self) -> None:
        """Stop for good."""
        self._call(self.served.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HANG_S)
        self._loop.close()
