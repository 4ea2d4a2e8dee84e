"""Back-off: how long to wait before the next attempt, doubling, with jitter.

Without jitter, a thousand agents come back to a restarted collector in one instant.
"""

from __future__ import annotations

from collections.abc import Callable

FIRST_S = 0.1  # a collector that was only restarted is missed no longer than that
MOST_S = 5.0  # one that comes back after an hour is found within seconds


class Backoff:
    """Delays for one thing that fails; ``random`` gives numbers in [0, 1)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._next_s = FIRST_S

    def fail(self) -> float:
        """Return the seconds to wait now: between half and all of a span that doubles."""
        wait_s = self._next_s * (0.5 + 0.5 * self._random())
        self._next_s = min(2 * self._next_s, MOST_S)
        return wait_s

    def succeed(self) -> None:
        """Begin anew from the shortest wait."""
        self._next_s = FIRST_S
