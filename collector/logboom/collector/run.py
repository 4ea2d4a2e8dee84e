"""One run: its journal, and what follows from it, over any storage; it never waits.

Law
    * Opening is recovering: the journal is cut to its sound lines and synced, derived files are
      made to repeat it, and events that were committed but not yet journaled are taken.
    * What follows from the lines and the time (an attempt has ended) is decided by ``states``,
      and becomes a line too.
    * ``open`` and ``recover_stream`` may take long and may run in a thread of their own; all
      else belongs to the one thread that appends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from logboom.collector.appendfile import AppendFile
from logboom.collector.derive import Derivation
from logboom.collector.derived import DerivedFile
from logboom.collector.group import Group
from logboom.collector.journalfile import JournalFile
from logboom.collector.ledger import Ledger, Placed
from logboom.collector.nodefolders import Link
from logboom.collector.state import Decision, States
from logboom.collector.storage import Storage
from logboom.collector.stored import StoredStream
from logboom.format.errors import BadFormat, LogboomError
from logboom.format.events import read_events
from logboom.format.journal import VERSION, Line
from logboom.format.stream import Kind, StreamAttributes, attributes_to_json
from logboom.format.tree import (
    JOURNAL,
    LATEST,
    PROCESS_INFO,
    PROCESS_STATUS,
    RUN_JSON,
    RUNS,
    attempt_folder,
)

_EVENTS_READ_BYTES = 4 << 20  # an event longer than that is passed over
NOT_HERE = "acknowledged before, not here"
_DEEPEST = 64  # an event nested deeper is passed over: what reads the journal must never give up
log = logging.getLogger(__name__)


class RunFellBack(LogboomError):
    """The run must be opened anew: what was not durable is gone from it."""


class RunJournal:
    """The run's journal as an item of the group."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.files = run.journal.files

    def settled(self) -> None:
        self._run.derive(self._run.journal.take_durable())


