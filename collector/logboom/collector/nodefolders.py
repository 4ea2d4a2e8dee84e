"""``<node_ip>/``: what one node and its processes wrote, of a run of several nodes. Pure.

Law
    * A node counts when a process, preparation, release or a sidecar was there; the host of a
      launcher alone does not. Each attempt counts by itself.
    * Nothing is there before a second node counts; then all of it is, the first node's included.
    * A stream's file is a relative symbolic link to the flat one; ``process_info.json`` and
      ``process_status.json`` are files, of that node's processes only, with the attempt's ``*``
      line. What is one a run is not there. We never follow the links ourselves.
    * Two nodes of one address share the folder; a node without one has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from logboom.collector.ledger import placed_from_line
from logboom.collector.processfiles import Entry
from logboom.format.journal import Line
from logboom.format.stream import Kind
from logboom.format.tree import (
    PROCESS_INFO,
    PROCESS_STATUS,
    attempt_folder,
    is_per_run,
    link_target,
    node_folder,
)

_COUNTING = frozenset(
    [
        Kind.DRIVER,
        Kind.JOB_PREP,
        Kind.JOB_POST,
        Kind.START_CMS,
        Kind.PREP_CMD,
        Kind.RELEASE_CMD,
    ]
)
_ONE_A_RUN = frozenset([Kind.MPI, Kind.IMAGE_BUILD])
_FILES = (PROCESS_STATUS, PROCESS_INFO)


class Link(NamedTuple):
    """A link at ``path`` (in the run's folder) to ``target``, which is the file at ``of`` there.

    It is made once that file exists.
    """

    path: str
    target: str
    of: str


@dataclass
class _Folder:
    is_counted: bool = False
    links: set[str] = field(default_factory=set)
    waiting: list[Entry | Link] = field(default_factory=list)


@dataclass
class _Attempt:
    nodes: set[str] = field(default_factory=set)
    folders: dict[str, _Folder] = field(default_factory=dict)
    of_all: list[Entry] = field(default_factory=list)
    is_laid_out: bool = False


class NodeFolders:
    """Gives the entries (whose names begin with the folder) and links, in order."""

    def __init__(self) -> None:
        self._attempts: dict[int, _Attempt] = {}

    def handle(self, line: Line, told: list[Entry]) -> list[Entry | Link]:
        """Take the next line, and what it gave for the flat tree."""
        touched: dict[int, set[str]] = {}  # attempt: folders
        if line["what"] == "placed":
            placed = placed_from_line(line)
            kind, number = placed.attributes.kind, placed.attempt
            attempt = self._attempts.setdefault(number, _Attempt())
            ip = node_folder(placed.node_ip)
            if kind in _COUNTING:
                attempt.nodes.add(placed.node_id)
                _folder(attempt, ip).is_counted = True
            if not is_per_run(kind) and kind not in _ONE_A_RUN:
                path = placed.path.removeprefix(attempt_folder(number))
                _link(_folder(attempt, ip), number, ip, path)
            touched.setdefault(number, set()).add(ip)
        for entry in told:
            folders: set[str] = set()
            if entry.process is not None:
                folders = {self._of_process(entry)}
            elif entry.name in _FILES:
                folders = self._of_all(entry)
            touched.setdefault(entry.attempt, set()).update(folders)
        due: list[Entry | Link] = []
        for number, folders in sorted(touched.items()):
            if number in self._attempts:
                due += _due(self._attempts[number], folders)
        return due

    def _of_process(self, entry: Entry) -> str:
        assert entry.process is not None
        assert entry.process.driver is not None
        attempt = self._attempts[entry.attempt]
        ip = node_folder(entry.process.driver.node_ip)
        folder = _folder(attempt, ip)
        if entry.name in _FILES:
            folder.waiting.append(entry._replace(name=ip + entry.name))
        else:
            _link(folder, entry.attempt, ip, entry.name)
        return ip

    def _of_all(self, entry: Entry) -> set[str]:
        attempt = self._attempts.setdefault(entry.attempt, _Attempt())
        attempt.of_all.append(entry)
        for ip, folder in attempt.folders.items():
            folder.waiting.append(entry._replace(name=ip + entry.name))
        return set(attempt.folders)


def _folder(attempt: _Attempt, ip: str) -> _Folder:
    if ip not in attempt.folders:
        waiting: list[Entry | Link] = [e._replace(name=ip + e.name) for e in attempt.of_all]
        attempt.folders[ip] = _Folder(waiting=waiting)
    return attempt.folders[ip]


def _link(folder: _Folder, number: int, ip: str, path: str) -> None:
    if path not in folder.links:
        folder.links.add(path)
        start = attempt_folder(number)
        folder.waiting.append(Link(start + ip + path, link_target(path, 1), start + path))


def _due(attempt: _Attempt, touched: set[str]) -> list[Entry | Link]:
    """Return what is to be laid out now; with the second node, that of all folders."""
    if len(attempt.nodes) < 2:
        return []
    due: list[Entry | Link] = []
    for ip in sorted(touched if attempt.is_laid_out else attempt.folders):
        folder = attempt.folders.get(ip)
        if ip and folder is not None and folder.is_counted and folder.waiting:
            due += folder.waiting
            folder.waiting = []
    attempt.is_laid_out = True
    return due
