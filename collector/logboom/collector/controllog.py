"""A process's control log, ``<rank>_<pid>_azureml.log``, from what happened to it. Pure.

A line is ``asctime|logger|LEVEL|message``, as the schema's own client logs; times are UTC. What
holds line ends or control characters is escaped: one happening is one line.
"""

from __future__ import annotations

from logboom.collector.census import Happening, Process, exit_in_words, is_good_exit
from logboom.collector.processfiles import Entry
from logboom.collector.textform import asctime, one_line
from logboom.format.tree import control_log

PROCESS, RECORDER = "logboom.process", "logboom.recorder"


class ControlLogs:
    """Gives the lines, in order. A process's file is named once, by its process id then."""

    def __init__(self) -> None:
        self._path: dict[str, str] = {}

    def happened(self, happening: Happening) -> list[Entry]:
        """Take what happened to a process."""
        process = happening.process
        assert process.driver is not None
        said = _said(happening)
        if said is None:
            return []
        path = self._path.get(process.id)
        if path is None:
            path = control_log(process.driver.attributes, process.pid)
            self._path[process.id] = path
        line = "|".join((asctime(happening.unix_ns), *said)) + "\n"
        return [Entry(process.driver.attempt, path, line.encode(), process)]


def _said(happening: Happening) -> tuple[str, str, str] | None:
    """Return logger, level and message."""
    event = happening.event
    if happening.name == "started":
        return PROCESS, "INFO", f"[START] {_command(happening.process, event.get('command'))}"
    if happening.name == "exited":
        level = "INFO" if is_good_exit(event) else "ERROR"
        return PROCESS, level, f"[STOP] {exit_in_words(event)}"
    if happening.name == "gone":
        return PROCESS, "ERROR", f"[STOP] {exit_in_words({})}"
    if happening.name == "lost":
        return RECORDER, "ERROR", lost_in_words(event)
    if happening.name == "message":
        return RECORDER, "WARNING", one_line(event.get("text", ""))
    return None


def _command(process: Process, command: object) -> str:
    words = command if isinstance(command, list) else []
    return one_line(f"process {process.pid}: {' '.join(map(str, words))}".rstrip(": "))


def lost_in_words(event: dict[str, object]) -> str:
    """Return what a ``lost`` event says."""
    count = event.get("bytes")
    many = f"{count:,}" if type(count) is int else "unknown"
    return f"{many} bytes lost: {one_line(event.get('why', ''), 500)}"