class Run:
    """A run of the tree, opened. ``broken`` says why it may not be used any more."""

    def __init__(
        self,
        storage: Storage,
        run_id: str,
        group: Group,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.storage = storage
        self.run_id = run_id
        self.folder = RUNS + "/" + run_id
        self.journal = JournalFile(storage, self.folder + "/" + JOURNAL)
        self.ledger = Ledger()
        self.derivation = Derivation()
        self.states = States(clock())
        self.streams: dict[str, StoredStream] = {}
        self.committed: dict[str, None] = {}  # drivers with news, in order; its reader clears it
        self.broken = ""
        self.journal_item = RunJournal(self)
        self._clock = clock
        self._group = group
        self._derived: dict[str, DerivedFile] = {}
        self._scanned: dict[str, int] = {}
        self._latest = 0
        self._linked_later: dict[str, list[Link]] = {}
        self._new_streams: set[str] = set()  # placed by this very run, not one before a crash

    def exists(self) -> bool:
        """Say whether the tree has this run."""
        return self.storage.length(self.journal.file.path) is not None

    def open(self) -> None:
        """Recover the run from the tree, or begin it. ``resume`` is to follow."""
        lines = self.journal.recover()
        if lines and lines[0].get("version") != VERSION:
            raise BadFormat(f"journal of run {self.run_id} is of version {lines[0].get('version')}")
        expected: dict[str, bytearray] = {}
        opened_ns = self._clock()
        for line in lines:
            self.ledger.handle(line)
            self.states.handle(line, opened_ns)
            for path, content in self.derivation.handle(line):
                expected.setdefault(path, bytearray()).extend(content)
        for number in self.ledger.attempts.by_number:
            for name in (PROCESS_STATUS, PROCESS_INFO):
                expected.setdefault(attempt_folder(number) + name, bytearray())
        for path, whole in expected.items():
            self._derived_file(path).recover(bytes(whole))
        events = []
        for placed in self.ledger.streams.values():
            if placed.ended is None or not placed.ended.length:  # else it is no ghost, it is gone
                self._make_driver_log(placed.attributes.kind, placed.path)
            if placed.attributes.kind is Kind.EVENTS and not placed.ended and not placed.refused:
                events.append(self._stream_of(placed))
        self._link_latest()
        self._link(self.derivation.take_links())
        self.storage.sync([path for stream in events for path in stream.recover()])
        for stream in events:
            stream.recovered()
            self.streams[stream.id] = stream

    def resume(self) -> None:
        """Go on where the run was left. Raises ``OSError``."""
        if not self.journal.file.length:
            content = b'{"version":1,"run_id":"%s"}\n' % self.run_id.encode()
            self.storage.replace(self.folder + "/" + RUN_JSON, content)
            self._append("begun", version=VERSION, run_id=self.run_id)
        for derived in self._derived.values():
            if derived.file.length != derived.file.durable:
                self._group.add(self, derived)
        for stream in self.streams.values():
            self.take_events(stream)
        self._decide(self.states.finished(self._clock()))

    def place(
        self,
        attributes: StreamAttributes,
        node_id: str,
        node_ip: str,
        clock_offset_ns: int,
        clock_error_ns: int,
    ) -> Placed:
        """Return where a stream is, deciding it at its first Open. Raises ``BadName``, ``OSError``.

        The decision is durable when the journal is, up to its length now.
        """
        self.check()
        if attributes.id in self.ledger.streams:
            return self.ledger.streams[attributes.id]
        start_ns = attributes.started_unix_ns + clock_offset_ns
        while True:
            attempt, path = self.ledger.decide(attributes, node_id, start_ns)
            if not self.storage.length(self.folder + "/" + path):
                break
            self.ledger.block(attributes, node_id, attempt, path)
        self._append(
            "placed",
            attributes=attributes_to_json(attributes),
            attempt=attempt,
            path=path,
            node_id=node_id,
            node_ip=node_ip,
            clock_offset_ns=clock_offset_ns,
            clock_error_ns=clock_error_ns,
        )
        self._new_streams.add(attributes.id)
        return self.ledger.streams[attributes.id]

    def recover_stream(self, placed: Placed) -> StoredStream:
        """Recover a placed stream that is not open. ``adopt`` is to follow. Raises ``OSError``."""
        stream = self._stream_of(placed)
        paths = stream.recover()
        is_blank = not stream.length and self.storage.length(stream.spans.path) is None
        if not (is_blank and stream.id in self._new_streams):  # of a blank one nothing was cut
            self.storage.sync(paths)
        stream.recovered()
        return stream

    def adopt(self, stream: StoredStream) -> StoredStream:
        """Take a recovered stream among the open ones; return the one that is."""
        self.check()
        adopted = self.streams.setdefault(stream.id, stream)
        if self.ledger.streams[stream.id].attributes.kind is Kind.DRIVER:
            self.committed.setdefault(stream.id)
        self.take_events(adopted)
        return adopted

    def append(self, stream: StoredStream, content: memoryview, spans: bytes) -> None:
        """Append a piece to an open stream. Raises ``OSError``."""
        stream.append(content, spans)
        self._group.add(self, stream)
        self._link(self._linked_later.pop(stream.data.path, []))

    def leave_hole(self, stream: StoredStream, end: int) -> None:
        """Go on at ``end``, with a line of what is not here. Raises ``OSError``."""
        stream.data.is_ragged = True  # until the hole is noted, the next piece cuts what is over
        self.storage.set_length(stream.data.path, end)  # first: not every disk takes so much
        self._append("lost", stream=stream.id, start=stream.length, end=end, why=NOT_HERE)
        stream.leave_hole(end)
        self._group.add(self, stream)
        self._link(self._linked_later.pop(stream.data.path, []))

    def end_stream(
        self,
        stream: StoredStream,
        declared: int,
        digest: bytes,
        why: str,
        boot_ns: int,
        here: bytes,
    ) -> None:
        """Note a stream's end; ``here`` is the digest of the declared bytes as they are here.

        All its bytes must be durable.
        """
        fields: dict[str, Any] = {"stream": stream.id, "length": stream.length}
        if declared != stream.length:
            fields["declared"] = declared
        fields |= {"digest": digest.hex(), "why": why, "boot_ns": boot_ns}
        if here != digest and not self.ledger.streams[stream.id].lost:
            fields["corrupt"] = True
        self._append("ended", **fields)
        if self.ledger.streams[stream.id].attributes.kind is Kind.DRIVER:
            self.committed.setdefault(stream.id)

    def refuse_stream(self, stream_id: str, why: str) -> None:
        """Note that a stream is not taken, and never will be. Raises ``OSError``."""
        placed = self.ledger.streams.get(stream_id)
        if placed is None or not placed.refused:
            self._append("refused", stream=stream_id, why=why)

    def close(self, reason: str, unix_ns: int) -> bool:
        """End the run by hand. Return whether it had been before. Raises ``OSError``."""
        self.check()
        if self.ledger.is_closed:
            return True
        self._append("closed", reason=reason, unix_ns=unix_ns)
        return False

    def tick(self, heard_ns: Mapping[str, int]) -> None:
        """Decide what follows from time; ``heard_ns`` says when each node's agent last spoke.

        Raises ``OSError``.
        """
        if not self.broken:
            now_ns = self._clock()
            self._decide(self.states.finished(now_ns))
            self._decide(self.states.silent(now_ns, heard_ns))

    def unsettled(self) -> list[AppendFile]:
        """Return the files, of the journal and of what follows from it, that are not durable."""
        files = [self.journal.file, *(derived.file for derived in self._derived.values())]
        return [file for file in files if file.length != file.durable]

    def is_over(self) -> bool:
        """Say whether nothing is to be expected any more, of streams and of what follows.

        Nobody writes to such a run by an object that he has: he asks the store for it first.
        """
        return (
            all(placed.ended is not None for placed in self.ledger.streams.values())
            and self.states.is_all_ended()
            and not self.unsettled()
        )

    def check(self) -> None:
        """Raise ``RunFellBack`` if the run may not be used any more."""
        if self.broken:
            raise RunFellBack(f"run {self.run_id} fell back to what is durable: {self.broken}")

    def fall_back(self, reason: str) -> list[AppendFile]:
        """Cut every file to its durable length; return those that could not be cut."""
        self.broken = reason
        files = [self.journal.file, *(derived.file for derived in self._derived.values())]
        files += [file for stream in self.streams.values() for file in stream.files]
        failed = []
        for file in files:
            if file.length != file.durable or file.is_ragged:
                try:
                    file.fall_back()
                except OSError:
                    failed.append(file)
                except LogboomError as error:  # who opens the run meets it again, and cuts then
                    log.error("%s is not cut back: %s", file.path, error)
        for stream in self.streams.values():
            for watcher in tuple(stream.watchers):
                watcher()
        return failed

    def take_events(self, stream: StoredStream) -> None:
        """Put the committed events of a stream into the journal. Raises ``OSError``."""
        placed = self.ledger.streams[stream.id]
        if placed.attributes.kind is not Kind.EVENTS:
            return
        at = max(self._scanned.get(stream.id, 0), placed.cursor)
        while at < stream.durable:
            size = min(_EVENTS_READ_BYTES, stream.durable - at)
            content = self.storage.read(stream.data.path, at, size)
            whole = content.rfind(b"\n") + 1
            for event, end in read_events(content[:whole], 0, placed.next_number):
                found = {"n": event.number, "t": event.boot_ns, "event": event.name}
                if event.name != "sample" and not _is_deep(event.fields):
                    found.update(event.fields)
                    self._append("event", source=stream.id, offset=at + end, event=found)
            if not whole and size < _EVENTS_READ_BYTES:
                break
            at += whole or size
        self._scanned[stream.id] = at

    def derive(self, lines: list[Line]) -> None:
        """Write what follows from durable journal lines. Raises ``OSError``."""
        for line in lines:
            for path, content in self.derivation.handle(line):
                derived = self._derived_file(path)
                derived.file.append(content)
                self._group.add(self, derived)
            if line["what"] == "placed":
                self._make_driver_log(Kind(line["attributes"]["kind"]), line["path"])
                self._link_latest()
        self._link(self.derivation.take_links())
        self._decide(self.states.finished(self._clock()))

    def _decide(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            self._append(decision.what, **decision.fields)

    def _append(self, what: str, **fields: Any) -> None:
        self.check()
        now_ns = self._clock()
        if what != "event":  # which has a time of its own
            fields.setdefault("unix_ns", now_ns)
        line = self.journal.append(what, **fields)
        self.ledger.handle(line)
        self.states.handle(line, now_ns)
        self._group.add(self, self.journal_item)

    def _stream_of(self, placed: Placed) -> StoredStream:
        stream = StoredStream(self.storage, self.folder, placed.path, placed.attributes.id)
        if placed.attributes.kind is Kind.EVENTS:
            stream.watchers.add(lambda: None if self.broken else self.take_events(stream))
        elif placed.attributes.kind is Kind.DRIVER:
            stream.watchers.add(lambda: self.committed.setdefault(stream.id))
        return stream

    def _derived_file(self, path: str) -> DerivedFile:
        if path not in self._derived:
            self._derived[path] = DerivedFile(self.storage, self.folder + "/" + path)
        return self._derived[path]

    def _make_driver_log(self, kind: Kind, path: str) -> None:
        """A driver log exists from its placing on, so that process_info.json names no ghost."""
        if kind is Kind.DRIVER and self.storage.length(self.folder + "/" + path) is None:
            self.storage.set_length(self.folder + "/" + path, 0)

    def _link(self, links: list[Link]) -> None:
        """Make links; those to files that do not exist yet are made with the first byte there."""
        for link in links:
            path = self.folder + "/" + link.of
            if self.storage.length(path) is None:
                self._linked_later.setdefault(path, []).append(link)
            else:
                self.storage.link(self.folder + "/" + link.path, link.target)

    def _link_latest(self) -> None:
        if self.derivation.newest != self._latest:
            self._latest = self.derivation.newest
            target = attempt_folder(self._latest).rstrip("/")
            self.storage.link(self.folder + "/" + LATEST, target)


def _is_deep(value: object, left: int = _DEEPEST) -> bool:
    """Say whether objects and lists lie deeper in one another than ``left``."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left == 0 or any(_is_deep(part, left - 1) for part in inner)
