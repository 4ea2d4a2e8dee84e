"""``process_status.json`` and ``process_info.json``, from what happened to processes. Pure.

Law
    * A process has a status line before it has an info line.
    * The attempt's end is one line of the process ``*``, at most once an attempt.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from logboom.collector.census import (
    STARTED,
    TERMINATED,
    Happening,
    Process,
    status_of_exit,
)
from logboom.collector.textform import timestamp
from logboom.format.tree import PROCESS_INFO, PROCESS_STATUS, attempt_folder


class Entry(NamedTuple):
    """A line of an attempt's file ``name``; of one process, or of the attempt where None."""

    attempt: int
    name: str
    content: bytes
    process: Process | None = None


class ProcessFiles:
    """Gives the lines, in order."""

    def __init__(self) -> None:
        self._status: dict[str, str] = {}
        self._has_info: set[str] = set()
        self._over: set[int] = set()

    def status(self, process: str) -> str:
        """Return a process's last status, "" before its first."""
        return self._status.get(process, "")

    def happened(self, happening: Happening) -> list[Entry]:
        """Take what happened to a process."""
        process = happening.process
        assert process.driver is not None
        if happening.name == "started":
            status = STARTED
        elif happening.name == "exited":
            status = status_of_exit(happening.event)
        elif happening.name == "gone":
            status = TERMINATED
        else:
            return []
        attempt = process.driver.attempt
        self._status[process.id] = status
        content = _status(process.name, happening.unix_ns, status)
        told = [Entry(attempt, PROCESS_STATUS, content, process)]
        if process.id not in self._has_info:
            self._has_info.add(process.id)
            told.append(Entry(attempt, PROCESS_INFO, _info(process), process))
        return told

    def attempt_over(self, attempt: int, unix_ns: int) -> list[Entry]:
        """Take the end of an attempt."""
        if attempt in self._over:
            return []
        self._over.add(attempt)
        return [Entry(attempt, PROCESS_STATUS, _status("*", unix_ns, TERMINATED))]


def _status(name: str, unix_ns: int, status: str) -> bytes:
    return _encode({"process_name": name, "timestamp": timestamp(unix_ns), "status": status})


def _info(process: Process) -> bytes:
    driver = process.driver
    assert driver is not None
    return _encode(
        {
            "process_name": process.name,
            "node_id": driver.node_id,
            "pid_in_container": process.pid,
            "private_ip": driver.node_ip,
            "log": driver.path.removeprefix(attempt_folder(driver.attempt)),
        }
    )


def _encode(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
