"""A small client of the wire for tests: says what it is told to, and collects what it hears."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from logboom.format.spans import Source, Span, encode_spans
from logboom.format.stream import Kind, StreamAttributes
from logboom.wire.batch import BatchWriter
from logboom.wire.convert import attributes_to_message
from logboom.wire.digest import Digester
from logboom.wire.v1 import logboom_pb2 as pb
from logboom.wire.v1 import logboom_pb2_grpc as rpc

HANG_S = 60.0


def made_id(*words: object) -> str:
    """Return an id that is always the same for these words."""
    return hashlib.md5(repr(words).encode(), usedforsecurity=False).hexdigest()


def stream(
    kind: Kind = Kind.DRIVER, run_id: str = "r", rank: int | None = 0, **more: Any
) -> StreamAttributes:
    """Return the attributes of a stream of one of four ranks."""
    fields: dict[str, Any] = {"world_size": 4, "started_unix_ns": 10**18, "boot_id": "b", "pid": 7}
    fields |= {"process": made_id(run_id, rank)} | more
    return StreamAttributes(
        id=more.get("id", made_id(kind, run_id, rank, fields["process"])),
        kind=kind,
        run_id=run_id,
        rank=rank,
        **{key: value for key, value in fields.items() if key != "id"},
    )


def digest_of(content: bytes) -> bytes:
    """Return a stream's digest."""
    digester = Digester()
    digester.update(content)
    return digester.digest()


class AgentLike:
    """One connection. ``heard`` has every message, in order."""

    def __init__(self, call: Any) -> None:
        self.heard: list[pb.ToAgent] = []
        self.writer = BatchWriter()
        self._call = call
        self._news = asyncio.Event()
        self._listener = asyncio.create_task(self._listen())
        self.error: grpc.aio.AioRpcError | None = None

    async def _listen(self) -> None:
        try:
            while True:
                message = await self._call.read()
                if not isinstance(message, pb.ToAgent):
                    return
                self.heard.append(message)
                self._news.set()
        except grpc.aio.AioRpcError as error:
            self.error = error
        finally:
            self._news.set()

    async def say(self, **what: Any) -> None:
        await self._call.write(pb.FromAgent(**what))

    async def hello(self, node_id: str = "node-a", spool: str = "s", **more: Any) -> pb.Welcome:
        fields: dict[str, Any] = {"oldest_version": 1, "newest_version": 1, "node_ip": "10.0.0.5"}
        hello = pb.Hello(node_id=node_id, spool_id=made_id(spool), **(fields | more))
        await self.say(hello=hello)
        return (await self.hear("welcome")).welcome

    async def open(
        self, number: int, attributes: StreamAttributes, lowest: int = 0, clock: int = 0
    ) -> pb.Opened:
        await self.say_open(number, attributes, lowest, clock)
        return (await self.hear("opened", number)).opened

    async def say_open(
        self, number: int, attributes: StreamAttributes, lowest: int = 0, clock: int = 0
    ) -> None:
        message = pb.Open(
            number=number,
            attributes=attributes_to_message(attributes),
            lowest_offset=lowest,
            clock_offset_ns=clock,
        )
        await self.say(open=message)

    async def send(
        self, number: int, offset: int, content: bytes, source: Source = Source.STDOUT
    ) -> None:
        spans = encode_spans([Span(offset, 1, source)])
        await self.say(batch=self.writer.encode([(number, offset, spans, content)]))

    async def end(self, number: int, content: bytes, **more: Any) -> None:
        fields: dict[str, Any] = {
            "length": len(content),
            "digest": digest_of(content),
            "why": "eof",
        } | more
        await self.say(end=pb.End(number=number, **fields))

    async def hear(self, what: str, number: int | None = None) -> pb.ToAgent:
        """Wait for the first message of this kind (and stream) that was not heard before."""
        return await self._hear_until(lambda m: self._is(m, what, number))

    async def acked(self, number: int, offset: int) -> pb.Ack.Stream:
        """Wait until this offset is acknowledged."""
        return await self._ack(number, lambda s: s.durable_offset >= offset)

    async def ended(self, number: int) -> pb.Ack.Stream:
        """Wait until the stream's end is acknowledged."""
        return await self._ack(number, lambda s: s.ended)

    async def _ack(self, number: int, holds: Callable[[pb.Ack.Stream], bool]) -> pb.Ack.Stream:
        found: list[pb.Ack.Stream] = []

        def has(message: pb.ToAgent) -> bool:
            found[:] = [s for s in message.ack.streams if s.number == number and holds(s)]
            return bool(found)

        await self._hear_until(has, take=False)
        return found[0]

    async def _hear_until(
        self, holds: Callable[[pb.ToAgent], bool], take: bool = True
    ) -> pb.ToAgent:
        async with asyncio.timeout(HANG_S):
            while True:
                for message in self.heard:
                    if holds(message):
                        if take:
                            self.heard.remove(message)
                        return message
                if self._listener.done():
                    raise ConnectionError(f"the call ended: {self.error}; heard {self.heard}")
                self._news.clear()
                await self._news.wait()

    @staticmethod
    def _is(message: pb.ToAgent, what: str, number: int | None) -> bool:
        if message.WhichOneof("what") != what:
            return False
        return number is None or getattr(message, what).number == number

    async def half_close(self) -> None:
        """Leave: nothing more is sent; wait until the call has ended."""
        await self._call.done_writing()
        async with asyncio.timeout(HANG_S):
            await self._listener

    async def over(self) -> grpc.StatusCode:
        """Wait for the call's end and return its status."""
        async with asyncio.timeout(HANG_S):
            await self._listener
            code: grpc.StatusCode = await self._call.code()
            return code

    async def close(self) -> None:
        self._call.cancel()
        await asyncio.wait([self._listener])


@asynccontextmanager
async def connected(address: str, hello: bool = True, **more: Any) -> AsyncIterator[AgentLike]:
    """A connection that has said Hello, unless told otherwise."""
    metadata = more.pop("metadata", None)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = rpc.CollectorStub(channel)  # type: ignore[no-untyped-call]
        agent = AgentLike(stub.Ship(metadata=metadata))
        try:
            if hello:
                await agent.hello(**more)
            yield agent
        finally:
            await agent.close()
