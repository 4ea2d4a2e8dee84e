"""One call to the collector: messages out in order, messages in as events. No decisions.

Every connection has a channel of its own: a shared one would keep gRPC's back-off (up to two
minutes) between us and a collector that has long been back.

Compressing takes longer than all else that an agent does, so it has a thread: while one batch is
compressed the one before is written, and the loop is free.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import grpc

from logboom.agent import words as w
from logboom.wire.batch import BatchWriter
from logboom.wire.v1 import logboom_pb2 as pb
from logboom.wire.v1 import logboom_pb2_grpc as rpc

CALL_TIMEOUT_S = 10.0
THREAD_BYTES = 64 << 10  # a smaller batch is compressed sooner than a thread is woken
Pieces = list[tuple[int, int, bytes, bytes]]  # number, offset, spans, raw bytes
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),  # a proxy for the job's downloads is none for its logs
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 16 << 20),
)
_FINAL = {
    grpc.StatusCode.UNIMPLEMENTED: "{address} is not a logboom collector",
    grpc.StatusCode.UNAUTHENTICATED: "the collector {address} refuses us: {details}",
    grpc.StatusCode.PERMISSION_DENIED: "the collector {address} does not take our token: {details}",
}
# What gRPC says of a peer that speaks something else: it has no status code of its own.
_FOREIGN = ("http1.x server", "http/1", "settings frame", "not http2", "wrong version number")


def metadata(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata that carries the token."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def make_channel(address: str) -> grpc.aio.Channel:
    """Return a channel to a collector."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)


def explain(address: str, code: grpc.StatusCode, details: str) -> w.Disconnected:
    """Say in our words why a call ended, and whether it will never be otherwise."""
    details = " ".join(details.split())
    if code in _FINAL:
        return w.Disconnected(_FINAL[code].format(address=address, details=details), True)
    if any(word in details.lower() for word in _FOREIGN):
        return w.Disconnected(f"{address} is not a logboom collector (it speaks no gRPC)", True)
    if code is grpc.StatusCode.OK:
        return w.Disconnected(f"the collector {address} ended the connection")
    if code is grpc.StatusCode.UNAVAILABLE:
        last = details.rpartition(": ")[2]  # what gRPC's layers say before it is theirs
        return w.Disconnected(f"the collector {address} does not answer ({last.lower()})")
    return w.Disconnected(f"the connection to {address} failed: {code.name.lower()}, {details}")


def events_of(message: pb.ToAgent) -> Iterator[w.Event]:
    """Yield the events in a message of the collector."""
    what = message.WhichOneof("what")
    if what == "ack":
        for stream in message.ack.streams:
            yield w.Acked(stream.number, stream.durable_offset, stream.ended)
        yield w.Paced(message.ack.min_gap_ms / 1000)
    elif what == "opened":
        opened = message.opened
        yield w.Opened(opened.number, opened.durable_offset, opened.ended)
    elif what == "resume":
        yield w.Resumed(message.resume.number, message.resume.offset)
    elif what == "refused":
        yield w.Refused(message.refused.number, message.refused.reason, message.refused.retry)
    elif what == "pong":
        yield w.Ponged(message.pong.sequence, message.pong.unix_ns, time.time_ns())
    elif what == "welcome":
        welcome = message.welcome
        yield w.Welcomed(
            welcome.version, welcome.node_id, welcome.store_id, welcome.batch_limit_bytes,
            welcome.window_bytes, welcome.min_gap_ms / 1000,
        )  # fmt: skip


class Connection:
    """A call from its beginning to its end. ``tell`` gets the events, ``Disconnected`` last.

    ``run`` is its one task; cancelled, or after ``mute``, it tells nothing any more.
    """

    def __init__(self, address: str, token: str, tell: Callable[[w.Event], None]) -> None:
        self._address = address
        self._token = token
        self._tell = tell
        self._outbox: asyncio.Queue[pb.FromAgent | Pieces | None] = asyncio.Queue()
        self._encoded: asyncio.Queue[pb.FromAgent | None] = asyncio.Queue(1)
        self._batches = BatchWriter()

    def send(self, message: pb.FromAgent) -> None:
        """Send a message after all before it."""
        self._outbox.put_nowait(message)

    def send_batch(self, pieces: Pieces) -> None:
        """Send a batch; ``Sent`` is told when the next may be given."""
        self._outbox.put_nowait(pieces)

    def half_close(self) -> None:
        """Say after all that was sent that nothing more comes."""
        self._outbox.put_nowait(None)

    def mute(self) -> None:
        """Tell nothing any more."""
        self._tell = lambda event: None

    async def run(self) -> None:
        """Connect, then carry messages until the call ends."""
        try:
            async with make_channel(self._address) as channel:
                ended = await self._call(channel)
        except grpc.aio.AioRpcError as error:
            ended = explain(self._address, error.code(), error.details() or "")
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            ended = w.Disconnected(f"the connection to {self._address} failed: {error}")
        self._tell(ended)

    async def _call(self, channel: grpc.aio.Channel) -> w.Disconnected:
        stub = rpc.CollectorStub(channel)  # type: ignore[no-untyped-call]
        call = stub.Ship(metadata=metadata(self._token))
        self._tell(w.Connected())
        tasks = asyncio.create_task(self._encode()), asyncio.create_task(self._write(call))
        try:
            while (message := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                for event in events_of(message):
                    self._tell(event)
            return explain(self._address, await call.code(), await call.details() or "")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            call.cancel()

    async def _write(self, call: grpc.aio.StreamStreamCall[pb.FromAgent, pb.ToAgent]) -> None:
        while (message := await self._encoded.get()) is not None:
            await call.write(message)
        await call.done_writing()

    async def _encode(self) -> None:
        while True:
            message = await self._outbox.get()
            if isinstance(message, list):
                is_small = sum(len(raw) for *_, raw in message) < THREAD_BYTES
                encode = self._batches.encode
                batch = encode(message) if is_small else await asyncio.to_thread(encode, message)
                await self._encoded.put(pb.FromAgent(batch=batch))
                self._tell(w.Sent())
            else:
                await self._encoded.put(message)
