"""Fair sharing of a batch: round robin with a bounded share, so that no stream starves another.

Law
    * A batch first gives every waiting stream an equal share, in turn; what is left goes to
      those that have more, in the same turn. Streams that found no room come first next time.
    * A share is never below ``LEAST_SHARE_BYTES``: of ten thousand waiting streams some go now
      and some in the next batch, rather than each in crumbs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

LEAST_SHARE_BYTES = 4096


class Share(NamedTuple):
    """So many bytes of this stream go into the batch."""

    stream: str
    length: int


class Turns:
    """The streams that have something to send, in the order of their turns."""

    def __init__(self) -> None:
        self._order: dict[str, None] = {}  # insertion order is the turn

    def __len__(self) -> int:
        return len(self._order)

    def add(self, stream: str) -> None:
        """Put a stream at the end of the turns; one that waits already keeps its place."""
        self._order.setdefault(stream, None)

    def remove(self, stream: str) -> None:
        """Take a stream out, if it is in."""
        self._order.pop(stream, None)

    def holds(self, length: int, waiting: Callable[[str], int]) -> bool:
        """Say whether at least ``length`` bytes wait, all streams together."""
        for stream in self._order:
            length -= waiting(stream)
            if length <= 0:
                return True
        return False

    def take(self, budget: int, waiting: Callable[[str], int], most: int) -> list[Share]:
        """Share ``budget`` bytes out among at most ``most`` streams; served ones leave the turns.

        ``waiting`` says how many bytes a stream has to send. Who still has some is added again.
        """
        order = list(islice(self._order, most))
        if not order or budget <= 0:
            return []
        fair = max(budget // len(order), LEAST_SHARE_BYTES)
        found: dict[str, int] = {}
        for stream in order:
            length = min(waiting(stream), fair, budget)
            if length > 0:
                found[stream] = length
                budget -= length
            if budget == 0:
                break
        for stream, length in found.items():
            if budget == 0:
                break
            more = min(waiting(stream) - length, budget)
            found[stream] += more
            budget -= more
        for stream in order:
            if stream in found or waiting(stream) <= 0:
                del self._order[stream]
        for stream, length in found.items():
            if waiting(stream) > length:
                self._order[stream] = None
        return [Share(stream, length) for stream, length in found.items()]
