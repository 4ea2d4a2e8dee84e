"""Reads a spool: which streams lie there, their bytes and spans. Changes nothing.

Law
    * The format is ``logboom.format.spool``. A living segment's length is read before its spans,
      and spans at or past that length are left for next time.
    * An inner segment that ends before the next one begins is followed by a *hole*: bytes that
      were lost with the machine's power. A stream's bytes before its lowest segment are with the
      collector.
    * Standard library only, Python 3.8: this part belongs to the base install.
"""

from __future__ import annotations

import bisect
import fcntl
import os
import stat
from typing import Iterator, NamedTuple

from logboom.format.errors import BadFormat, BadName, LogboomError
from logboom.format.spans import RECORD_BYTES, What, decode_record
from logboom.format.spool import (
    ACKED,
    AGENT_LOCK,
    END_JSON,
    GONE,
    NODE_JSON,
    OWN,
    OWN_SPOOL,
    REFUSED,
    RUNS,
    SEGMENT,
    SPANS,
    STREAM_JSON,
    STREAM_LOCK,
    SYSTEM_SPOOL,
    offset_name,
    parse_folder_name,
    parse_offset_name,
)
from logboom.format.stream import End, StreamAttributes, decode_attributes, decode_end

# Spans of one read: a stream that changes its source at every byte has more spans than bytes.
SPANS_LIMIT_BYTES = 4096 * RECORD_BYTES
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_SPANS_STEP_BYTES = 1 << 16


class SpoolError(LogboomError):
    """A folder that is no spool, or not one that we may use."""


class Rights(NamedTuple):
    """The modes of what we make in a spool, whatever the umask."""

    file_mode: int
    folder_mode: int


def default_place() -> str:
    """Return where the spool lies when no flag says."""
    said = os.environ.get("LOGBOOM_SPOOL", "")
    if said:
        return said
    if os.path.isdir(SYSTEM_SPOOL) and os.access(SYSTEM_SPOOL, os.W_OK | os.X_OK):
        return SYSTEM_SPOOL
    return OWN_SPOOL % os.geteuid()


