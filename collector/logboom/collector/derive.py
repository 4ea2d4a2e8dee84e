"""What people read, as a function of the journal's lines alone. Pure.

Law
    * Every derived file is the lines that this gives for it, in the journal's order; LAYOUT.md has
      their form.
    * Nothing but the journal's lines is asked: no clock, no file, no setting.
"""

from __future__ import annotations

from logboom.collector.census import Census
from logboom.collector.controllog import ControlLogs
from logboom.collector.executionlog import ExecutionLog
from logboom.collector.ledger import OPENING
from logboom.collector.nodefolders import Link, NodeFolders
from logboom.collector.processfiles import ProcessFiles
from logboom.format.journal import Line
from logboom.format.stream import Kind
from logboom.format.tree import attempt_folder

Appended = tuple[str, bytes]


class Derivation:
    """Takes a journal's lines in order and gives the lines that follow from each."""

    def __init__(self) -> None:
        self.newest = 0
        self._attempts: set[int] = set()
        self._census = Census()
        self._control_logs = ControlLogs()
        self._execution_log = ExecutionLog()
        self._node_folders = NodeFolders()
        self._process_files = ProcessFiles()
        self._links: list[Link] = []

    def status(self, process: str) -> str:
        """Return a process's last status, "" before its first."""
        return self._process_files.status(process)

    def handle(self, line: Line) -> list[Appended]:
        """Take the next line. Return ``(path in the run's folder, line with newline)`` pairs."""
        happenings = self._census.handle(line)
        told = self._execution_log.handle(line)
        for happening in happenings:
            told += self._process_files.happened(happening)
            told += self._control_logs.happened(happening)
            told += self._execution_log.happened(happening)
        what = line["what"]
        if what == "placed":
            self.newest = max(self.newest, line["attempt"])
            if Kind(line["attributes"]["kind"]) in OPENING:
                self._attempts.add(line["attempt"])
        elif what == "attempt_ended":
            told += self._process_files.attempt_over(line["attempt"], line["unix_ns"])
        elif what == "closed":
            for attempt in sorted(self._attempts):
                told += self._process_files.attempt_over(attempt, line.get("unix_ns", 0))
        for found in self._node_folders.handle(line, told):
            if isinstance(found, Link):
                self._links.append(found)
            else:
                told.append(found)
        return [(attempt_folder(entry.attempt) + entry.name, entry.content) for entry in told]

    def take_links(self) -> list[Link]:
        """Return the links that followed from the lines since the last call."""
        links, self._links = self._links, []
        return links
