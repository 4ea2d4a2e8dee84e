"""``logboom collector``: receive streams, keep the tree."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from logboom.collector.config import CollectorConfig, from_process
from logboom.collector.server import collector
from logboom.format.errors import LogboomError

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    words = argparse.ArgumentParser(prog="logboom collector", description=__doc__)
    words.add_argument("--data", metavar="DIR", help="the data folder; made if it is missing")
    words.add_argument(
        "--listen", metavar="HOST:PORT", help="default 127.0.0.1:4319; port 0 takes a free one"
    )
    words.add_argument("--token-file", metavar="FILE", help="the token that agents must bring")
    words.add_argument("--config", metavar="FILE", type=Path, help="settings as TOML")
    return words


def main(argv: Sequence[str] | None = None) -> int:
    """Run a collector until SIGTERM or SIGINT. Return the exit status."""
    found = vars(parser().parse_args(argv))
    config_file = found.pop("config")
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        config = from_process({k: v for k, v in found.items() if v is not None}, config_file)
        asyncio.run(serve(config))
    except LogboomError as error:
        print(f"logboom: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 1
    return 0


async def serve(config: CollectorConfig) -> None:
    """Serve until a signal; a second one ends at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            log.error("a second signal: ending at once")
            os._exit(1)
        stop.set()

    try:
        async with collector(config) as running:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, on_signal)
            print(f"listening on {running.address}", flush=True)
            await stop.wait()
            loop.call_later(config.drain_timeout_s, give_up)
            await running.stop()
    except* LogboomError as group:
        raise group.exceptions[0] from None


def give_up() -> None:
    """End without having drained: the agents keep what was not acknowledged."""
    log.error("the time for stopping is over; what was not acknowledged stays with the agents")
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
