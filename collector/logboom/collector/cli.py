"""``logboom collector``: receive streams, keep the tree."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

# gRPC's core writes words of its own to stderr; ours say what an operator needs.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from logboom.collector.config import CollectorSettings
from logboom.collector.server import collector
from logboom.format.errors import LogboomError
from logboom.settings import Parser, load

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
log = logging.getLogger(__name__)


def parser() -> Parser:
    """Return the command line."""
    fields = CollectorSettings.model_fields
    words = Parser("logboom collector", "Receive streams, keep the tree.")
    words.add_argument("--data", metavar="DIR", help=fields["data"].description)
    words.add_argument("--listen", metavar="HOST:PORT", help=fields["listen"].description)
    words.add_argument("--token-file", metavar="FILE", help=fields["token_file"].description)
    words.add_argument("--config", metavar="FILE", help="a TOML file with these settings")
    return words


def main(argv: Sequence[str] | None = None) -> int:
    """Run a collector until SIGTERM or SIGINT. Return the exit status."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        flags = vars(parser().parse_args(argv))
        config_file = flags.pop("config", "")
        config = load(CollectorSettings, flags, config=config_file)
        asyncio.run(serve(config))
    except LogboomError as error:
        print(f"logboom: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 1
    return 0


async def serve(config: CollectorSettings) -> None:
    """Serve until a signal; a second one ends at once.

    That, and the deadline, do not ask the event loop: it may be what is stuck.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    deadline = threading.Timer(config.drain_timeout_s, give_up)
    deadline.daemon = True

    def on_signal() -> None:
        if stop.is_set():  # both were there before the loop looked
            end_at_once()
        deadline.start()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, end_at_once)
        stop.set()

    try:
        async with collector(config) as running:
            for number in _SIGNALS:
                loop.add_signal_handler(number, on_signal)
            print(f"listening on {running.address}", flush=True)
            await stop.wait()
            await running.stop()
    except* LogboomError as group:
        raise group.exceptions[0] from None


def end_at_once(*signal_and_frame: object) -> None:
    """End without having drained: asked a second time."""
    log.error("a second signal: ending at once")
    os._exit(1)


def give_up() -> None:
    """End without having drained: the agents keep what was not acknowledged."""
    log.error("the time for stopping is over; what was not acknowledged stays with the agents")
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
