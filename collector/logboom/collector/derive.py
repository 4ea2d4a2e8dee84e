"""What people read, as a function of the journal's lines alone. Pure.

Law
    * ``process_status.json`` and ``process_info.json`` of an attempt are the lines that this
      gives, in the journal's order; LAYOUT.md has their form.
    * A process has a status line before it has an info line, and neither before its driver is
      placed: only then is it known to be no launcher.
    * Times are the node's, corrected by the clock offset of the stream's placing.
"""

from __future__ import annotations

import datetime
import json
import signal
from dataclasses import dataclass, field
from typing import Any

from logboom.collector.ledger import Placed
from logboom.format.journal import Line
from logboom.format.stream import Kind, attributes_from_json
from logboom.format.tree import PROCESS_INFO, PROCESS_STATUS, attempt_folder, process_name

STARTED, COMPLETED, FAILED, TERMINATED = "Started", "Completed", "Failed", "Terminated"
_LAST_SECOND = 253402300799  # of the year 9999
_FAILING = frozenset(
    [signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGSYS]
)


def timestamp(unix_ns: int) -> str:
    """Return a time as RFC 3339, UTC, nine digits; one that has no such form at the nearest end."""
    second, ns = divmod(min(max(unix_ns, 0), _LAST_SECOND * 10**9 + 999_999_999), 10**9)
    moment = datetime.datetime.fromtimestamp(second, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + ".%09dZ" % ns


def status_of_exit(event: dict[str, Any]) -> str:
    """Return the status that an ``exited`` event means."""
    code, number = event.get("code"), event.get("signal")
    if type(code) is int:
        return FAILED if code else COMPLETED
    return FAILED if type(number) is int and number in _FAILING else TERMINATED


@dataclass
class _Process:
    driver: Placed | None = None
    is_launcher: bool = False
    pid: int = 0
    status: str = ""
    has_info: bool = False
    waiting: list[tuple[str, int]] = field(default_factory=list)


Appended = tuple[str, bytes]


class Derivation:
    """Takes a journal's lines in order and gives the lines that follow from each."""

    def __init__(self) -> None:
        self.newest = 0
        self._processes: dict[str, _Process] = {}
        self._events: dict[str, Placed] = {}

    def status(self, process: str) -> str:
        """Return a process's last status, "" before its first."""
        found = self._processes.get(process)
        return found.status if found else ""

    def handle(self, line: Line) -> list[Appended]:
        """Take the next line. Return ``(path in the run's folder, line with newline)`` pairs."""
        what = line["what"]
        if what == "placed":
            return self._placed(line)
        if what == "event":
            return self._event(line)
        if what == "ended" and line["stream"] in self._events:
            return self._events_ended(line)
        if what == "closed":
            return [self._status_line(self.newest, "*", line.get("unix_ns", 0), TERMINATED)]
        return []

    def _placed(self, line: Line) -> list[Appended]:
        placed = Placed(
            attributes_from_json(line["attributes"]), line["attempt"], line["path"],
            line["node_id"], line["node_ip"], line["clock_offset_ns"], line["clock_error_ns"],
        )  # fmt: skip
        self.newest = max(self.newest, placed.attempt)
        kind, process_id = placed.attributes.kind, placed.attributes.process
        if not process_id:
            return []
        process = self._processes.setdefault(process_id, _Process())
        if kind is Kind.EVENTS:
            self._events[placed.attributes.id] = placed
        elif kind in (Kind.MPI, Kind.LAUNCHER):
            process.is_launcher = True
        elif kind is Kind.DRIVER and process.driver is None:
            process.driver = placed
            process.pid = process.pid or placed.attributes.pid
        return self._tell(process)

    def _event(self, line: Line) -> list[Appended]:
        placed = self._events.get(line["source"])
        if placed is None:
            return []
        event = line["event"]
        process = self._processes[placed.attributes.process]
        unix_ns = placed.attributes.unix_ns(event["t"]) + placed.clock_offset_ns
        if event["event"] == "started":
            if isinstance(event.get("pid"), int):
                process.pid = event["pid"]
            process.waiting.append((STARTED, unix_ns))
        elif event["event"] == "exited":
            process.waiting.append((status_of_exit(event), unix_ns))
        return self._tell(process)

    def _events_ended(self, line: Line) -> list[Appended]:
        """Events that end without ``exited`` mean unknown."""
        placed = self._events[line["stream"]]
        process = self._processes[placed.attributes.process]
        last = process.waiting[-1][0] if process.waiting else process.status
        if last != STARTED:
            return []
        unix_ns = placed.attributes.unix_ns(line.get("boot_ns", 0)) + placed.clock_offset_ns
        process.waiting.append((TERMINATED, unix_ns))
        return self._tell(process)

    def _tell(self, process: _Process) -> list[Appended]:
        if process.driver is None or process.is_launcher:
            return []
        told = []
        name = process_name(process.driver.attributes)
        for status, unix_ns in process.waiting:
            told.append(self._status_line(process.driver.attempt, name, unix_ns, status))
            process.status = status
        process.waiting.clear()
        if process.status and not process.has_info:
            process.has_info = True
            told.append(_info_line(process, process.driver, name))
        return told

    def _status_line(self, attempt: int, name: str, unix_ns: int, status: str) -> Appended:
        entry = {"process_name": name, "timestamp": timestamp(unix_ns), "status": status}
        return attempt_folder(attempt) + PROCESS_STATUS, _encode(entry)


def _info_line(process: _Process, driver: Placed, name: str) -> Appended:
    folder = attempt_folder(driver.attempt)
    entry = {
        "process_name": name,
        "node_id": driver.node_id,
        "pid_in_container": process.pid,
        "private_ip": driver.node_ip,
        "log": driver.path.removeprefix(folder),
    }
    return folder + PROCESS_INFO, _encode(entry)


def _encode(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