def check_spool(path: str) -> Rights:
    """Return the rights of what is made in this spool. Raises ``SpoolError`` if it is not ours."""
    try:
        found = os.lstat(path)
    except FileNotFoundError as error:
        raise SpoolError("there is no folder %s" % path) from error
    except OSError as error:
        raise SpoolError("folder %s cannot be used: %s" % (path, error.strerror)) from error
    if stat.S_ISLNK(found.st_mode):
        raise SpoolError("spool %s is a link" % path, "name the folder itself")
    if not stat.S_ISDIR(found.st_mode):
        raise SpoolError("spool %s is not a folder" % path)
    if found.st_mode & stat.S_ISGID and found.st_mode & stat.S_IWGRP:
        return Rights(0o660, 0o2770)
    if found.st_uid != os.geteuid():
        raise SpoolError(
            "spool %s belongs to user %d" % (path, found.st_uid),
            "name a folder of yours, or one with a set-gid group",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SpoolError("spool %s can be written by others" % path, "take that right away")
    return Rights(0o600, 0o700)


def is_spool(path: str) -> bool:
    """Say whether a folder is a spool, or an empty one that may become it."""
    names = set(os.listdir(path))
    ours = {RUNS, REFUSED, GONE, OWN, NODE_JSON, AGENT_LOCK}
    return bool(names & ours) or not names


class Place(NamedTuple):
    """Where a stream's folder is: ``<spool>/<under>/<run_id>/<name>``."""

    spool: str
    under: str
    run_id: str
    name: str

    @property
    def path(self) -> str:
        """Return the folder's path."""
        return os.path.join(self.spool, self.under, self.run_id, self.name)

    @property
    def id(self) -> str:
        """Return the stream's id, as the folder's name has it."""
        return self.name[-32:]


def find_streams(spool: str, under: str = RUNS) -> Iterator[Place]:
    """Yield the place of every folder that is named as a stream, in ``runs/`` or ``refused/``."""
    for run_id in _folders(os.path.join(spool, under)):
        for name in _folders(os.path.join(spool, under, run_id)):
            if parse_folder_name(name) is not None:
                yield Place(spool, under, run_id, name)


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


class Content(NamedTuple):
    """Bytes of a stream from ``offset`` on, with the spans that begin among them, encoded."""

    offset: int
    raw: bytes
    spans: bytes

    @property
    def end(self) -> int:
        """Return the offset after the last byte."""
        return self.offset + len(self.raw)


class _Segment:
    """One segment with its spans, open. Spans are read as they come, forward."""

    def __init__(self, folder_fd: int, start: int) -> None:
        self.start = start
        self.fd = os.open(offset_name(start, SEGMENT), _FILE, dir_fd=folder_fd)
        try:
            self._spans_fd = os.open(offset_name(start, SPANS), _FILE, dir_fd=folder_fd)
        except FileNotFoundError:
            self._spans_fd = -1  # bytes before the first span count as stdout
        except BaseException:
            os.close(self.fd)
            raise
        self._at = 0  # in the spans file
        self._content = b""  # records from _at on, read and not yet given out
        self._next = 0  # offset of the last read's end: what came before was given out

    def close(self) -> None:
        os.close(self.fd)
        if self._spans_fd >= 0:
            os.close(self._spans_fd)

    def length(self) -> int:
        return os.fstat(self.fd).st_size

    def read_spans(self, start: int, end: int, limit: int, skips_broken: bool) -> tuple[bytes, int]:
        """Return the spans in [start, end), and the end up to which they are complete."""
        if start < self._next:
            self._at, self._content = 0, b""
        taken = []
        size = at = 0
        last = start
        while self._spans_fd >= 0:
            if at + RECORD_BYTES > len(self._content):
                self._at += at
                self._content, at = self._content[at:], 0
                more = os.pread(self._spans_fd, _SPANS_STEP_BYTES, self._at + len(self._content))
                self._content += more
                if len(self._content) < RECORD_BYTES:
                    self._content = b""  # a torn one may be written again, from its start
                    break
            record = decode_record(self._content, at)
            if record is None or record[0] is not What.SPAN:
                if not skips_broken:
                    self._content = self._content[:at]  # read again later: it may be whole then
                    break
            elif record[2] >= end:
                break
            elif record[2] >= start:
                if size >= limit and record[2] > last:
                    end = record[2]
                    break
                last = record[2]
                taken.append(self._content[at : at + RECORD_BYTES])
                size += RECORD_BYTES
            at += RECORD_BYTES
        self._at += at
        self._content = self._content[at:]
        self._next = end
        return b"".join(taken), end


class Stream:
    """One stream's folder, held open: it may be renamed under us and stays readable.

    ``refresh`` must be called before anything else, and whenever the folder changed. Methods
    raise ``FileNotFoundError`` where what they need was removed.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.fd = os.open(place.path, _FOLDER)
        self._starts: list[int] = []
        self._inner: dict[int, int] = {}  # lengths of all but the newest segment: they stay
        self._open: dict[int, _Segment] = {}

    def close(self) -> None:
        """Let go of the folder and its files."""
        self._release(())
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _release(self, kept: tuple[int, ...]) -> None:
        for start in [start for start in self._open if start not in kept]:
            self._open.pop(start).close()

    def attributes(self) -> StreamAttributes:
        """Read what the stream says of itself. Raises ``BadFormat`` or ``BadName``."""
        found = decode_attributes(self.content(STREAM_JSON))
        if found.id != self.place.id or found.run_id != self.place.run_id:
            raise BadFormat("stream.json of %s is another stream's" % self.place.path)
        return found

    def content(self, name: str) -> bytes:
        """Return the content of one of the folder's small files."""
        fd = os.open(name, _FILE, dir_fd=self.fd)
        try:
            return os.read(fd, 1 << 20)
        finally:
            os.close(fd)

    def refresh(self) -> None:
        """See which segments there are now."""
        found = (parse_offset_name(name, SEGMENT) for name in os.listdir(self.fd))
        self._starts = sorted(start for start in found if start is not None)
        inner: dict[int, int] = {}
        for start in self._starts[:-1]:
            length = self._inner.get(start)
            inner[start] = self._stat(start) if length is None else length
        self._inner = inner
        self._release(tuple(self._starts))

    def _stat(self, start: int) -> int:
        name = offset_name(start, SEGMENT)
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_size

    @property
    def starts(self) -> list[int]:
        """Return the offsets at which segments begin, in order."""
        return self._starts

    @property
    def lowest(self) -> int:
        """Return the offset of the first byte that is here."""
        return self._starts[0] if self._starts else 0

    def length(self) -> int:
        """Return the stream's length in bytes, the forgotten ones included, as of now."""
        return self._starts[-1] + self._segment(self._starts[-1]).length() if self._starts else 0

    def stored_bytes(self) -> int:
        """Return how many of the stream's bytes are here."""
        newest = self._segment(self._starts[-1]).length() if self._starts else 0
        return newest + sum(self._inner.values())

    def segment_end(self, start: int) -> int:
        """Return the offset after the last byte of the segment that begins at ``start``."""
        length = self._inner.get(start)
        return start + (self._segment(start).length() if length is None else length)

    def lacks(self, offset: int) -> tuple[int, int] | None:
        """Return the hole (or forgotten range) that holds ``offset``, or None."""
        if not self._starts:
            return None
        at = bisect.bisect_right(self._starts, offset) - 1
        if at < 0:
            return 0, self._starts[0]
        end = self.segment_end(self._starts[at])
        if end <= offset and at + 1 < len(self._starts):
            return end, self._starts[at + 1]
        return None

    def _segment(self, start: int) -> _Segment:
        found = self._open.get(start)
        if found is None:
            newest = self._starts[-1]
            self._release((start, newest))
            found = self._open[start] = _Segment(self.fd, start)
        return found

    def read(self, offset: int, limit: int, length: int, is_ended: bool = False) -> Content:
        """Return bytes from ``offset`` on: at most ``limit``, none at or past ``length``.

        ``length`` must have been taken before. Fewer bytes come back where a hole begins or the
        spans grow too many; none, where ``lacks(offset)`` says why. ``is_ended``: nobody writes
        any more, so broken spans are passed over, not waited for.
        """
        raw: list[bytes] = []
        spans: list[bytes] = []
        at, end = offset, min(offset + limit, length)
        room = SPANS_LIMIT_BYTES
        index = bisect.bisect_right(self._starts, offset) - 1
        while 0 <= index < len(self._starts) and at < end and room > 0:
            start = self._starts[index]
            upto = min(end, self.segment_end(start))
            if at < start or at >= upto:
                break
            segment = self._segment(start)
            found, upto = segment.read_spans(at, upto, room, is_ended)
            content = os.pread(segment.fd, upto - at, at - start)
            raw.append(content)
            spans.append(found)
            room -= len(found)
            at += len(content)
            if at < upto:
                break  # cut under us: what is there counts
            index += 1
        return Content(offset, b"".join(raw), b"".join(spans))

    def end(self) -> End | None:
        """Return the stream's end, or None while it has none. Raises ``BadFormat``."""
        try:
            return decode_end(self.content(END_JSON))
        except FileNotFoundError:
            return None

    def is_living(self) -> bool:
        """Say whether a writer holds the stream's lock."""
        try:
            fd = os.open(STREAM_LOCK, _FILE, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def acked(self) -> int:
        """Return how far the collector has the stream, as the agent's hint says."""
        try:
            return int(self.content(ACKED).decode())
        except (FileNotFoundError, ValueError):
            return 0

    def is_there(self) -> bool:
        """Say whether the folder is still this one, at its place."""
        try:
            here = os.stat(self.place.path, follow_symlinks=False)
        except OSError:
            return False
        held = os.fstat(self.fd)
        return (here.st_dev, here.st_ino) == (held.st_dev, held.st_ino)


def open_stream(place: Place) -> tuple[Stream, StreamAttributes] | None:
    """Open a stream; None where there is none yet or any more. Raises ``BadFormat``, ``BadName``.

    ``OSError`` other than a missing file passes through.
    """
    try:
        stream = Stream(place)
    except FileNotFoundError:
        return None
    try:
        attributes = stream.attributes()
        stream.refresh()
    except FileNotFoundError:
        stream.close()
        return None
    except (BadFormat, BadName, OSError):
        stream.close()
        raise
    return stream, attributes
