"""``logboom agent``: ships this node's spool to a collector."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import Any

# gRPC's core writes words of its own to stderr; ours say what an operator needs.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from logboom.agent import custody, words
from logboom.agent.config import AgentSettings
from logboom.agent.lock import take_lock, write_holder
from logboom.agent.node import Node, Said, check_address, make_node
from logboom.agent.session import Purpose
from logboom.agent.ship import Shipper
from logboom.agent.spool import Rights, SpoolError, check_spool
from logboom.agent.watch import Watch
from logboom.format.errors import LogboomError, UsageError
from logboom.format.ids import check_name
from logboom.settings import Parser, load, read_token

DESCRIPTORS_A_STREAM = 5  # folder, newest segment and one that is read, each with its spans
DESCRIPTORS_OF_OTHERS = 60  # gRPC dies where it gets none
_log = logging.getLogger("logboom.agent")


def _parser() -> Parser:
    parser = Parser(
        prog="logboom agent",
        description="Ship this node's spool to a collector.",
        epilog="Each setting is also a variable: --node-id is LOGBOOM_NODE_ID.",
    )
    fields = AgentSettings.model_fields
    for name, metavar in (
        ("spool", "DIR"), ("collector", "HOST:PORT"), ("node_id", "ID"), ("node_ip", "IP"),
        ("token_file", "FILE"),
    ):  # fmt: skip
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, metavar=metavar, help=fields[name].description)
    for name in ("until_drained", "leave_when_idle"):
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, action="store_true", help=fields[name].description)
    parser.add_argument("--config", metavar="FILE", help="a TOML file with these settings")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent until it leaves; return its exit status."""
    try:
        flags = vars(_parser().parse_args(argv))
        config = flags.pop("config", "")
        settings = load(AgentSettings, flags, config=config)
        return _run(settings, flags)
    except LogboomError as error:
        print(f"logboom: {error}", file=sys.stderr)
        return error.exit_status


def _run(settings: AgentSettings, flags: dict[str, Any]) -> int:
    if not settings.collector:
        raise UsageError("no collector is named", "give --collector HOST:PORT")
    said = Said(
        flags.get("node_id", ""), flags.get("node_ip", ""), settings.node_id, settings.node_ip
    )
    if settings.node_id:
        check_name("node id", settings.node_id)
    if settings.node_ip:
        check_address(settings.node_ip)
    token = read_token(settings)
    spool = os.path.abspath(settings.spool)
    rights = _make_spool(spool)
    lock_fd = take_lock(spool, rights)
    try:
        node = make_node(spool, rights, said, settings.collector, os.urandom(16))
        write_holder(lock_fd, node.id, settings.collector)
        stream_limit = _prepare()
        _log.info(
            "agent of node %s (%s) ships %s to %s", node.id, node.ip, spool, settings.collector
        )
        custody.sweep(spool, rights)
        left = asyncio.run(_ship(settings, spool, rights, token, node, stream_limit))
    finally:
        os.close(lock_fd)
    if left.text:
        print(f"logboom: {left.text}", file=sys.stderr)
    return left.exit_status


def _make_spool(spool: str) -> Rights:
    if not os.path.lexists(spool):
        try:
            os.makedirs(spool, 0o700)
        except OSError as error:
            raise SpoolError(f"spool {spool} cannot be made: {error.strerror}") from error
    return check_spool(spool)


def _prepare() -> int:
    """Set up logging and descriptors; return how many streams can be watched at once."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        hard = 1 << 20
    return max(1, (hard - DESCRIPTORS_OF_OTHERS) // DESCRIPTORS_A_STREAM)


async def _ship(
    settings: AgentSettings,
    spool: str,
    rights: Rights,
    token: str,
    node: Node,
    stream_limit: int,
) -> words.Leave:
    purpose = Purpose(settings.until_drained, settings.leave_when_idle)
    watch = Watch(spool, rights, stream_limit)
    shipper = Shipper(watch, rights, settings.collector, token, node, purpose)
    is_stopping = False

    def stop(number: int) -> None:
        nonlocal is_stopping
        if is_stopping:
            _log.warning("leaving at once; what is unsent stays in the spool")
            shipper.abandon()
            return
        is_stopping = True
        _log.info("%s: what is there goes out, then we leave", signal.Signals(number).name)
        shipper.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    left = await shipper.run()
    _log.info(
        "delivered whole: %d streams, %s bytes",
        shipper.delivered_streams,
        f"{shipper.delivered_bytes:,}",
    )
    return left


if __name__ == "__main__":
    sys.exit(main())
