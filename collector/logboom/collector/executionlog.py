"""``executionlogs.txt``: what happened to the run, one line an event. Pure.

Law
    * A line is ``[2026-11-23 08:31:07Z] sentence``, its time the event's own, corrected.
    * Each attempt has its own; the run's (attempt 0's) also says when another one begins.
    * Nothing that went wrong is left out; of what went well, only that it began and ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from logboom.collector.census import Happening, exit_in_words, is_good_exit
from logboom.collector.controllog import lost_in_words
from logboom.collector.ledger import OPENING, Placed, placed_from_line, slot_of
from logboom.collector.processfiles import Entry
from logboom.collector.textform import one_line, to_second
from logboom.format.journal import Line
from logboom.format.stream import Kind, StreamAttributes
from logboom.format.tree import EXECUTION_LOG, attempt_folder, is_per_run, process_name


@dataclass
class _Attempt:
    slots: dict[str, str] = field(default_factory=dict)  # slot: process
    marks: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    over: int = 0
    good: int = 0
    has_ended: bool = False


class ExecutionLog:
    """Gives the lines, in order."""

    def __init__(self) -> None:
        self._attempts: dict[int, _Attempt] = {}
        self._placed: dict[str, Placed] = {}
        self._told_displaced: set[str] = set()

    def handle(self, line: Line) -> list[Entry]:
        """Take the next line of the journal."""
        what, unix_ns = line["what"], line.get("unix_ns", 0)
        if what == "begun":
            return [_entry(0, unix_ns, f"run {line['run_id']} began")]
        if what == "placed":
            return self._take(placed_from_line(line))
        if what == "attempt_ended":
            return self._ended(line, unix_ns)
        if what == "closed":
            for attempt in self._attempts.values():
                attempt.has_ended = True
            why = one_line(line["reason"], 500) or "no reason was given"
            return [_entry(self._newest(), unix_ns, f"the run was closed by hand: {why}")]
        if what == "not_responding":
            says = f"{_attempt_name(line)} is not responding: none of its agents spoke for 5 min"
            return [_entry(line["attempt"], unix_ns, says)]
        if what == "responding":
            says = f"{_attempt_name(line)} is responding again"
            return [_entry(line["attempt"], unix_ns, says)]
        placed = self._placed.get(line.get("stream", ""))
        if placed is None:
            return []
        says = _stream_says(line, placed)
        return [_entry(placed.attempt, unix_ns, says)] if says else []

    def happened(self, happening: Happening) -> list[Entry]:
        """Take what happened to a process."""
        process, event, name = happening.process, happening.event, happening.name
        driver = process.driver
        assert driver is not None
        who = f"{process.name} on {driver.node_id}"
        attempt = self._attempt(driver.attempt)
        if name == "started":
            says = f"{process.name} started on {driver.node_id} as process {process.pid}"
        elif name in ("exited", "gone"):
            attempt.over += 1
            if name == "exited" and is_good_exit(event):
                attempt.good += 1
                return []
            says = f"{who} {_was(exit_in_words(event))}"
        elif name == "lost":
            says = f"{who}: {lost_in_words(event)}"
        else:
            return []
        return [_entry(driver.attempt, happening.unix_ns, says)]

    def _take(self, placed: Placed) -> list[Entry]:
        attributes, number = placed.attributes, placed.attempt
        self._placed[attributes.id] = placed
        told: list[Entry] = []
        is_opening = attributes.kind in OPENING
        if is_opening and number not in self._attempts:
            told += self._began(placed)
        attempt = self._attempt(number)
        slot = slot_of(attributes, placed.node_id)
        if is_opening:
            attempt.slots.setdefault(slot, attributes.process)
            if attributes.launch_mark:
                attempt.marks.add(attributes.launch_mark)
        asked = attributes.attempt
        if is_opening and asked is not None and asked != number:
            told += self._displaced(placed, asked)
        if placed.node_id not in attempt.nodes and not is_per_run(attributes.kind):
            attempt.nodes.add(placed.node_id)
            says = f"node {placed.node_id} ({one_line(placed.node_ip, 80)}) was heard of"
            told.append(_entry(number, placed.start_ns, says))
        return told

    def _began(self, placed: Placed) -> list[Entry]:
        number = placed.attempt
        if number == 0:
            return []
        why = self._why(placed)
        folder = attempt_folder(number)
        told = [_entry(number, placed.start_ns, f"attempt {number} began: {why}")]
        says = f"attempt {number} began in {folder}: {why}"
        return [_entry(0, placed.start_ns, says), *told]

    def _why(self, placed: Placed) -> str:
        """Say why a stream began an attempt: the first that holds."""
        attributes = placed.attributes
        who = _who(attributes)
        if attributes.attempt is not None:
            return f"the user named attempt {attributes.attempt}"
        marks = set().union(*(attempt.marks for attempt in self._attempts.values()))
        if marks and attributes.launch_mark and attributes.launch_mark not in marks:
            return f"{who} is of another launch"
        slot = slot_of(attributes, placed.node_id)
        been = [
            number
            for number, attempt in self._attempts.items()
            if attempt.slots.get(slot, attributes.process) != attributes.process
        ]
        if been:
            return f"{who} had started before, in attempt {max(been)}"
        last = self._attempts.get(self._newest())
        if last is not None and last.has_ended:
            return f"{who} started after attempt {self._newest()} had ended"
        return f"{who} does not belong to an attempt before"

    def _displaced(self, placed: Placed, asked: int) -> list[Entry]:
        key = placed.attributes.process or placed.attributes.id
        if key in self._told_displaced:
            return []
        self._told_displaced.add(key)
        says = (
            f"{_who(placed.attributes)} on {placed.node_id} was to be in attempt {asked}, "
            f"where its place is taken: it is in attempt {placed.attempt}"
        )
        return [_entry(placed.attempt, placed.start_ns, says)]

    def _ended(self, line: Line, unix_ns: int) -> list[Entry]:
        attempt = self._attempt(line["attempt"])
        attempt.has_ended = True
        says = (
            f"{_attempt_name(line)} ended: {line['state']}: {line['reason']}; "
            f"{attempt.good} of {attempt.over} with 0"
        )
        return [_entry(line["attempt"], unix_ns, says)]

    def _attempt(self, number: int) -> _Attempt:
        return self._attempts.setdefault(number, _Attempt())

    def _newest(self) -> int:
        return max(self._attempts, default=0)


def _stream_says(line: Line, placed: Placed) -> str:
    """Return what went wrong with a stream, "" where nothing did."""
    what = line["what"]
    if what == "lost":
        return (
            f"bytes {line['start']} to {line['end']} of {placed.path}: {one_line(line['why'], 500)}"
        )
    if what == "refused":
        return f"no more of {placed.path} is taken: {one_line(line['why'], 500)}"
    if what != "ended":
        return ""
    if line.get("corrupt"):
        return f"{placed.path} is corrupt here: its digest is not the one that its node declared"
    if "declared" in line:
        return (
            f"{placed.path} ended at {line['length']} bytes, "
            f"and its node declared {line['declared']}"
        )
    if line.get("why") == "recorder gone" and placed.attributes.kind is Kind.DRIVER:
        return f"{placed.path} ended because its recorder was gone"
    return ""


def _attempt_name(line: Line) -> str:
    return f"attempt {line['attempt']}"


def _who(attributes: StreamAttributes) -> str:
    if attributes.kind is Kind.DRIVER or attributes.rank is not None or attributes.name:
        return process_name(attributes)
    if attributes.kind is Kind.EVENTS:
        return "a process without a rank"  # or a launcher: only its other stream says
    return f"the {attributes.kind.value} log"


def _was(words: str) -> str:
    return "was " + words if words.startswith("ended by") else words


def _entry(attempt: int, unix_ns: int, sentence: str) -> Entry:
    line = f"[{to_second(unix_ns)}] {sentence}\n"
    return Entry(attempt, EXECUTION_LOG, line.encode())
