"""One collector: the one place that starts everything and stops it in order.

Law: stopping means no new input, then everything taken is committed and acknowledged, then the
calls end, then the folder is let go; each a line in the log, all under one deadline.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import resource
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

import grpc
from grpc_health.v1 import _async as aio_health
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from logboom.collector.caretaker import Caretaker
from logboom.collector.commit import Committer
from logboom.collector.config import CollectorSettings, parse_address
from logboom.collector.datafolder import Nodes, owned, store_id
from logboom.collector.follower import Follower
from logboom.collector.group import Group, Owner
from logboom.collector.ingest import Ingest
from logboom.collector.local import LocalStorage
from logboom.collector.readout import Readout
from logboom.collector.servicer import SERVICE, CollectorServicer, TokenCheck
from logboom.collector.store import Store
from logboom.format.errors import LogboomError
from logboom.settings import read_token
from logboom.wire.v1 import logboom_pb2 as pb
from logboom.wire.v1 import logboom_pb2_grpc as rpc

_MESSAGE_LIMIT_BYTES = 16 << 20  # a batch of 2 MiB that does not compress, with many spans
_OPTIONS = [
    ("grpc.so_reuseport", 0),  # else a second collector would share the address
    ("grpc.max_receive_message_length", _MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_LIMIT_BYTES),
    ("grpc.keepalive_time_ms", 20_000),  # a node that vanished leaves no connection behind
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
]
_DESCRIPTORS_OF_OTHERS = 512  # connections and libraries
_THREADS = 4
_GRACE_S = 0.2  # for statuses to leave; readers that follow are cut off
log = logging.getLogger(__name__)


class AddressInUse(LogboomError):
    """The collector cannot listen where it was told to."""


class Collector:
    """A running collector. ``address`` is where it listens."""

    def __init__(self, address: str, ingest: Ingest, server: grpc.aio.Server) -> None:
        self.address = address
        self._ingest = ingest
        self._server = server

    async def stop(self) -> None:
        """Take nothing more; acknowledge what was taken; end the calls."""
        log.info("stopping: nothing more is taken")
        await self._ingest.stop()
        await self._server.stop(grace=_GRACE_S)


@asynccontextmanager
async def collector(config: CollectorSettings) -> AsyncIterator[Collector]:
    """Open the data folder and serve. Raises ``LogboomError`` where it cannot."""
    token = read_token(config)
    limit = raise_descriptor_limit()
    with (
        owned(config.data),
        LocalStorage(config.data, max(64, (limit - _DESCRIPTORS_OF_OTHERS) // 2)) as storage,
        ThreadPoolExecutor(_THREADS, "store") as threads,
    ):
        nodes = Nodes(storage)
        nodes.load()
        own_id = store_id(storage, os.urandom(16))
        servicer = aio_health.HealthServicer()
        tasks: set[asyncio.Task[None]] = set()

        def on_health(trouble: str) -> None:
            if trouble:
                log.error("not serving: %s", trouble)
            else:
                log.info("serving")
            task = asyncio.create_task(set_health(servicer, is_serving=not trouble))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        def forget(owners: set[Owner]) -> None:
            store.forget(owners)

        group = Group(storage)
        committer = Committer(group, on_health, forget)
        store = Store(storage, group, committer, threads)
        ingest = Ingest(store, nodes, own_id, own_version())
        server = make_server(token)
        rpc.add_CollectorServicer_to_server(  # type: ignore[no-untyped-call]
            CollectorServicer(ingest, Readout(store)), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        names = (pb.DESCRIPTOR.services_by_name["Collector"].full_name, health.SERVICE_NAME)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
        address = bind(server, config.listen)
        if not token and not is_loopback(config.listen):
            log.warning(
                "%s is open to everybody who reaches it; set LOGBOOM_TOKEN or --token-file", address
            )
        async with asyncio.TaskGroup() as group_of_tasks:
            commits = group_of_tasks.create_task(committer.run())
            follower = Follower(store)
            following = group_of_tasks.create_task(follower.run())
            care = group_of_tasks.create_task(Caretaker(store, follower).run())
            await server.start()
            await set_health(servicer, is_serving=True)
            log.info("store %s in %s", own_id, config.data)
            try:
                yield Collector(address, ingest, server)
            finally:
                await server.stop(grace=0)
                care.cancel()
                await store.openings()
                store.tick()
                await committer.flush()
                log.info("all that was taken is committed")
                follower.end()
                await following
                await follower.stop(config.drain_timeout_s / 2)
                commits.cancel()
                # What a thread has begun is waited for, as long as the deadline lets it: the
                # folder must not be let go while it is written. Nothing else is begun.
                threads.shutdown(wait=False, cancel_futures=True)


def make_server(token: str) -> grpc.aio.Server:
    """Return a server that asks for ``token``, if there is one."""
    interceptors = [TokenCheck(token)] if token else []
    return grpc.aio.server(interceptors=interceptors, options=_OPTIONS)


def bind(server: grpc.aio.Server, listen: str) -> str:
    """Listen; return the address with the port that it has. Raises ``AddressInUse``."""
    host, _ = parse_address(listen)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError:
        port = 0
    if not port:
        raise AddressInUse(
            f"cannot listen on {listen}: the address is in use, or is not of this machine",
            "name another with --listen",
        )
    return f"{host}:{port}"


def is_loopback(listen: str) -> bool:
    """Say whether only this machine reaches what listens there."""
    host = parse_address(listen)[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def set_health(servicer: aio_health.HealthServicer, is_serving: bool) -> None:
    """Answer health checks so."""
    status = health_pb2.HealthCheckResponse
    code = status.SERVING if is_serving else status.NOT_SERVING
    for name in ("", SERVICE):
        await servicer.set(name, code)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of descriptors to the hard one; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return wanted if soft == resource.RLIM_INFINITY else min(soft, 65536)


def own_version() -> str:
    """Return this distribution's version."""
    try:
        return version("logboom")
    except PackageNotFoundError:
        return "0"
