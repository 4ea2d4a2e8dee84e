"""Which attempt of its run a process belongs to: decided once, from what is known then.

Vocabulary
    start   the process's start in the collector's unix time (node's time, corrected), ns
    began   an attempt's earliest start
    slot    what only one process of an attempt can have: a driver's rank (its log's path)

Law
    * An attempt that the user named binds. Where the slot is taken there: the next free one.
    * The same launch mark is the same attempt, another mark never, as long as the slot is free
      there. A mark not seen before opens an attempt, or takes one that only preparation is in.
    * Without a mark: candidates are attempts of the same world size, with the slot free, that
      began at most 10 s after the start and had not ended before it; none older than the last
      attempt that the slot was already in at an earlier start. The nearest start wins. No
      candidate: a new attempt, numbered after the highest.
    * What opens no attempt goes to the newest that began before it, else to attempt 0.
    * TORCHELASTIC_RESTART_COUNT is never asked: agents of one job disagree on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

LATE_NS = 10 * 10**9


class Newcomer(NamedTuple):
    """A process that asks for its attempt. ``world_size`` None: one of no world (preparation)."""

    slot: str
    world_size: int | None
    launch_mark: str
    start_ns: int
    attempt: int | None = None


@dataclass
class Attempt:
    """What is known of one attempt."""

    number: int
    began_ns: int
    worlds: dict[str, int] = field(default_factory=dict)  # world size, by slot
    marks: set[str] = field(default_factory=set)
    starts_ns: dict[str, int] = field(default_factory=dict)
    closed_ns: int | None = None

    @property
    def world_size(self) -> int | None:
        """The world size of its first process of a world, None before it."""
        return next(iter(self.worlds.values()), None)


class Attempts:
    """The attempts of one run."""

    def __init__(self) -> None:
        self.by_number: dict[int, Attempt] = {}
        self._blocked: set[tuple[int, str]] = set()

    @property
    def newest(self) -> int:
        """The highest number, 0 where there is no attempt yet."""
        return max(self.by_number, default=0)

    def choose(self, newcomer: Newcomer) -> int:
        """Return the attempt of ``newcomer``. Changes nothing."""
        if newcomer.attempt is not None:
            number = newcomer.attempt
            while not self._is_free(number, newcomer.slot):
                number += 1
            return number
        last = self._last_before(newcomer)
        is_known = any(newcomer.launch_mark in a.marks for a in self.by_number.values())
        candidates = [
            attempt
            for attempt in self.by_number.values()
            if self._is_candidate(attempt, newcomer, last, is_known)
        ]
        if candidates:
            return min(candidates, key=lambda a: _distance(a, newcomer)).number
        number = self.newest + 1 if self.by_number else 0
        while not self._is_free(number, newcomer.slot):
            number += 1
        return number

    def enter(self, number: int, newcomer: Newcomer) -> None:
        """Note that ``newcomer`` is in attempt ``number``, which begins with it if it is new."""
        attempt = self.by_number.get(number)
        if attempt is None:
            attempt = self.by_number[number] = Attempt(number, newcomer.start_ns)
        attempt.began_ns = min(attempt.began_ns, newcomer.start_ns)
        attempt.starts_ns.setdefault(newcomer.slot, newcomer.start_ns)
        if newcomer.launch_mark:
            attempt.marks.add(newcomer.launch_mark)
        if newcomer.world_size is not None:
            attempt.worlds.setdefault(newcomer.slot, newcomer.world_size)

    def leave(self, number: int, slot: str) -> None:
        """Note that what entered there has no such slot: its events came before it was known."""
        self.by_number[number].starts_ns.pop(slot, None)
        self.by_number[number].worlds.pop(slot, None)

    def block(self, number: int, slot: str) -> None:
        """Note that something unknown to the journal lies where ``slot`` would write there."""
        self._blocked.add((number, slot))

    def follow(self, start_ns: int) -> int:
        """Return the attempt of what opens none itself."""
        before = [a for a in self.by_number.values() if a.began_ns <= start_ns]
        return max(before, key=lambda a: (a.began_ns, a.number)).number if before else 0

    def close(self, number: int, unix_ns: int) -> None:
        """Note that an attempt has ended; the first end counts."""
        attempt = self.by_number.get(number)
        if attempt is not None and attempt.closed_ns is None:
            attempt.closed_ns = unix_ns

    def _is_free(self, number: int, slot: str) -> bool:
        attempt = self.by_number.get(number)
        is_taken = attempt is not None and slot in attempt.starts_ns
        return not is_taken and (number, slot) not in self._blocked

    def _is_candidate(
        self, attempt: Attempt, newcomer: Newcomer, last: Attempt | None, is_known: bool
    ) -> bool:
        if not self._is_free(attempt.number, newcomer.slot):
            return False
        if newcomer.launch_mark:
            if is_known:
                return newcomer.launch_mark in attempt.marks
            if attempt.marks or attempt.world_size is not None:
                return False
        elif not _is_same_world(attempt, newcomer):
            return False
        if last is not None and attempt.began_ns < last.began_ns:
            return False
        if attempt.closed_ns is not None and attempt.closed_ns <= newcomer.start_ns:
            return False
        return attempt.began_ns <= newcomer.start_ns + LATE_NS

    def _last_before(self, newcomer: Newcomer) -> Attempt | None:
        """Return the newest attempt that the slot was already in at an earlier start."""
        been = [
            attempt
            for attempt in self.by_number.values()
            if attempt.starts_ns.get(newcomer.slot, newcomer.start_ns) < newcomer.start_ns
        ]
        return max(been, key=lambda a: (a.began_ns, a.number), default=None)


def _is_same_world(attempt: Attempt, newcomer: Newcomer) -> bool:
    sizes = (attempt.world_size, newcomer.world_size)
    return None in sizes or sizes[0] == sizes[1]


def _distance(attempt: Attempt, newcomer: Newcomer) -> tuple[int, int]:
    return abs(attempt.began_ns - newcomer.start_ns), -attempt.number
