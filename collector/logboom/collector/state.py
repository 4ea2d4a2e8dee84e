"""The state of attempts and of their run: one rule for all who ask. Pure; time is an argument.

Vocabulary
    launcher   a process that we started to start others: its words are ``mpi`` or ``launcher``
    over       of a process: it exited, or its events ended; of a launcher: its words too
    silent     none of the attempt's agents spoke for 5 min, and it is unfinished

Law
    * Running: some process is. Finished: every launcher known and every process known is over;
      without a launcher, as many as the world size are, and 60 s brought nothing new. Failed: one
      of them ended otherwise than with 0; else Completed.
    * NotResponding: unfinished and silent. After 24 h it is closed as Failed.
    * The end is decided once, and is a line of the journal (``attempt_ended``, ``closed``). Whoever
      is not over then is taken as terminated; what is heard later still counts.
    * The run's state is its newest attempt's, but Running while any process is.
    * What is to be remembered over a restart of the collector stands in the journal; waiting
      begins anew when the run is opened, so that agents have time to come back.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from logboom.collector.census import LAUNCHERS, Census
from logboom.collector.ledger import OPENING
from logboom.format.journal import Line
from logboom.format.stream import Kind

QUIET_NS = 60 * 10**9
SILENT_NS = 300 * 10**9
GIVEN_UP_NS = 24 * 3600 * 10**9


class State(enum.StrEnum):
    """What becomes of an attempt."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    NOT_RESPONDING = "NotResponding"


class Decision(NamedTuple):
    """A line that the journal is to have now: ``what`` and its fields."""

    what: str
    fields: dict[str, Any]


@dataclass
class AttemptState:
    """What is known of one attempt."""

    number: int
    world_size: int = 0
    nodes: set[str] = field(default_factory=set)
    launchers: set[str] = field(default_factory=set)
    living: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)
    has_failed: bool = False
    changed_ns: int = 0
    silent_ns: int = 0
    ended: State | None = None
    reason: str = ""
    ended_ns: int = 0
    written_off: set[str] = field(default_factory=set)

    @property
    def state(self) -> State:
        """The state."""
        if self.ended is None:
            return State.NOT_RESPONDING if self.silent_ns else State.RUNNING
        if self.living - self.written_off:
            return State.RUNNING
        return State.FAILED if self.has_failed else self.ended

    @property
    def is_running(self) -> bool:
        """Whether some process is, as far as its agents say."""
        return bool(self.living) and self.state is State.RUNNING

    def is_finished(self, now_ns: int) -> bool:
        """Say whether nothing more is to be expected."""
        if self.living or not self.over:
            return False
        if self.launchers:
            return True
        return 0 < self.world_size <= len(self.over) and now_ns - self.changed_ns >= QUIET_NS


