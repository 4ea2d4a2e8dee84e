"""An overall log: every process's stdout, or stderr, of one attempt, line by line.

Law
    * Only committed bytes are read. Streams come in the order of their commits, a bounded piece
      of each at a time.
    * Lines are appended; ``commit`` syncs them and then appends the cursors: a cursor is never
      ahead of the lines. Opening cuts the log at its last sound cursor and goes on there, so that
      no line is lost and none is there twice.
    * Lines that are missing although their cursors are there (somebody removed the log) are made
      again from them, byte for byte.
    * The log ends at a limit, with a line that says where the whole streams are.

Nothing here is in the group of the run: what fails here fails alone, and is opened anew. But a
sync that fails may have taken the error of somebody else's bytes with it: ``SyncFailed`` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from logboom.collector.appendfile import AppendFile
from logboom.collector.ledger import Placed
from logboom.collector.linecutter import PART, LineCutter
from logboom.collector.spancursor import SpanCursor
from logboom.collector.storage import Storage
from logboom.format.cursors import RECORD_BYTES, Cursor, What, decode_cursors, encode_cursor
from logboom.format.spans import Source, decode_all_spans
from logboom.format.tree import STDERR_LOG, STDOUT_LOG, attempt_folder, spans_path

LIMIT_BYTES = 1 << 30
UNFINISHED_NS = 10 * 10**9
CHUNK_BYTES = 256 << 10
_LIMIT_LINE_BYTES = 256
_CURSORS_READ_BYTES = RECORD_BYTES << 15
NAMES = {Source.STDOUT: STDOUT_LOG, Source.STDERR: STDERR_LOG}


class SyncFailed(OSError):
    """A sync failed: nothing since the last good one is trusted, whoever wrote it."""


class Job(NamedTuple):
    """A stream that may be read up to ``end`` now; ``holes`` of it are not there."""

    placed: Placed
    end: int
    has_ended: bool
    holes: Sequence[tuple[int, int]]


class _Reader:
    """One stream, read for one log."""

    def __init__(self, storage: Storage, folder: str, placed: Placed, source: Source) -> None:
        self.number = placed.number
        self.data = f"{folder}/{placed.path}"
        self.spans = SpanCursor(storage, f"{folder}/{spans_path(placed.path)}")
        attributes, offset_ns = placed.attributes, placed.clock_offset_ns
        rank = attributes.rank or 0
        self.cutter = LineCutter(source, rank, lambda ns: attributes.unix_ns(ns) + offset_ns)
        self.unfinished_ns = 0  # since when the line that is open has been
        self._storage = storage

    def skip(self, cursor: int) -> None:
        """Begin at ``cursor``. Nothing was read yet."""
        self.cutter.at = self.cutter.cursor = cursor

    def advance(self, end: int, holes: Sequence[tuple[int, int]]) -> bytes:
        """Read up to ``end``; return the lines. What is before a hole does not go on after it."""
        out = b""
        for start, stop in sorted(holes):
            if start < end and stop > self.cutter.at:
                out += self._read(max(start, self.cutter.at)) + self.cutter.part()
                self.cutter.at = min(stop, end)
        return out + self._read(end)

    def _read(self, end: int) -> bytes:
        out = []
        while self.cutter.at < end:
            at = self.cutter.at
            content = self._storage.read(self.data, at, min(CHUNK_BYTES, end - at))
            if not content:
                raise OSError(f"{self.data} is shorter than what was committed")
            spans = decode_all_spans(self.spans.up_to(at, at + len(content)))
            out.append(self.cutter.take(content, spans))
        return b"".join(out)


class OverallLog:
    """``stdoutlogs.txt`` or ``stderrlogs.txt`` of an attempt."""

    def __init__(
        self, storage: Storage, folder: str, attempt: int, source: Source, limit_bytes: int
    ) -> None:
        path = attempt_folder(attempt) + NAMES[source]
        self.log = AppendFile(storage, f"{folder}/{path}")
        self.cursors = AppendFile(storage, f"{folder}/{spans_path(path)}")
        self.is_full = False
        self.readers: dict[int, _Reader] = {}
        self._storage = storage
        self._folder = folder
        self._attempt = attempt
        self._source = source
        self._limit_bytes = limit_bytes
        self._uncommitted: list[Cursor] = []
        self._ends_in_part = False
        self._last: dict[int, int] = {}

    def recover(self, placed: dict[int, Job]) -> None:
        """Cut the log at its last sound cursor, or make again what is missing before it.

        ``placed``: every stream that a cursor may name, by number. Raises ``OSError``.
        """
        known = self._read_cursors()
        length = self._storage.length(self.log.path) or 0
        there = known
        if known and known[-1].end > length:
            there = [cursor for cursor in known if cursor.end <= length]
        end = there[-1].end if there else 0
        self.log.length = end
        if length != end:
            self._storage.set_length(self.log.path, end)
        self._take(there)
        kept = len(there)
        for cursor in known[kept:]:
            if not self._make_again(cursor, placed):
                break
            kept += 1
        self.cursors.length = kept * RECORD_BYTES
        if (self._storage.length(self.cursors.path) or 0) != self.cursors.length:
            self._storage.set_length(self.cursors.path, self.cursors.length)
        if known or length:
            self._sync(self.log.path, self.cursors.path)

    def _read_cursors(self) -> list[Cursor]:
        length = self._storage.length(self.cursors.path) or 0
        found: list[Cursor] = []
        for at in range(0, length, _CURSORS_READ_BYTES):
            content = self._storage.read(self.cursors.path, at, _CURSORS_READ_BYTES)
            more = decode_cursors(content, found[-1].end if found else 0)
            found += more
            if len(more) * RECORD_BYTES < _CURSORS_READ_BYTES:
                break
        return found

    def _take(self, cursors: Sequence[Cursor]) -> None:
        for cursor in cursors:
            self.is_full = self.is_full or cursor.what is What.LIMIT
            self._last[cursor.stream] = cursor.source

    def _make_again(self, cursor: Cursor, placed: dict[int, Job]) -> bool:
        """Append the lines before a cursor; False if they are not those that it tells of."""
        if cursor.what is What.LIMIT:
            text = self._limit_line()
        elif cursor.stream not in placed or placed[cursor.stream].end < cursor.source:
            return False
        else:
            job = placed[cursor.stream]
            reader = self._reader(job.placed)
            text = reader.advance(cursor.source, job.holes) + reader.cutter.part()
        if self.log.length + len(text) != cursor.end:
            self.readers.clear()
            return False
        self.log.append(text)
        self._take([cursor])
        return True

    def work(self, job: Job, now_ns: int) -> bool:
        """Take a piece of a stream. Return whether there is more now. Raises ``OSError``."""
        if self.is_full:
            return False
        reader = self._reader(job.placed)
        cutter = reader.cutter
        end = min(job.end, cutter.at + CHUNK_BYTES)
        if end < cutter.at:
            return False
        text = reader.advance(end, job.holes)
        is_at_end = cutter.at >= job.end
        if is_at_end and job.has_ended:
            text += cutter.part()
        self._append(reader, text)
        if not cutter.is_within_a_line:
            reader.unfinished_ns = 0
        elif text or not reader.unfinished_ns:
            reader.unfinished_ns = now_ns
        return not is_at_end and not self.is_full

    def age(self, now_ns: int) -> bool:
        """Let out, in parts, what was not finished for 10 s. Raises ``OSError``."""
        has_aged = False
        for reader in self.readers.values():
            if reader.unfinished_ns and now_ns - reader.unfinished_ns >= UNFINISHED_NS:
                self._append(reader, reader.cutter.part())
                reader.unfinished_ns = 0
                has_aged = True
        return has_aged

    def commit(self) -> None:
        """Make the lines durable, and then the cursors known. Raises ``OSError``."""
        if not self._uncommitted:
            return
        self._sync(self.log.path, self.cursors.path)  # these cursors, and those of last time
        self.log.durable = self.log.length
        self.cursors.append(b"".join(map(encode_cursor, self._uncommitted)))
        self._uncommitted.clear()

    def _sync(self, *paths: str) -> None:
        try:
            self._storage.sync(paths)
        except OSError as error:
            raise SyncFailed(error.errno, error.strerror) from error

    def _reader(self, placed: Placed) -> _Reader:
        reader = self.readers.get(placed.number)
        if reader is None:
            reader = _Reader(self._storage, self._folder, placed, self._source)
            reader.skip(self._last.get(placed.number, 0))
            self.readers[placed.number] = reader
        return reader

    def _append(self, reader: _Reader, text: bytes) -> None:
        if not text or self.is_full:
            return
        number, source = reader.number, reader.cutter.cursor
        if self.log.length + len(text) + _LIMIT_LINE_BYTES > self._limit_bytes:
            self.is_full = True
            text, number, source = self._limit_line(), 0, 0
        what = What.LIMIT if self.is_full else What.LINES
        self.log.append(text)
        last = self._uncommitted[-1] if self._uncommitted else None
        if last is not None and last.stream == number and not self._ends_in_part:
            self._uncommitted.pop()  # one cursor for lines that follow one another
        self._ends_in_part = text.endswith(PART + b"\n")
        self._uncommitted.append(Cursor(what, number, source, self.log.length))

    def _limit_line(self) -> bytes:
        whole = attempt_folder(self._attempt) + "azureml-logs/70_driver_log*.txt"
        limit = f"{self._limit_bytes:,}"
        return (
            f"[logboom: this file ends at {limit} bytes; the whole streams are {whole}]\n".encode()
        )


class RunOverall:
    """The overall logs of a run. Everything here may be done in a thread, one call at a time.

    ``has_unfinished``: there are lines that ``age`` may have to let out.
    """

    def __init__(self, storage: Storage, folder: str, limit_bytes: int = LIMIT_BYTES) -> None:
        self.has_unfinished = False
        self._storage = storage
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._logs: dict[tuple[int, Source], OverallLog] = {}

    def open(self, jobs: Sequence[Job]) -> None:
        """Recover the logs of every attempt that a stream is in. Raises ``OSError``."""
        by_attempt: dict[int, dict[int, Job]] = {}
        for job in jobs:
            by_attempt.setdefault(job.placed.attempt, {})[job.placed.number] = job
        for attempt, placed in by_attempt.items():
            for source in NAMES:
                log = self._log(attempt, source)
                log.recover(placed)

    def work(self, jobs: Sequence[Job], now_ns: int) -> list[Job]:
        """Take a piece of each stream; return those of which there is more now."""
        more = []
        for job in jobs:
            logs = [self._log(job.placed.attempt, source) for source in NAMES]
            has_more = [log.work(job, now_ns) for log in logs]
            if any(has_more):
                more.append(job)
        self._look_for_unfinished()
        return more

    def age(self, now_ns: int) -> bool:
        """Let out what was not finished for 10 s. Return whether something was."""
        has_aged = [log.age(now_ns) for log in self._logs.values()]
        self._look_for_unfinished()
        return any(has_aged)

    def commit(self) -> None:
        """Make what was written durable. Raises ``OSError``."""
        for log in self._logs.values():
            log.commit()

    def _look_for_unfinished(self) -> None:
        readers = (r for log in self._logs.values() for r in log.readers.values())
        self.has_unfinished = any(reader.unfinished_ns for reader in readers)

    def _log(self, attempt: int, source: Source) -> OverallLog:
        key = (attempt, source)
        if key not in self._logs:
            self._logs[key] = OverallLog(
                self._storage, self._folder, attempt, source, self._limit_bytes
            )
        return self._logs[key]
