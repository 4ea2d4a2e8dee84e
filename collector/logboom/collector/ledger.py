"""What a run's journal says: its streams, where they lie, how they ended. Pure.

The ledger takes every line as it is appended, so that the next decision knows it, durable or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from logboom.collector.placing import Attempts, Newcomer
from logboom.format.errors import LogboomError
from logboom.format.journal import Line
from logboom.format.stream import Kind, StreamAttributes, attributes_from_json
from logboom.format.tree import attempt_folder, is_per_run, numbered, stream_path

_OWN_OUTPUT = (Kind.DRIVER, Kind.EVENTS)
OPENING = (*_OWN_OUTPUT, Kind.MPI, Kind.LAUNCHER, Kind.JOB_PREP)


@dataclass
class Ended:
    """A stream's end as the journal has it. ``declared`` is less where the node declared less."""

    length: int
    declared: int
    digest: str
    why: str
    is_corrupt: bool


@dataclass
class Placed:
    """A stream, and what was decided and heard of it."""

    attributes: StreamAttributes
    attempt: int
    path: str
    node_id: str
    node_ip: str
    clock_offset_ns: int
    clock_error_ns: int
    ended: Ended | None = None
    lost: list[tuple[int, int, str]] = field(default_factory=list)
    refused: str = ""
    cursor: int = 0
    next_number: int = 0
    number: int = 0  # of the journal's line that placed it

    @property
    def start_ns(self) -> int:
        """The start in the collector's unix time."""
        return self.attributes.started_unix_ns + self.clock_offset_ns


def placed_from_line(line: Line) -> Placed:
    """Return the stream that a ``placed`` line is about. Raises ``BadFormat``, ``BadName``."""
    return Placed(
        attributes_from_json(line["attributes"]),
        line["attempt"],
        line["path"],
        line["node_id"],
        line["node_ip"],
        line["clock_offset_ns"],
        line["clock_error_ns"],
        number=line.get("n", 0),
    )


class PathTaken(LogboomError):
    """A stream's path leads through another stream's file."""


class Ledger:
    """The streams and attempts of one run."""

    def __init__(self) -> None:
        self.streams: dict[str, Placed] = {}
        self.by_path: dict[str, Placed] = {}
        self.attempts = Attempts()
        self.closed = ""
        self.is_closed = False
        self._attempt_of: dict[str, int] = {}
        self._events_of: dict[str, Placed] = {}  # events that entered an attempt, by process
        self._folders: set[str] = set()

    def handle(self, line: Line) -> None:
        """Take the next line of the journal. Raises ``BadFormat`` where it is not one of ours."""
        what = line["what"]
        if what == "placed":
            self._place(line)
        elif what == "event":
            source = self.streams[line["source"]]
            source.cursor = line["offset"]
            source.next_number = line["event"]["n"] + 1
        elif what == "ended":
            self.streams[line["stream"]].ended = Ended(
                line["length"],
                line["declared"] if "declared" in line else line["length"],
                line["digest"],
                line["why"],
                line.get("corrupt", False),
            )
        elif what == "lost":
            self.streams[line["stream"]].lost.append((line["start"], line["end"], line["why"]))
        elif what == "refused":
            if line["stream"] in self.streams:
                self.streams[line["stream"]].refused = line["why"]
        elif what == "closed":
            self.closed, self.is_closed = line["reason"], True
            for number in self.attempts.by_number:
                self.attempts.close(number, line.get("unix_ns", 0))
        elif what == "attempt_ended":
            self.attempts.close(line["attempt"], line["unix_ns"])

    def decide(self, attributes: StreamAttributes, node_id: str, start_ns: int) -> tuple[int, str]:
        """Return the attempt and path of a stream not seen before. Changes nothing.

        Raises ``BadName`` or ``PathTaken`` where the tree cannot hold it.
        """
        path = stream_path(attributes, node_id)
        if attributes.process in self._attempt_of:
            attempt = self._attempt_of[attributes.process]
        elif attributes.kind in OPENING:
            attempt = self.attempts.choose(_newcomer(attributes, node_id, start_ns))
        else:
            attempt = self.attempts.follow(start_ns)
        if not is_per_run(attributes.kind):
            path = attempt_folder(attempt) + path
        return attempt, self._free(path)

    def block(self, attributes: StreamAttributes, node_id: str, attempt: int, path: str) -> None:
        """Note that a file which the journal does not know lies at ``path``."""
        self._folders.add(path)
        if attributes.process not in self._attempt_of and attributes.kind in OPENING:
            self.attempts.block(attempt, slot_of(attributes, node_id))

    def _free(self, path: str) -> str:
        folders = _folders_of(path)
        for folder in folders:
            if folder in self.by_path:
                raise PathTaken(f"path {path!r} leads through the file {folder!r}")
        free, number = path, 0
        while free in self.by_path or free in self._folders:
            number += 1
            free = numbered(path, number)
        return free

    def _place(self, line: Line) -> None:
        placed = placed_from_line(line)
        attributes = placed.attributes
        self.streams[attributes.id] = placed
        self.by_path[placed.path] = placed
        self._folders.update(_folders_of(placed.path))
        is_known = attributes.process and attributes.process in self._attempt_of
        if attributes.kind in OPENING and not is_known:
            if placed.attempt not in self.attempts.by_number:
                self.is_closed = False
            self._enter(placed)
        elif is_known and attributes.kind in (Kind.MPI, Kind.LAUNCHER):
            # Its events came first, and looked like those of a process without a rank.
            events = self._events_of.get(attributes.process)
            if events is not None and events.attempt == placed.attempt:
                self.attempts.leave(events.attempt, slot_of(events.attributes, events.node_id))
            self._enter(placed)
        if attributes.kind is Kind.EVENTS and not is_known:
            self._events_of[attributes.process] = placed
        if attributes.process:
            self._attempt_of.setdefault(attributes.process, placed.attempt)

    def _enter(self, placed: Placed) -> None:
        newcomer = _newcomer(placed.attributes, placed.node_id, placed.start_ns)
        self.attempts.enter(placed.attempt, newcomer)


def slot_of(attributes: StreamAttributes, node_id: str) -> str:
    """Return what only one process of an attempt can have."""
    if attributes.kind in _OWN_OUTPUT:
        rank = attributes.rank if attributes.world_size > 1 else None
        return "driver" if rank is None else "driver %d" % rank
    return stream_path(attributes, node_id)


def _newcomer(attributes: StreamAttributes, node_id: str, start_ns: int) -> Newcomer:
    is_ranked = attributes.kind in _OWN_OUTPUT
    return Newcomer(
        slot_of(attributes, node_id),
        attributes.world_size if is_ranked else None,
        attributes.launch_mark,
        start_ns,
        attributes.attempt,
    )


def _folders_of(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
