"""Reads spool folders for tests, from the format's own words and nothing of the agent."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logboom.format.events import read_events
from logboom.format.spans import Source, Span, decode_spans, split_sources
from logboom.format.spool import SEGMENT, SPANS, STREAM_JSON, STREAM_LOCK, parse_offset_name
from logboom.format.stream import Kind, StreamAttributes, decode_attributes, decode_end


@dataclass(frozen=True)
class SpooledStream:
    """A stream as it lies in a spool."""

    folder: Path
    attributes: StreamAttributes

    @property
    def data(self) -> bytes:
        """All of its bytes; segments must follow one another without a gap."""
        content = bytearray()
        for start, path in self._files(SEGMENT):
            assert start == len(content), f"segment {path} begins at {len(content)}"
            content += path.read_bytes()
        return bytes(content)

    @property
    def spans(self) -> list[Span]:
        """Its spans; each segment's file must begin with one at the segment's start."""
        found: list[Span] = []
        for start, path in self._files(SPANS):
            content = path.read_bytes()
            spans, taken = decode_spans(content)
            assert taken == len(content), f"{path} is broken at {taken}"
            assert spans[0].offset == start
            found += spans
        return found

    def source(self, source: Source) -> bytes:
        """The bytes of one source, in order."""
        data = self.data
        ranges = split_sources(self.spans, len(data))
        return b"".join(data[start:end] for start, end, of in ranges if of is source)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events in an events stream."""
        return [{"event": event.name, **event.fields} for event, _ in read_events(self.data)]

    @property
    def has_ended(self) -> bool:
        """Whether its end was written."""
        return (self.folder / "end.json").exists()

    @property
    def end_length(self) -> int:
        """The length that its end declares."""
        return decode_end((self.folder / "end.json").read_bytes()).length

    @property
    def is_locked(self) -> bool:
        """Whether its writer lives."""
        fd = os.open(self.folder / STREAM_LOCK, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _files(self, suffix: str) -> list[tuple[int, Path]]:
        found = ((parse_offset_name(path.name, suffix), path) for path in self.folder.iterdir())
        return sorted((start, path) for start, path in found if start is not None)


def read_spool(spool: Path, kind: Kind | None = None) -> list[SpooledStream]:
    """Return the streams of a spool by rank, or those of one kind."""
    found = []
    for path in spool.glob(f"runs/*/*/{STREAM_JSON}"):
        attributes = decode_attributes(path.read_bytes())
        if kind is None or attributes.kind is kind:
            found.append(SpooledStream(path.parent, attributes))
    return sorted(found, key=lambda s: (s.attributes.rank or 0, s.attributes.started_boot_ns))


def the_driver(spool: Path) -> SpooledStream:
    """Return the one driver stream of a spool."""
    (stream,) = read_spool(spool, Kind.DRIVER)
    return stream


def the_events(spool: Path) -> SpooledStream:
    """Return the one events stream of a spool."""
    (stream,) = read_spool(spool, Kind.EVENTS)
    return stream


def wait_for(what: Callable[[], bool], bound_s: float = 30) -> None:
    """Wait until ``what`` holds; fail where it never does."""
    until = time.monotonic() + bound_s
    while not what():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.01)


def wait_for_ends(spool: Path) -> None:
    """Wait until every stream of the spool has ended."""
    wait_for(lambda: all(stream.has_ended for stream in read_spool(spool)))
