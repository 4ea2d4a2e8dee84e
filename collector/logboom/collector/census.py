"""The processes of a run, as its journal tells of them. Pure.

Law
    * A process is heard of by its driver (or, a launcher, by its own words) and by its events, in
      any order. What happened to it is *told* once its driver is placed: only then is it known to
      be no launcher, and where its files lie. A launcher's happenings are never told.
    * Events that end without ``exited`` mean unknown: the process is ``gone``.
    * Times are the node's, corrected by the clock offset of the stream's placing.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from logboom.collector.ledger import Placed, placed_from_line
from logboom.collector.textform import one_line
from logboom.format.journal import Line
from logboom.format.stream import Kind
from logboom.format.tree import process_name

STARTED, COMPLETED, FAILED, TERMINATED = "Started", "Completed", "Failed", "Terminated"
LAUNCHERS = (Kind.MPI, Kind.LAUNCHER)
_FAILING = frozenset(
    [signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGSYS]
)


def status_of_exit(event: dict[str, Any]) -> str:
    """Return the status that an ``exited`` event means."""
    code, number = event.get("code"), event.get("signal")
    if type(code) is int:
        return FAILED if code else COMPLETED
    return FAILED if type(number) is int and number in _FAILING else TERMINATED


def is_good_exit(event: dict[str, Any]) -> bool:
    """Say whether an ``exited`` event means an end with 0."""
    return status_of_exit(event) == COMPLETED


def exit_in_words(event: dict[str, Any]) -> str:
    """Return what an ``exited`` event says, as ``exited with code 1``."""
    code, number = event.get("code"), event.get("signal")
    if type(code) is int:
        return f"exited with code {code}"
    if type(number) is int:
        return f"ended by signal {number}{_signal_name(number)}"
    why = event.get("unknown", "")
    return "ended, nobody knows how" + (f": {one_line(why, 500)}" if why else "")


def _signal_name(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:
        return ""


@dataclass
class Process:
    """One process: a rank, a process without one, or a launcher."""

    id: str
    driver: Placed | None = None
    is_launcher: bool = False
    pid: int = 0
    has_started: bool = False
    is_over: bool = False
    is_good: bool = False
    _waiting: list[Happening] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name in process_info.json. It must have a driver."""
        assert self.driver is not None
        return process_name(self.driver.attributes)


class Happening(NamedTuple):
    """What happened to a process: the event's name, or ``gone``; when; and the event's object."""

    process: Process
    name: str
    unix_ns: int
    event: dict[str, Any]


class Census:
    """Takes a journal's lines in order and gives what happened to processes.

    ``touched`` is the process that the last line was about, or None.
    """

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self.touched: Process | None = None
        self._events: dict[str, Placed] = {}

    def handle(self, line: Line) -> list[Happening]:
        """Take the next line. Return what may now be told of a process, in order."""
        self.touched = None
        what = line["what"]
        if what == "placed":
            self._placed(placed_from_line(line))
        elif what == "event" and line["source"] in self._events:
            self._event(self._events[line["source"]], line["event"])
        elif what == "ended" and line["stream"] in self._events:
            self._events_ended(self._events[line["stream"]], line)
        process = self.touched
        if process is None or process.driver is None or process.is_launcher:
            return []
        told, process._waiting = process._waiting, []
        return told

    def _process(self, placed: Placed) -> Process:
        key = placed.attributes.process
        process = self.processes.get(key)
        if process is None:
            process = self.processes[key] = Process(key)
        self.touched = process
        return process

    def _placed(self, placed: Placed) -> None:
        kind = placed.attributes.kind
        if not placed.attributes.process or kind not in (Kind.DRIVER, Kind.EVENTS, *LAUNCHERS):
            return
        process = self._process(placed)
        if kind is Kind.EVENTS:
            self._events[placed.attributes.id] = placed
        elif kind in LAUNCHERS:
            process.is_launcher = True
        elif process.driver is None:
            process.driver = placed
            process.pid = process.pid or placed.attributes.pid

    def _event(self, placed: Placed, event: dict[str, Any]) -> None:
        process = self._process(placed)
        name = str(event["event"])
        if name == "started":
            process.has_started = True
            pid = event.get("pid")
            if type(pid) is int and 0 < pid < 2**31:  # it becomes part of a path
                process.pid = pid
        elif name == "exited":
            process.is_over, process.is_good = True, is_good_exit(event)
        unix_ns = placed.attributes.unix_ns(event["t"]) + placed.clock_offset_ns
        process._waiting.append(Happening(process, name, unix_ns, event))

    def _events_ended(self, placed: Placed, line: Line) -> None:
        process = self._process(placed)
        if process.is_over:
            return
        process.is_over = True
        if process.has_started:
            unix_ns = placed.attributes.unix_ns(line.get("boot_ns", 0)) + placed.clock_offset_ns
            process._waiting.append(Happening(process, "gone", unix_ns, {}))
