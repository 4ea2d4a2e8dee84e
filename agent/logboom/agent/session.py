"""The session: all that an agent says to a collector, decided without I/O.

Law
    * Events go in with the time, actions come out; the driver carries them out in order. The
      session keeps no state that matters: whoever starts with an empty one and tells it what is
      in the spool ships the same bytes.
    * Hello, then the clock is measured, then streams are opened, oldest start first; nothing of
      an old connection counts in a new one.
    * A byte is sent once it is known that the collector lacks it, from the offset that it named.
      ``Trim`` and ``Retire`` follow its word only, never ours.
    * At most one batch is under way; the next waits for ``Sent``, and for ``min_gap`` since the
      last one *began* unless it is full: the gap gathers small batches, it is no limit on speed.
      The window of unacknowledged bytes is that limit.
    * What stands in the way of one stream (refused for now, bytes lacking) never holds up others.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatchmethod
from typing import Any

from logboom.agent import words as w
from logboom.agent.backoff import Backoff
from logboom.agent.clock import Clock
from logboom.agent.phase import OutOfTurn, Phase, Step, following
from logboom.agent.share import Turns
from logboom.agent.shipment import Shipment, State, Turn

VERSION = 1  # of the wire; the only one there is
BATCH_BYTES = 1 << 20  # enough to make a batch's fixed costs small, little enough to wait for
BATCH_STREAMS = 1024  # pieces in a batch
OPENS_UNANSWERED = 256  # so that ten thousand streams do not stand before the first byte
FIRST_PINGS = 3
PING_S = 10.0
SILENCE_S = 40.0  # four pings unanswered: the connection is dead, whatever TCP believes
LEAVE_S = 5.0  # for the outstanding acknowledgements after the half-close
IDLE_S = 60.0
FORSAKEN_S = 600.0


_HEARING = (Phase.GREETING, Phase.MEASURING, Phase.SHIPPING, Phase.LEAVING)


@dataclass(frozen=True)
class Purpose:
    """When an agent leaves by itself, if ever."""

    until_drained: bool = False
    leave_when_idle: bool = False


class Session:
    """One agent's side of all its connections, one after another."""

    def __init__(self, purpose: Purpose, random: Callable[[], float], now: float) -> None:
        self.phase = Phase.RESTING
        self._purpose = purpose
        self._random = random
        self._backoff = Backoff(random)
        self._clock = Clock()
        self._out: list[w.Action] = []
        self._shipments: dict[str, Shipment] = {}
        self._numbers: dict[int, Shipment] = {}
        self._next_number = 1
        self._to_open: list[tuple[int, str]] = []
        self._opening = 0
        self._resting: list[tuple[float, str]] = []
        self._turns = Turns()
        self._to_end: dict[str, None] = {}
        self._outstanding = 0
        self._is_sending = False
        self._batch_limit_bytes = self._window_bytes = 0
        self._min_gap_s = 0.0
        self._next_batch = 0.0
        self._connect_at = now
        self._next_ping = math.inf
        self._heard = self._called = self._busy = now
        self._stop_at = self._leave_at = math.inf
        self._leave_status = 0
        self._has_looked = self._asked_to_look = False
        self._unreadable = self._refused = 0
        self._told_down = ""  # why, until a connection has proven itself
        self._is_told_up = False

    @property
    def outstanding_bytes(self) -> int:
        """Return the bytes sent and not acknowledged, all streams together."""
        return self._outstanding

    def handle(self, event: w.Event, now: float) -> list[w.Action]:
        """Take one event; return what to do, in order.

        Raises ``OutOfTurn`` where a peer's event has no place: the connection is not to be
        trusted any more, and the driver answers with ``Disconnected``.
        """
        if self.phase is Phase.LEFT:
            return []
        self._out = []
        if isinstance(event, w.FromPeer):
            if self.phase not in _HEARING:
                return []  # of a connection that is gone
            self._heard = now
        _ON.dispatch(type(event))(self, event, now)
        self._go_on(now)
        return self._out

    def deadline(self) -> float:
        """Return when ``Ticked`` is wanted next; the driver also gives one every second."""
        times = [self._stop_at]
        if self.phase is Phase.RESTING:
            times.append(self._connect_at)
        else:
            times.append(max(self._called, self._heard) + SILENCE_S)
        if self.phase is Phase.SHIPPING:
            times.append(self._next_ping)
        if self._resting and self.phase is Phase.SHIPPING:
            times.append(self._resting[0][0])
        if self._can_send():
            times.append(self._next_batch)
        return min(times)

    # Events

    @singledispatchmethod
    def _on(self, event: w.Event, now: float) -> None:
        raise OutOfTurn(f"{event!r} is no event")

    @_on.register
    def _(self, event: w.Ticked, now: float) -> None:
        pass  # what is due is looked at after every event

    @_on.register
    def _(self, event: w.Connected, now: float) -> None:
        self._step(Step.CONNECTED)
        self._called = now
        self._out.append(w.SendHello())

    @_on.register
    def _(self, event: w.Disconnected, now: float) -> None:
        if self.phase is not Phase.RESTING:
            self._drop(event.reason, event.is_final, now)

    @_on.register
    def _(self, event: w.Welcomed, now: float) -> None:
        if event.version != VERSION:
            raise OutOfTurn(f"a welcome in version {event.version} of the wire")
        self._step(Step.WELCOMED)
        self._batch_limit_bytes = min(event.batch_limit_bytes, BATCH_BYTES)
        self._window_bytes = event.window_bytes
        self._min_gap_s = event.min_gap_s
        self._next_batch = now
        if not self._is_told_up:
            self._report("INFO", f"connected, as node {event.node_id} of store {event.store_id}")
            self._is_told_up = True
        for _ in range(FIRST_PINGS):
            self._ping(now)

    @_on.register
    def _(self, event: w.Ponged, now: float) -> None:
        if self.phase is Phase.SHIPPING and not self._shipments:
            self._come_up()
        self._clock.pong(event.sequence, event.unix_ns, event.node_unix_ns, now)
        if self.phase is Phase.MEASURING and not self._clock.is_waiting:
            self._step(Step.MEASURED)

    @_on.register
    def _(self, event: w.Found, now: float) -> None:
        if event.stream in self._shipments:
            return
        shipment = Shipment(
            event.stream, event.attributes, Backoff(self._random), length=event.length
        )
        self._shipments[event.stream] = shipment
        self._wait_to_open(shipment)

    @_on.register
    def _(self, event: w.Grew, now: float) -> None:
        shipment = self._shipments.get(event.stream)
        if shipment is not None:
            shipment.length = max(shipment.length, event.length)
            self._wait_to_send(shipment)

    @_on.register
    def _(self, event: w.Ended, now: float) -> None:
        shipment = self._shipments.get(event.stream)
        if shipment is None or shipment.end is not None:
            return
        shipment.end = event.end
        shipment.length = event.end.length
        if shipment.state is State.CLOSED:
            self._close(shipment)
        else:
            self._wait_to_send(shipment)

    @_on.register
    def _(self, event: w.Vanished, now: float) -> None:
        shipment = self._shipments.get(event.stream)
        if shipment is not None:
            self._forget(shipment)

    @_on.register
    def _(self, event: w.Lacked, now: float) -> None:
        shipment = self._shipments.get(event.stream)
        if shipment is not None and shipment.state is State.OPEN:
            self._move(shipment, sent=event.start)
            shipment.gap = (event.start, event.end)
            self._report(
                "ERROR",
                f"the spool has no bytes {event.start} to {event.end} of stream {event.stream} "
                f"of run {shipment.attributes.run_id}, and the collector has none; it goes on "
                "behind them",
            )
            self._skip_gap(shipment)

    @_on.register
    def _(self, event: w.Shortened, now: float) -> None:
        shipment = self._shipments.get(event.stream)
        if shipment is not None and shipment.state in (State.OPEN, State.ENDING):
            self._move(shipment, sent=event.end)
            self._wait_to_send(shipment)

    @_on.register
    def _(self, event: w.Sent, now: float) -> None:
        self._is_sending = False

    @_on.register
    def _(self, event: w.Looked, now: float) -> None:
        self._has_looked = True
        self._asked_to_look = False
        self._unreadable = event.unreadable

    @_on.register
    def _(self, event: w.Opened, now: float) -> None:
        shipment = self._known(event.number)
        if shipment is None:
            return
        if event.durable_offset < shipment.at_least:
            raise OutOfTurn(f"stream {shipment.stream} opened before its lowest offset")
        shipment.turn(Turn.OPENED)
        self._opening -= 1
        self._backoff.succeed()
        self._come_up()
        self._move(shipment, sent=event.durable_offset, acked=event.durable_offset)
        if event.durable_offset:
            self._out.append(w.Trim(shipment.stream, event.durable_offset))
        if event.has_ended:
            self._close(shipment)
        else:
            self._wait_to_send(shipment)

    @_on.register
    def _(self, event: w.Acked, now: float) -> None:
        shipment = self._known(event.number)
        if shipment is None:
            return
        if shipment.state is State.OPENING:
            raise OutOfTurn(f"an acknowledgement of stream {shipment.stream} before it was opened")
        self._backoff.succeed()
        shipment.backoff.succeed()
        if event.durable_offset > shipment.acked:
            sent = max(shipment.sent, event.durable_offset)
            self._move(shipment, sent=sent, acked=event.durable_offset)
            self._out.append(w.Trim(shipment.stream, event.durable_offset))
        if event.has_ended:
            self._close(shipment)
        elif shipment.gap is not None:
            self._skip_gap(shipment)

    @_on.register
    def _(self, event: w.Paced, now: float) -> None:
        self._min_gap_s = event.min_gap_s

    @_on.register
    def _(self, event: w.Resumed, now: float) -> None:
        shipment = self._known(event.number)
        if shipment is None or shipment.state is State.CLOSED:
            return
        shipment.turn(Turn.RESUME)
        self._move(shipment, sent=event.offset)
        shipment.gap = None
        self._wait_to_send(shipment)

    @_on.register
    def _(self, event: w.Refused, now: float) -> None:
        if event.number == 0:
            self._out.append(w.Disconnect())
            self._drop(f"the collector refuses us: {event.reason}", not event.may_retry, now)
            return
        shipment = self._known(event.number)
        if shipment is None:
            return
        if not event.may_retry:
            self._refuse(shipment, event.reason)
            return
        was_opening = shipment.state is State.OPENING
        shipment.turn(Turn.REFUSE)
        self._opening -= was_opening
        self._unnumber(shipment)
        heapq.heappush(self._resting, (now + shipment.backoff.fail(), shipment.stream))
        if shipment.is_told:
            return
        shipment.is_told = True
        self._report(
            "WARNING",
            f"stream {shipment.stream} of run {shipment.attributes.run_id} is refused for now "
            f"({event.reason}); it stays in the spool and is offered again",
        )

    @_on.register
    def _(self, event: w.Stopped, now: float) -> None:
        self._stop_at = min(self._stop_at, event.deadline)

    # What follows

    def _go_on(self, now: float) -> None:
        if self.phase is Phase.LEFT:
            return
        if self._shipments:
            self._busy = now
        if self._leave_if_done(now):
            return
        if self.phase is Phase.RESTING:
            if now >= self._connect_at:
                self._step(Step.CONNECT)
                self._called = now
                self._out.append(w.Connect())
            return
        if now >= max(self._called, self._heard) + SILENCE_S:
            self._out.append(w.Disconnect())
            self._drop(f"no answer for {SILENCE_S:.0f} s", False, now)
            return
        if self.phase is not Phase.SHIPPING:
            return
        while self._resting and self._resting[0][0] <= now:
            shipment = self._shipments.get(heapq.heappop(self._resting)[1])
            if shipment is not None and shipment.state is State.RESTING:
                shipment.turn(Turn.WAKE)
                self._wait_to_open(shipment)
        if now >= self._next_ping:
            self._ping(now)
        self._open_next()
        self._send(now)

    def _open_next(self) -> None:
        clock = self._clock.best
        while clock is not None and self._to_open and self._opening < OPENS_UNANSWERED:
            shipment = self._shipments.get(heapq.heappop(self._to_open)[1])
            if shipment is None or shipment.state is not State.FOUND:
                continue
            shipment.turn(Turn.OPEN)
            self._opening += 1
            shipment.number = self._next_number
            self._next_number += 1
            self._numbers[shipment.number] = shipment
            self._out.append(
                w.SendOpen(
                    shipment.number, shipment.stream, shipment.at_least,
                    clock.offset_ns, clock.error_ns,
                )
            )  # fmt: skip

    def _can_send(self) -> bool:
        return (
            self.phase is Phase.SHIPPING
            and not self._is_sending
            and len(self._turns) > 0
            and self._outstanding < self._window_bytes
        )

    def _send(self, now: float) -> None:
        if self._is_sending:
            return  # an end follows its last bytes, once it is known that all of them went
        for stream in list(self._to_end):
            shipment = self._shipments.get(stream)
            if shipment is not None and shipment.can_end and shipment.end is not None:
                shipment.turn(Turn.END)
                self._out.append(w.SendEnd(shipment.number, stream, shipment.end))
            del self._to_end[stream]
        if not self._can_send():
            return
        room = min(self._batch_limit_bytes, self._window_bytes - self._outstanding)
        if now < self._next_batch and not self._fills(room):
            return
        parts = []
        for share in self._turns.take(room, self._waiting_of, BATCH_STREAMS):
            shipment = self._shipments[share.stream]
            start = shipment.sent
            self._move(shipment, sent=start + share.length)
            parts.append(w.Part(shipment.number, share.stream, start, shipment.sent))
            self._wait_to_send(shipment)
        if parts:
            self._is_sending = True
            self._next_batch = now + self._min_gap_s
            self._out.append(w.SendBatch(parts))

    def _fills(self, room: int) -> bool:
        return room >= self._batch_limit_bytes and self._turns.holds(room, self._waiting_of)

    def _waiting_of(self, stream: str) -> int:
        shipment = self._shipments.get(stream)
        return 0 if shipment is None else shipment.waiting

    def _leave_if_done(self, now: float) -> bool:
        status = 1 if self._refused or self._unreadable else 0
        if now >= self._stop_at or (math.isfinite(self._stop_at) and self._is_all_sent()):
            return self._leave(0, now)
        if self._shipments:
            is_forsaken = (
                self._purpose.leave_when_idle
                and now >= self._heard + FORSAKEN_S
                and not any(shipment.is_living for shipment in self._shipments.values())
            )
            if is_forsaken:
                text = f"the collector has not answered for {FORSAKEN_S / 60:.0f} min"
                self._finish(1, text + "; what is unsent stays in the spool")
            return is_forsaken
        if self._purpose.until_drained:
            if self._has_looked:
                return self._leave(status, now)
            if not self._asked_to_look:
                self._asked_to_look = True
                self._out.append(w.Look())
        elif self._purpose.leave_when_idle and now >= self._busy + IDLE_S:
            return self._leave(0, now)
        return False

    def _is_all_sent(self) -> bool:
        if self.phase is Phase.RESTING:
            return True  # nobody is there to send it to
        busy = (State.FOUND, State.OPENING, State.ENDING)
        return self.phase is Phase.SHIPPING and not any(
            shipment.state in busy or shipment.waiting or shipment.can_end or shipment.outstanding
            for shipment in self._shipments.values()
        )

    def _leave(self, status: int, now: float) -> bool:
        if self.phase is Phase.LEAVING:
            if now >= self._leave_at:
                self._finish(self._leave_status)
            return True
        if self.phase is Phase.SHIPPING:
            self._step(Step.LEAVE)
            self._leave_at = self._stop_at = now + LEAVE_S
            self._leave_status = status
            self._out.append(w.HalfClose())
        else:
            self._finish(status)
        return True

    def _finish(self, status: int, text: str = "") -> None:
        if not text and status:
            text = (
                f"{self._refused} streams were refused and lie in refused/, "
                f"{self._unreadable} could not be read; all others are shipped"
            )
        self.phase = Phase.LEFT
        self._out.append(w.Leave(status, text))

    # Small moves

    def _step(self, step: Step) -> None:
        self.phase = following(self.phase, step)

    def _drop(self, reason: str, is_final: bool, now: float) -> None:
        if self.phase is Phase.LEAVING:
            self._step(Step.DISCONNECTED)
            self._finish(self._leave_status)
            return
        self._step(Step.DISCONNECTED)
        for shipment in self._shipments.values():
            shipment.turn(Turn.DISCONNECT)
            shipment.number = shipment.sent = shipment.acked = 0
            shipment.gap = None
        self._numbers.clear()
        self._next_number = 1
        self._to_open = [shipment.age_key for shipment in self._shipments.values()]
        heapq.heapify(self._to_open)
        self._opening = 0
        self._resting.clear()
        self._turns = Turns()
        self._to_end.clear()
        self._outstanding = 0
        self._is_sending = False
        self._clock.reconnect()
        self._next_ping = math.inf
        self._connect_at = now + self._backoff.fail()
        if is_final and self._purpose.until_drained:
            self._finish(1, reason)
        elif self._told_down != reason and (is_final or not self._told_down):
            level = "ERROR" if is_final else "WARNING"
            self._report(level, f"{reason}; what is unsent stays in the spool, trying again")
            self._told_down = reason

    def _come_up(self) -> None:
        """The connection does what it is for; the next trouble is news again."""
        if self._told_down:
            self._told_down = ""
            self._report("INFO", "shipping again")

    def _ping(self, now: float) -> None:
        self._out.append(w.SendPing(self._clock.ping(now)))
        self._next_ping = now + PING_S

    def _known(self, number: int) -> Shipment | None:
        if not 0 < number < self._next_number:
            raise OutOfTurn(f"stream number {number}, which was never given")
        return self._numbers.get(number)  # none: forgotten or opened anew since

    def _wait_to_open(self, shipment: Shipment) -> None:
        heapq.heappush(self._to_open, shipment.age_key)

    def _wait_to_send(self, shipment: Shipment) -> None:
        if shipment.waiting:
            self._turns.add(shipment.stream)
        elif shipment.can_end:
            self._to_end[shipment.stream] = None

    def _move(self, shipment: Shipment, sent: int, acked: int | None = None) -> None:
        self._outstanding -= shipment.outstanding
        shipment.sent = sent
        shipment.acked = shipment.acked if acked is None else acked
        self._outstanding += shipment.outstanding

    def _skip_gap(self, shipment: Shipment) -> None:
        """Open the stream behind bytes that nobody has, once the bytes before are safe."""
        if shipment.gap is None or shipment.acked < shipment.gap[0]:
            return
        shipment.at_least = shipment.gap[1]
        shipment.gap = None
        shipment.turn(Turn.REOPEN)
        self._unnumber(shipment)
        self._wait_to_open(shipment)

    def _close(self, shipment: Shipment) -> None:
        """Act on the collector's having the stream's end."""
        shipment.turn(Turn.CLOSE)
        self._move(shipment, sent=shipment.acked)
        if shipment.end is None:
            return  # ours may yet come; a living stream is never thrown away
        if shipment.length <= shipment.acked:
            self._forget(shipment)
            self._out.append(w.Retire(shipment.stream))
        else:
            there, here = shipment.acked, shipment.length
            self._refuse(shipment, f"it has ended there with {there} bytes, here it has {here}")

    def _refuse(self, shipment: Shipment, reason: str) -> None:
        self._forget(shipment)
        self._refused += 1
        self._out.append(w.Refuse(shipment.stream, reason))
        self._report(
            "ERROR",
            f"the collector never takes stream {shipment.stream} of run "
            f"{shipment.attributes.run_id}: {reason}; its bytes lie in the spool's refused/",
        )

    def _forget(self, shipment: Shipment) -> None:
        self._opening -= shipment.state is State.OPENING
        self._unnumber(shipment)
        del self._shipments[shipment.stream]
        self._has_looked = False

    def _unnumber(self, shipment: Shipment) -> None:
        self._numbers.pop(shipment.number, None)
        shipment.number = 0
        self._move(shipment, sent=0, acked=0)
        self._turns.remove(shipment.stream)
        self._to_end.pop(shipment.stream, None)

    def _report(self, level: str, text: str) -> None:
        self._out.append(w.Report(level, text))


# Looked up here: through the instance, each call would build a wrapper, ten times its own cost.
_ON: Any = vars(Session)["_on"].dispatcher
