"""What one connection has to say to its agent: bounded, acknowledgements joined into one."""

from __future__ import annotations

import asyncio
from typing import Protocol

from logboom.wire.v1 import logboom_pb2 as pb

_LIMIT = 4096  # messages; a peer that does not read is not read from
MIN_GAP_MS = 2


class Acknowledging(Protocol):
    """What may have something to acknowledge: a lane."""

    def acknowledgement(self) -> pb.Ack.Stream | None:
        """Return what there is to acknowledge now."""
        ...


class Outbox:
    """Messages in order, and lanes that have something to acknowledge."""

    def __init__(self) -> None:
        self._messages: list[pb.ToAgent] = []
        self._lanes: dict[Acknowledging, None] = {}
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._is_closed = False

    def say(self, message: pb.ToAgent) -> None:
        """Queue a message."""
        self._messages.append(message)
        self._filled.set()
        if len(self._messages) >= _LIMIT:
            self._room.clear()

    def acknowledge(self, lane: Acknowledging) -> None:
        """Queue a lane's acknowledgement: what it is when it is sent."""
        self._lanes[lane] = None
        self._filled.set()

    async def room(self) -> None:
        """Wait until the peer has taken enough."""
        await self._room.wait()

    def close(self) -> None:
        """Nothing more will be queued."""
        self._is_closed = True
        self._filled.set()

    async def next(self) -> list[pb.ToAgent]:
        """Wait for messages and take them all; none: it was closed and all are taken."""
        while True:
            await self._filled.wait()
            messages = self._take()
            if messages or self._is_closed:
                return messages

    def _take(self) -> list[pb.ToAgent]:
        if not self._is_closed:
            self._filled.clear()
        self._room.set()
        messages, self._messages = self._messages, []
        lanes, self._lanes = self._lanes, {}
        ack = pb.Ack(min_gap_ms=MIN_GAP_MS)
        for lane in lanes:
            news = lane.acknowledgement()
            if news is not None:
                ack.streams.append(news)
        if ack.streams:
            messages.append(pb.ToAgent(ack=ack))
        return messages
