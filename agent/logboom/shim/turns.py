"""Turns: whose bytes come next, so that stdout and stderr never mix within a line.

Law
    * While only one source waits, all of it goes.
    * While the other waits too, the current one goes up to the last line end in sight, then it is
      the other's turn: they alternate at line ends.
    * With no line end in sight, the other waits at most LINE_WAIT_S, counted since it became
      readable, not from the line's start: a flood would starve it for seconds.
"""

from __future__ import annotations

import enum
from typing import Callable, NamedTuple, Union

from logboom.format.spans import Source
from logboom.shim.settings import LINE_WAIT_S

_LINE_WAIT_NS = int(LINE_WAIT_S * 1e9)


class UpTo(enum.Enum):
    """How much of a source goes."""

    ALL = "all"
    LINE_END = "the last line end in sight, all where there is none"
    LINE_END_OR_YIELD = "the last line end in sight; where there is none, call `give_up`"


class Move(NamedTuple):
    """Move bytes of ``source``."""

    source: Source
    up_to: UpTo


class Hold(NamedTuple):
    """Wait for the rest of ``source``'s line, no longer than ``until_ns``."""

    source: Source
    until_ns: int


Turn = Union[Move, Hold, None]


class Turns:
    """Decides whose turn it is. ``current`` is whose bytes came last."""

    def __init__(self, current: Source) -> None:
        self.current = current
        self._other_since_ns: int | None = None

    @property
    def other(self) -> Source:
        """The source that is not the current one."""
        return Source.STDERR if self.current is Source.STDOUT else Source.STDOUT

    def choose(
        self, now_ns: int, waiting: tuple[bool, bool], is_within_line: Callable[[], bool]
    ) -> Turn:
        """Say what to do; None: nothing waits. ``waiting``: stdout, stderr."""
        current_waits, other_waits = waiting[self.current], waiting[self.other]
        if not other_waits:
            self._other_since_ns = None
            return Move(self.current, UpTo.ALL) if current_waits else None
        if self._other_since_ns is None:
            self._other_since_ns = now_ns
        if not is_within_line():
            return self._switch(UpTo.LINE_END if current_waits else UpTo.ALL)
        until_ns = self._other_since_ns + _LINE_WAIT_NS
        if current_waits:
            is_over = now_ns >= until_ns
            return Move(self.current, UpTo.LINE_END_OR_YIELD if is_over else UpTo.LINE_END)
        if now_ns >= until_ns:
            return self._switch(UpTo.ALL)
        return Hold(self.current, until_ns)

    def give_up(self) -> Move:
        """The current source has no line end in sight and its time is over: the other's turn."""
        return self._switch(UpTo.LINE_END)

    def _switch(self, up_to: UpTo) -> Move:
        self.current = self.other
        self._other_since_ns = None
        return Move(self.current, up_to)
