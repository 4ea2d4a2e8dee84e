"""What to do with a piece: the offset is the whole protocol.

Law
    * A stream has ``length`` bytes here. A piece is ``[offset, offset + size)``.
    * Bytes before ``length`` are compared, never written again; bytes from it on are new.
    * A piece that begins past ``length`` is not taken: the agent hears once from where to go on,
      and again only after it sent a piece at or before that offset.
    * An end is taken when the bytes it declares are here; short of them the agent is told to
      go on, past them the stream ends at the length it has here.
    * Two connections may carry one stream: each has a ``Sequence``, the length is shared.
"""

from __future__ import annotations

from typing import NamedTuple


class Take(NamedTuple):
    """Compare the piece's first ``known`` bytes with what is here; append the rest."""

    known: int


class Resume(NamedTuple):
    """Tell the agent to go on from ``offset``."""

    offset: int


class Pass(NamedTuple):
    """Do nothing: the agent was told already, or there is nothing to do."""


class Finish(NamedTuple):
    """The stream has ended at ``length``; ``is_longer``: that is more than was declared."""

    length: int
    is_longer: bool


class Sequence:
    """The order of one stream's pieces on one connection."""

    def __init__(self) -> None:
        self._awaited: int | None = None

    def piece(self, length: int, offset: int, size: int) -> Take | Resume | Pass:
        """Decide on a piece, the stream having ``length`` bytes here."""
        if offset > length:
            return self._resume(length)
        self._awaited = None
        if size == 0:
            return Pass()
        return Take(min(size, length - offset))

    def end(self, length: int, declared: int) -> Finish | Resume | Pass:
        """Decide on an end that declares ``declared`` bytes."""
        if declared > length:
            return self._resume(length)
        return Finish(length, length > declared)

    def _resume(self, length: int) -> Resume | Pass:
        if self._awaited is not None and self._awaited <= length:
            return Pass()
        self._awaited = length
        return Resume(length)
