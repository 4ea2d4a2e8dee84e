"""Ships a spool: carries out what the session decides, between watch, keeper and connection."""

from __future__ import annotations

import asyncio
import collections
import logging
import random
import time
from collections.abc import Coroutine
from functools import singledispatchmethod
from typing import Any

from logboom.agent import words as w
from logboom.agent.connection import Connection
from logboom.agent.custody import digest_of, leave_hint
from logboom.agent.keeper import Keeper
from logboom.agent.node import Node
from logboom.agent.phase import OutOfTurn
from logboom.agent.session import VERSION, Purpose, Session
from logboom.agent.spool import Rights
from logboom.agent.watch import Watch
from logboom.format.stream import End
from logboom.wire.convert import attributes_to_message
from logboom.wire.v1 import logboom_pb2 as pb

GLANCE_LEAST_S = 0.005  # a line is under way within milliseconds
GLANCE_MOST_S = 0.25  # nobody waits longer for the first line after a pause
GLANCE_COST = 0.02  # of a core, whatever the number of streams
QUIET_S = 5.0
LOOK_S = 2.0
TICK_S = 1.0
STOP_S = 5.0  # what is there goes out within that after the first signal
_log = logging.getLogger("logboom.agent")


class Shipper:
    """Runs one agent until it leaves. ``stop`` may be called once, then ``abandon``."""

    def __init__(
        self, watch: Watch, rights: Rights, address: str, token: str, node: Node, purpose: Purpose
    ) -> None:
        self._address = address
        self._token = token
        self._node = node
        self._watch = watch
        self._rights = rights
        self._keeper = Keeper(rights)
        self._session = Session(purpose, random.random, time.monotonic())
        self._connection: Connection | None = None
        self._calling: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._crash: BaseException | None = None
        self._events: collections.deque[w.Event] = collections.deque()
        self._is_handling = False
        self._wake = asyncio.Event()
        self._left: w.Leave | None = None
        self.delivered_streams = self.delivered_bytes = 0
        self._is_abandoned = False
        self._glance_at = self._look_at = self._moved_at = 0.0

    async def run(self) -> w.Leave:
        """Ship until the session leaves; return how it left."""
        self._spawn(self._keeper.run())
        try:
            while self._left is None:
                self._poll()
                if self._left is None:
                    await self._sleep()
                if self._crash is not None:
                    raise self._crash
            if not self._is_abandoned:
                await self._keeper.finish()
            return self._left
        finally:
            self._drop()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._crash = task.exception()
            self._wake.set()

    def stop(self) -> None:
        """Send what is there, for a bounded time, then leave."""
        self._look_at = 0.0
        self._poll()
        self._tell(w.Stopped(time.monotonic() + STOP_S))

    def abandon(self) -> None:
        """Leave at once."""
        self._is_abandoned = True
        self._left = self._left or w.Leave(0)
        self._wake.set()

    async def _sleep(self) -> None:
        self._wake.clear()  # what is known by now is in the deadline
        now = time.monotonic()
        until = min(self._glance_at, self._look_at, self._session.deadline(), now + TICK_S)
        timer = asyncio.get_running_loop().call_later(max(0.0, until - now), self._wake.set)
        await self._wake.wait()
        timer.cancel()

    def _poll(self) -> None:
        now = time.monotonic()
        if now >= self._look_at:
            self._tell_all(self._watch.look())
            took_s = time.monotonic() - now
            self._look_at = now + max(LOOK_S, took_s / GLANCE_COST)
        elif now >= self._glance_at:
            events = self._watch.glance()
            cost_s = time.monotonic() - now
            if events:
                self._moved_at = now
            least_s = GLANCE_MOST_S if now - self._moved_at > QUIET_S else GLANCE_LEAST_S
            self._glance_at = now + min(max(cost_s / GLANCE_COST, least_s), GLANCE_MOST_S)
            self._tell_all(events)
        self._tell(w.Ticked())

    def _tell_all(self, events: list[w.FromSpool]) -> None:
        for event in events:
            self._tell(event)

    def _tell(self, event: w.Event) -> None:
        """Give the session an event, and do what it says, in order."""
        self._events.append(event)
        if self._is_handling:
            return
        self._is_handling = True
        try:
            while self._events:
                event = self._events.popleft()
                try:
                    actions = self._session.handle(event, time.monotonic())
                except OutOfTurn as error:
                    self._drop()
                    reason = f"the collector {self._address} broke the protocol: {error}"
                    self._events.appendleft(w.Disconnected(reason))
                    continue
                for action in actions:
                    _DO.dispatch(type(action))(self, action)
        finally:
            self._is_handling = False
        self._wake.set()

    def _send(self, message: pb.FromAgent) -> None:
        if self._connection is not None:
            self._connection.send(message)

    def _drop(self) -> None:
        if self._connection is not None and self._calling is not None:
            self._connection.mute()
            self._calling.cancel()
            self._connection = self._calling = None

    @singledispatchmethod
    def _do(self, action: w.Action) -> None:
        raise NotImplementedError(repr(action))

    @_do.register
    def _(self, action: w.Connect) -> None:
        self._drop()
        self._connection = Connection(self._address, self._token, self._tell)
        self._calling = self._spawn(self._connection.run())

    @_do.register
    def _(self, action: w.Disconnect) -> None:
        self._drop()

    @_do.register
    def _(self, action: w.SendHello) -> None:
        hello = pb.Hello(
            oldest_version=VERSION, newest_version=VERSION, program_version=self._node.program,
            node_id=self._node.id, node_ip=self._node.ip, spool_id=self._node.spool_id,
            boot_id=self._node.boot_id,
        )  # fmt: skip
        self._send(pb.FromAgent(hello=hello))

    @_do.register
    def _(self, action: w.SendPing) -> None:
        self._send(pb.FromAgent(ping=pb.Ping(sequence=action.sequence)))

    @_do.register
    def _(self, action: w.SendOpen) -> None:
        watched = self._watch.get(action.stream)
        if watched is None:
            self._tell(w.Vanished(action.stream))
            return
        opened = pb.Open(
            number=action.number,
            attributes=attributes_to_message(watched.attributes),
            lowest_offset=max(watched.stream.lowest, action.at_least),
            clock_offset_ns=action.clock_offset_ns,
            clock_error_ns=action.clock_error_ns,
        )
        self._send(pb.FromAgent(open=opened))

    @_do.register
    def _(self, action: w.SendBatch) -> None:
        pieces = []
        for part in action.parts:
            piece = self._read(part)
            if piece is not None:
                pieces.append(piece)
        if pieces and self._connection is not None:
            self._connection.send_batch(pieces)
        else:
            self._tell(w.Sent())

    def _read(self, part: w.Part) -> tuple[int, int, bytes, bytes] | None:
        watched = self._watch.get(part.stream)
        if watched is None:
            self._tell(w.Vanished(part.stream))
            return None
        try:
            content = watched.stream.read(
                part.start, part.end - part.start, part.end, watched.end is not None
            )
            if not content.raw:
                watched.stream.refresh()
                lacking = watched.stream.lacks(part.start)
                if lacking is None and watched.end is not None:
                    lacking = (part.start, watched.end.length)
                if lacking is None:
                    raise FileNotFoundError(f"no bytes at {part.start}")
                self._tell(w.Lacked(part.stream, part.start, lacking[1]))
                return None
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                _log.error("stream %s cannot be read: %s", part.stream, error)
            self._watch.lose(part.stream)
            self._tell(w.Vanished(part.stream))
            return None
        if content.end < part.end:
            self._tell(w.Shortened(part.stream, content.end))
        return part.number, part.start, content.spans, content.raw

    @_do.register
    def _(self, action: w.SendEnd) -> None:
        watched, connection = self._watch.get(action.stream), self._connection
        if watched is None or connection is None:
            return
        self._spawn(self._send_end(action, connection))

    async def _send_end(self, action: w.SendEnd, connection: Connection) -> None:
        watched = self._watch.get(action.stream)
        if watched is None:
            return
        end: End = action.end
        try:
            digest = await asyncio.to_thread(digest_of, watched.stream.place, end.length)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                _log.error("stream %s cannot be read: %s", action.stream, error)
            self._watch.lose(action.stream)
            self._tell(w.Vanished(action.stream))
            return
        if connection is self._connection:
            message = pb.End(
                number=action.number, length=end.length, digest=digest, why=end.why.value,
                boot_ns=end.boot_ns,
            )  # fmt: skip
            connection.send(pb.FromAgent(end=message))

    @_do.register
    def _(self, action: w.HalfClose) -> None:
        if self._connection is not None:
            self._connection.half_close()

    @_do.register
    def _(self, action: w.Trim) -> None:
        watched = self._watch.get(action.stream)
        if watched is None:
            return
        leave_hint(watched.stream, action.offset, self._rights)
        starts = watched.stream.starts
        if len(starts) > 1 and starts[1] <= action.offset:
            self._keeper.trim(watched.stream.place, action.offset)

    @_do.register
    def _(self, action: w.Retire) -> None:
        watched = self._watch.get(action.stream)
        if watched is not None:
            self.delivered_streams += 1
            self.delivered_bytes += watched.end.length if watched.end is not None else 0
            self._keeper.retire(watched.stream.place)
            self._watch.forget(action.stream)

    @_do.register
    def _(self, action: w.Refuse) -> None:
        watched = self._watch.get(action.stream)
        if watched is not None:
            self._keeper.refuse(watched.stream.place)
            self._watch.forget(action.stream)

    @_do.register
    def _(self, action: w.Look) -> None:
        self._look_at = 0.0

    @_do.register
    def _(self, action: w.Report) -> None:
        _log.log(logging.getLevelNamesMapping()[action.level], "%s", action.text)

    @_do.register
    def _(self, action: w.Leave) -> None:
        self._left = action


# Looked up here: through the instance, each call would build a wrapper, ten times its own cost.
_DO: Any = vars(Shipper)["_do"].dispatcher
