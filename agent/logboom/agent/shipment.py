"""A shipment: one stream on its way to the collector, and the states it passes through."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from logboom.agent.backoff import Backoff
from logboom.agent.phase import OutOfTurn
from logboom.format.stream import End, StreamAttributes


class State(enum.Enum):
    """Where a shipment stands in the current connection."""

    FOUND = "waits to be opened"
    OPENING = "open sent"
    OPEN = "bytes go"
    ENDING = "end sent"
    RESTING = "refused for now"
    CLOSED = "ended there, not here"


class Turn(enum.Enum):
    """What moves a shipment on."""

    OPEN = "open"
    OPENED = "opened"
    RESUME = "resume"
    END = "end"
    CLOSE = "close"
    REFUSE = "refuse"
    WAKE = "wake"
    REOPEN = "reopen"
    DISCONNECT = "disconnect"


_NEXT = {
    (State.FOUND, Turn.OPEN): State.OPENING,
    (State.OPENING, Turn.OPENED): State.OPEN,
    (State.OPEN, Turn.RESUME): State.OPEN,
    (State.ENDING, Turn.RESUME): State.OPEN,
    (State.OPEN, Turn.END): State.ENDING,
    (State.OPEN, Turn.CLOSE): State.CLOSED,
    (State.ENDING, Turn.CLOSE): State.CLOSED,
    (State.CLOSED, Turn.CLOSE): State.CLOSED,
    (State.OPENING, Turn.REFUSE): State.RESTING,
    (State.OPEN, Turn.REFUSE): State.RESTING,
    (State.ENDING, Turn.REFUSE): State.RESTING,
    (State.RESTING, Turn.WAKE): State.FOUND,
    (State.OPEN, Turn.REOPEN): State.FOUND,
    **{(state, Turn.DISCONNECT): State.FOUND for state in State},
}


@dataclass
class Shipment:
    """One stream: what the spool has of it, what was sent, what is acknowledged."""

    stream: str
    attributes: StreamAttributes
    backoff: Backoff
    length: int  # bytes in the spool, from offset 0, the forgotten ones included
    end: End | None = None
    state: State = State.FOUND
    number: int = 0  # in this connection; 0: none
    sent: int = 0
    acked: int = 0
    at_least: int = 0  # bytes before it are in neither spool nor, perhaps, collector
    gap: tuple[int, int] | None = None  # bytes that the spool lacks, met on the way
    is_told: bool = False  # the operator knows that it is refused for now

    def turn(self, turn: Turn) -> None:
        """Move on. Raises ``OutOfTurn`` where the state has no place for ``turn``."""
        following = _NEXT.get((self.state, turn))
        if following is None:
            raise OutOfTurn(
                f"{turn.value!r} for stream {self.stream}, which stands at {self.state.value!r}"
            )
        self.state = following

    @property
    def waiting(self) -> int:
        """Return how many bytes could be sent now."""
        if self.state is not State.OPEN or self.gap is not None:
            return 0
        return max(0, self.length - self.sent)

    @property
    def can_end(self) -> bool:
        """Say whether all bytes are sent and the end is known: it goes next."""
        is_open = self.state is State.OPEN and self.gap is None
        return is_open and self.end is not None and self.sent >= self.length

    @property
    def outstanding(self) -> int:
        """Return how many bytes are sent and not acknowledged."""
        return max(0, self.sent - self.acked)

    @property
    def is_living(self) -> bool:
        """Say whether more bytes may come."""
        return self.end is None

    @property
    def age_key(self) -> tuple[int, str]:
        """Sort by start, oldest first."""
        return self.attributes.started_unix_ns, self.stream
