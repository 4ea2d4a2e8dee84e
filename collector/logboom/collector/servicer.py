"""The gRPC service: converts, delegates, answers; and asks for the token."""

from __future__ import annotations

import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from logboom.collector.commit import StoreInTrouble
from logboom.collector.ingest import Context, Ingest
from logboom.collector.readout import Readout, UnknownStream
from logboom.collector.run import RunFellBack
from logboom.collector.store import UnknownRun
from logboom.format.errors import LogboomError, UsageError
from logboom.wire.v1 import logboom_pb2 as pb
from logboom.wire.v1 import logboom_pb2_grpc as rpc

SERVICE = "logboom.wire.v1.Collector"
_HEALTH = "/grpc.health.v1.Health/"
_NO_TOKEN = "it asks for a token, and none was brought; set LOGBOOM_TOKEN or --token-file"
_WRONG_TOKEN = "it asks for another token than the one that was brought"
log = logging.getLogger(__name__)
if TYPE_CHECKING:
    Details = grpc.HandlerCallDetails
    Handler = grpc.RpcMethodHandler[Any, Any]


class CollectorServicer(rpc.CollectorServicer):
    """The four calls of the service."""

    def __init__(self, ingest: Ingest, readout: Readout) -> None:
        self._ingest = ingest
        self._readout = readout

    async def Ship(self, request_iterator: object, context: Context) -> None:
        await self._ingest.ship(context)

    async def Read(self, request: pb.ReadRequest, context: Context) -> AsyncIterator[pb.ReadReply]:
        try:
            async for reply in self._readout.read(request):
                yield reply
        except (LogboomError, OSError) as error:
            await _abort(context, error)

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.Run:
        try:
            return await self._readout.get_run(request)
        except (LogboomError, OSError) as error:
            await _abort(context, error)

    async def EndRun(self, request: pb.EndRunRequest, context: Context) -> pb.EndRunReply:
        try:
            return await self._readout.end_run(request)
        except (LogboomError, OSError) as error:
            await _abort(context, error)


async def _abort(context: Context, error: LogboomError | OSError) -> NoReturn:
    code = grpc.StatusCode.INTERNAL
    if isinstance(error, (UnknownRun, UnknownStream)):
        code = grpc.StatusCode.NOT_FOUND
    elif isinstance(error, UsageError):
        code = grpc.StatusCode.INVALID_ARGUMENT
    elif isinstance(error, (StoreInTrouble, RunFellBack, OSError)):
        code = grpc.StatusCode.UNAVAILABLE
    await context.abort(code, str(error))
    raise error


class TokenCheck(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # no generic when run
    """Lets in who brings the token. Health is for everybody: a probe has no token."""

    def __init__(self, token: str) -> None:
        self._expected = b"Bearer " + token.encode()

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Handler]], details: Details
    ) -> Handler:
        brought = dict(details.invocation_metadata).get("authorization", "")
        if isinstance(brought, str):
            brought = brought.encode()
        if details.method.startswith(_HEALTH) or hmac.compare_digest(brought, self._expected):
            return await continuation(details)
        return grpc.stream_stream_rpc_method_handler(_refuse_wrong if brought else _refuse_none)


async def _refuse_none(request_iterator: object, context: Context) -> None:
    await _refuse(context, _NO_TOKEN)


async def _refuse_wrong(request_iterator: object, context: Context) -> None:
    await _refuse(context, _WRONG_TOKEN)


async def _refuse(context: Context, why: str) -> None:
    log.warning("%s is refused: %s", context.peer(), why)
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, why)
