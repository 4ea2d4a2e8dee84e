"""Ship: between one gRPC call and one ``Connection``. Transport only."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import unquote

import grpc

from logboom.collector.connection import Connection, check_hello
from logboom.collector.datafolder import Nodes
from logboom.collector.outbox import Outbox
from logboom.collector.store import Store
from logboom.format.errors import LogboomError
from logboom.wire.v1 import logboom_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]
log = logging.getLogger(__name__)


class Stopping(Exception):
    """The collector is ending: nothing more is taken."""


class Ingest:
    """Serves Ship calls until ``stopping`` is set."""

    def __init__(self, store: Store, nodes: Nodes, store_id: str, version: str) -> None:
        self.stopping = asyncio.Event()
        self._store = store
        self._nodes = nodes
        self._store_id = store_id
        self._version = version
        self._granting = asyncio.Lock()
        self._served = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def stop(self) -> None:
        """Take nothing more; wait until what was taken is acknowledged on every connection."""
        self.stopping.set()
        await self._idle.wait()

    async def ship(self, context: Context) -> None:
        """Serve one call."""
        first = await context.read()
        if not isinstance(first, pb.FromAgent) or first.WhichOneof("what") != "hello":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the agent speaks first: Hello")
        hello = first.hello
        try:
            check_hello(hello)
            node_id = await self._grant(hello)
        except (LogboomError, OSError) as error:
            is_passing = isinstance(error, OSError)
            log.warning("agent of %s is refused: %s", context.peer(), error)
            refused = pb.Refused(number=0, reason=str(error), retry=is_passing)
            await context.write(pb.ToAgent(refused=refused))
            return
        node_ip = hello.node_ip or _address(context.peer())
        log.info("node %s (%s) is connected", node_id, node_ip)
        refusal: tuple[grpc.StatusCode, str] | None = None
        self._served += 1
        self._idle.clear()
        try:
            await self._serve(context, node_id, node_ip)
        except* Stopping:
            refusal = (grpc.StatusCode.UNAVAILABLE, "the collector is stopping")
        except* LogboomError as group:
            refusal = (grpc.StatusCode.INVALID_ARGUMENT, str(group.exceptions[0]))
            log.warning("node %s breaks the protocol: %s", node_id, refusal[1])
        finally:
            self._served -= 1
            if not self._served:
                self._idle.set()
            log.info("node %s is gone", node_id)
        if refusal is not None:
            await context.abort(*refusal)

    async def _serve(self, context: Context, node_id: str, node_ip: str) -> None:
        outbox = Outbox()
        async with asyncio.TaskGroup() as tasks:
            connection = Connection(self._store, outbox, node_id, node_ip, tasks)
            connection.welcome(self._store_id, self._version)
            writer = tasks.create_task(_write(context, outbox))
            reader = tasks.create_task(_read(context, connection))
            stop = tasks.create_task(self.stopping.wait())
            try:
                await asyncio.wait({reader, stop}, return_when=asyncio.FIRST_COMPLETED)
                is_stopping = not reader.done()
                reader.cancel()
                await connection.drain()
                stop.cancel()
                outbox.close()
                await writer
                if is_stopping:
                    raise Stopping
            finally:
                connection.leave()

    async def _grant(self, hello: pb.Hello) -> str:
        async with self._granting:
            return await asyncio.to_thread(self._nodes.grant, hello.node_id, hello.spool_id)


async def _read(context: Context, connection: Connection) -> None:
    while True:
        message = await context.read()
        if not isinstance(message, pb.FromAgent):
            return
        await connection.handle(message)


async def _write(context: Context, outbox: Outbox) -> None:
    while messages := await outbox.next():
        for message in messages:
            await context.write(message)


def _address(peer: str) -> str:
    """Return the IP address in gRPC's word for a peer (``ipv4:10.0.0.5:4319``)."""
    kind, _, rest = unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return rest.rpartition(":")[0].strip("[]")
