"""The clock measurement: how far the collector's clock is from this node's.

Law
    * The offset is the collector's unix time less the node's, taken halfway between ping and
      pong; of all measurements the one with the smallest round trip holds.
    * The error is half that round trip: the true offset lies within it, however lopsided the
      two ways were.
"""

from __future__ import annotations

from typing import NamedTuple


class Measured(NamedTuple):
    """The clock offset and the bound of its error, in nanoseconds."""

    offset_ns: int
    error_ns: int


class Clock:
    """Takes pings and pongs of one connection; keeps the best measurement."""

    def __init__(self) -> None:
        self.best: Measured | None = None
        self._waiting: dict[int, float] = {}
        self._sequence = 0

    def ping(self, now: float) -> int:
        """Note a ping sent at ``now``; return its sequence number."""
        self._sequence += 1
        self._waiting[self._sequence] = now
        return self._sequence

    def pong(self, sequence: int, unix_ns: int, node_unix_ns: int, now: float) -> bool:
        """Take an answer that came at ``now``; return False if nobody asked."""
        sent = self._waiting.pop(sequence, None)
        if sent is None:
            return False
        trip_ns = max(0, int((now - sent) * 1e9))
        found = Measured(unix_ns - (node_unix_ns - trip_ns // 2), trip_ns - trip_ns // 2)
        if self.best is None or found.error_ns <= self.best.error_ns:
            self.best = found
        return True

    @property
    def is_waiting(self) -> bool:
        """Say whether a ping is unanswered."""
        return bool(self._waiting)

    def reconnect(self) -> None:
        """Forget unanswered pings; what was measured stays true."""
        self._waiting.clear()
