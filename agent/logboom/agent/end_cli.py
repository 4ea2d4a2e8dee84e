"""``logboom end RUN``: closes a run by hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core has words of its own on stderr

import grpc

from logboom.agent.config import AgentSettings
from logboom.agent.connection import CALL_TIMEOUT_S, OPTIONS, explain, metadata
from logboom.format.errors import LogboomError, UsageError
from logboom.format.ids import check_name
from logboom.settings import Parser, load, read_token
from logboom.wire.v1 import logboom_pb2 as pb
from logboom.wire.v1 import logboom_pb2_grpc as rpc


def main(argv: Sequence[str] | None = None) -> int:
    """End the run; return 0 also where it was ended by hand before."""
    parser = Parser("logboom end", "Close a run by hand.")
    parser.add_argument("run", metavar="RUN", help="the run's id")
    parser.add_argument("--collector", metavar="HOST:PORT", help="also LOGBOOM_COLLECTOR")
    parser.add_argument("--reason", metavar="TEXT", default="ended by hand", help="why")
    parser.add_argument("--token-file", metavar="FILE", help="a file with the token")
    parser.add_argument("--config", metavar="FILE", default="", help="a TOML file with settings")
    try:
        flags = vars(parser.parse_args(argv))
        run_id = check_name("run id", flags.pop("run"))
        reason, config = flags.pop("reason"), flags.pop("config")
        settings = load(AgentSettings, flags, config=config)
        if not settings.collector:
            raise UsageError("no collector is named", "give --collector HOST:PORT")
        was_closed = _end(run_id, reason, settings.collector, read_token(settings))
    except LogboomError as error:
        print(f"logboom: {error}", file=sys.stderr)
        return error.exit_status
    print(f"run {run_id} " + ("had been ended before" if was_closed else "is ended"))
    return 0


def _end(run_id: str, reason: str, address: str, token: str) -> bool:
    request = pb.EndRunRequest(run_id=run_id, reason=reason)
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        stub = rpc.CollectorStub(channel)  # type: ignore[no-untyped-call]
        try:
            reply = stub.EndRun(request, metadata=metadata(token), timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            raise _explain(run_id, address, error) from error
    return bool(reply.was_closed)


def _explain(run_id: str, address: str, error: grpc.RpcError) -> LogboomError:
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.NOT_FOUND:
        return LogboomError(f"the collector {address} knows no run {run_id}")
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
        return LogboomError(f"run {run_id} was not ended: {details}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return LogboomError(f"the collector {address} did not answer in {CALL_TIMEOUT_S:.0f} s")
    return LogboomError(explain(address, code, details).reason)


if __name__ == "__main__":
    sys.exit(main())