class States:
    """Takes a journal's lines as they are appended, and says what follows with time."""

    def __init__(self, opened_ns: int) -> None:
        self.attempts: dict[int, AttemptState] = {}
        self._opened_ns = opened_ns
        self._census = Census()
        self._attempt_of: dict[str, AttemptState] = {}
        self._words: dict[str, str] = {}  # stream of a launcher's words: its key
        self._wordy: set[str] = set()  # launchers whose words have not ended

    @property
    def run(self) -> State | None:
        """The run's state, None before anything of it is known."""
        if any(attempt.is_running for attempt in self.attempts.values()):
            return State.RUNNING
        newest = self._newest()
        return newest.state if newest else None

    def is_all_ended(self) -> bool:
        """Say whether every attempt has ended."""
        return all(attempt.ended is not None for attempt in self.attempts.values())

    def handle(self, line: Line, now_ns: int) -> None:
        """Take the next line; ``now_ns`` is when it was appended, or the run opened."""
        self._census.handle(line)
        what = line["what"]
        if what == "placed":
            self._placed(line, now_ns)
        elif what == "ended" and line["stream"] in self._words:
            self._wordy.discard(self._words[line["stream"]])
            self._check_over(self._words[line["stream"]], now_ns)
        elif what == "attempt_ended":
            attempt = self._attempt(line["attempt"])
            self._end(attempt, State(line["state"]), line["reason"], line["unix_ns"])
        elif what == "not_responding":
            self._attempt(line["attempt"]).silent_ns = line["unix_ns"]
        elif what == "responding":
            self._attempt(line["attempt"]).silent_ns = 0
        elif what == "closed":
            for attempt in self.attempts.values():
                has_failed = attempt.has_failed or bool(attempt.living)
                state = State.FAILED if has_failed else State.COMPLETED
                self._end(attempt, state, line["reason"], line.get("unix_ns", 0))
        if self._census.touched is not None:
            self._check_over(self._census.touched.id, now_ns)

    def finished(self, now_ns: int) -> list[Decision]:
        """Return the ends that are to be decided now."""
        decided = []
        for attempt in self.attempts.values():
            if attempt.ended is None and attempt.is_finished(now_ns):
                state = State.FAILED if attempt.has_failed else State.COMPLETED
                decided.append(_ended(attempt, state, _why(attempt), now_ns))
        return decided

    def silent(self, now_ns: int, heard_ns: Mapping[str, int]) -> list[Decision]:
        """Return what is to be decided now; ``heard_ns`` says when each node's agent last spoke."""
        decided = []
        for attempt in self.attempts.values():
            if attempt.ended is not None:
                continue
            spoke = max((heard_ns.get(node, 0) for node in attempt.nodes), default=0)
            is_quiet = now_ns - max(spoke, attempt.changed_ns, self._opened_ns) >= SILENT_NS
            fields = {"attempt": attempt.number, "unix_ns": now_ns}
            if not attempt.silent_ns:
                if is_quiet:
                    decided.append(Decision("not_responding", fields))
            elif spoke > attempt.silent_ns:
                decided.append(Decision("responding", fields))
            elif is_quiet and now_ns - attempt.silent_ns >= GIVEN_UP_NS - SILENT_NS:
                why = "none of its agents spoke for 24 h"
                decided.append(_ended(attempt, State.FAILED, why, now_ns))
        return decided

    def _placed(self, line: Line, now_ns: int) -> None:
        attributes = line["attributes"]
        kind, process = Kind(attributes["kind"]), attributes.get("process", "")
        if kind not in OPENING:
            return
        attempt = self._attempt(line["attempt"])
        attempt.nodes.add(line["node_id"])
        attempt.changed_ns = now_ns
        if kind is Kind.JOB_PREP:
            return
        key = process or attributes["id"]
        if key not in self._attempt_of:
            self._attempt_of[key] = attempt
            attempt.living.add(key)
        attempt = self._attempt_of[key]
        if kind in LAUNCHERS:
            attempt.launchers.add(key)
            self._words[attributes["id"]] = key
            self._wordy.add(key)
            attempt.over.discard(key)
            attempt.living.add(key)
        elif kind is Kind.DRIVER:
            attempt.world_size = max(attempt.world_size, attributes.get("world_size", 1))

    def _check_over(self, key: str, now_ns: int) -> None:
        attempt = self._attempt_of.get(key)
        if attempt is None or key not in attempt.living or key in self._wordy:
            return
        process = self._census.processes.get(key)
        if process is not None and not process.is_over:
            return
        attempt.living.discard(key)
        attempt.over.add(key)
        attempt.changed_ns = now_ns
        if process is not None and not process.is_good:
            attempt.has_failed = True

    def _end(self, attempt: AttemptState, state: State, reason: str, unix_ns: int) -> None:
        if attempt.ended is None:
            attempt.ended, attempt.reason, attempt.ended_ns = state, reason, unix_ns
            attempt.written_off = set(attempt.living)

    def _attempt(self, number: int) -> AttemptState:
        if number not in self.attempts:
            self.attempts[number] = AttemptState(number)
        return self.attempts[number]

    def _newest(self) -> AttemptState | None:
        return self.attempts[max(self.attempts)] if self.attempts else None


def _ended(attempt: AttemptState, state: State, reason: str, now_ns: int) -> Decision:
    fields = {"attempt": attempt.number, "state": state.value, "reason": reason, "unix_ns": now_ns}
    return Decision("attempt_ended", fields)


def _why(attempt: AttemptState) -> str:
    ranks = len(attempt.over - attempt.launchers)
    if attempt.launchers:
        return f"its launcher and {_count(ranks)} have ended"
    have = "has" if ranks == 1 else "have"
    return f"{_count(ranks)} {have} ended, and 60 s brought no other"


def _count(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"
