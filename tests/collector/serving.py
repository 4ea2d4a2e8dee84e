"""A collector in this process, for tests that speak to it over a real channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from logboom.collector.config import CollectorSettings
from logboom.collector.server import Collector, collector


@asynccontextmanager
async def serving(data: Path, **more: str) -> AsyncIterator[Collector]:
    """A collector of ``data`` on a free port."""
    async with collector(CollectorSettings(data=data, listen="127.0.0.1:0", **more)) as running:  # type: ignore[arg-type]
        yield running
