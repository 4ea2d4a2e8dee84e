"""The watch: what is new in the spool, told as events. One way of finding out, looking.

Law
    * Often (``glance``): the newest segment and the folder of every living stream, by descriptor,
      and the run folders by their time of change. Seldom (``look``): everything.
    * A folder's time of change has the grain of a clock tick: one that changed just now is
      looked at again, so that nothing falls between two looks.
    * A stream whose lock is free and that has no end gets one from us.
"""

from __future__ import annotations

import logging
import os
import time

from logboom.agent import words as w
from logboom.agent.custody import bury
from logboom.agent.spool import Place, Rights, Stream, find_streams, open_stream
from logboom.format.errors import LogboomError
from logboom.format.spool import RUNS, parse_folder_name
from logboom.format.stream import End, StreamAttributes, Why

_GRAIN_NS = 50_000_000
_log = logging.getLogger("logboom.agent")


class Watched:
    """A stream of the spool, open, and what was last seen of it."""

    def __init__(self, stream: Stream, attributes: StreamAttributes) -> None:
        self.stream = stream
        self.attributes = attributes
        self.length = 0
        self.end: End | None = None
        self.changed_ns = 0


class Watch:
    """Knows the streams of one spool. Not to be used from two threads."""

    def __init__(self, spool: str, rights: Rights, stream_limit: int = 1 << 20) -> None:
        """``stream_limit``: how many are watched at once; others wait until one has gone."""
        self._spool = spool
        self._stream_limit = stream_limit
        self._is_limit_told = False
        self._rights = rights
        self._living: dict[str, Watched] = {}
        self._streams: dict[str, Watched] = {}
        self._unreadable: set[Place] = set()
        self._passed: set[str] = set()
        self._changed: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def get(self, stream: str) -> Watched | None:
        """Return a stream by its id, if it is in the spool."""
        return self._streams.get(stream)

    def forget(self, stream: str) -> None:
        """Let go of a stream that was retired or refused: it is not found again."""
        self._passed.add(stream)
        self._drop(stream)

    def lose(self, stream: str) -> None:
        """Let go of a stream that could not be read: it is found anew if it is there."""
        self._drop(stream)
        self._changed.clear()

    def _drop(self, stream: str) -> None:
        watched = self._streams.pop(stream, None)
        self._living.pop(stream, None)
        if watched is not None:
            watched.stream.close()

    def glance(self) -> list[w.FromSpool]:
        """Return what is new, as far as a cheap look shows."""
        events: list[w.FromSpool] = []
        for name, watched in list(self._living.items()):
            try:
                self._glance_at(name, watched, events)
            except OSError as error:
                self._lose(name, error, events)
        for run_id in self._changed_runs():
            self._find(run_id, events)
        return events

    def look(self) -> list[w.FromSpool]:
        """Return what is new after a look at everything; ``Looked`` comes last."""
        events: list[w.FromSpool] = []
        self._changed.clear()
        for run_id in self._changed_runs():
            self._find(run_id, events)
        for name, watched in list(self._streams.items()):
            try:
                if not watched.stream.is_there():
                    raise FileNotFoundError
                if watched.end is None:
                    self._glance_at(name, watched, events)
                if watched.end is None:
                    self._see_death(name, watched, events)
            except OSError as error:
                self._lose(name, error, events)
        there = {place.id for place in find_streams(self._spool)} if self._passed else set()
        self._passed &= there
        self._unreadable = {place for place in self._unreadable if os.path.exists(place.path)}
        events.append(w.Looked(len(self._unreadable)))
        return events

    def _glance_at(self, name: str, watched: Watched, events: list[w.FromSpool]) -> None:
        changed_ns = os.fstat(watched.stream.fd).st_mtime_ns
        if changed_ns != watched.changed_ns:
            watched.changed_ns = self._settled(changed_ns)
            self._see_segments(name, watched, events)
            self._see_end(name, watched, events)
        else:
            self._see_length(name, watched, events)

    @staticmethod
    def _settled(changed_ns: int) -> int:
        is_settled = time.time_ns() - changed_ns > _GRAIN_NS
        return changed_ns if is_settled else -1

    def _changed_runs(self) -> list[str]:
        """Return the run folders that changed since the last time, or whose ``runs/`` did."""
        runs = os.path.join(self._spool, RUNS)
        try:
            changed_ns = os.stat(runs).st_mtime_ns
        except FileNotFoundError:
            return []
        if self._changed.get("") != changed_ns:
            self._changed[""] = self._settled(changed_ns)
            with os.scandir(runs) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        self._changed.setdefault(entry.name, 0)
        found = []
        for run_id, known_ns in list(self._changed.items()):
            if not run_id:
                continue
            try:
                changed_ns = os.stat(os.path.join(runs, run_id), follow_symlinks=False).st_mtime_ns
            except FileNotFoundError:
                del self._changed[run_id]
                continue
            if known_ns != changed_ns:
                self._changed[run_id] = self._settled(changed_ns)
                found.append(run_id)
        return found

    def _find(self, run_id: str, events: list[w.FromSpool]) -> None:
        try:
            names = os.listdir(os.path.join(self._spool, RUNS, run_id))
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            known = name[-32:]
            if known in self._streams or known in self._passed or parse_folder_name(name) is None:
                continue
            if len(self._streams) >= self._stream_limit:
                self._changed[run_id] = -1
                self._tell_limit()
                return
            self._meet(Place(self._spool, RUNS, run_id, name), events)

    def _tell_limit(self) -> None:
        if not self._is_limit_told:
            self._is_limit_told = True
            _log.warning(
                "%d streams are as many as the limit of open files allows at once; the others wait "
                "in the spool; raise it: ulimit -n",
                self._stream_limit,
            )

    def _meet(self, place: Place, events: list[w.FromSpool]) -> None:
        try:
            opened = open_stream(place)
        except (LogboomError, OSError) as error:
            if place not in self._unreadable:
                self._unreadable.add(place)
                _log.error("%s cannot be read and stays where it is: %s", place.path, error)
            return
        if opened is None:
            self._changed[place.run_id] = -1  # stream.json is still to come: no change of the run
            return
        self._unreadable.discard(place)
        stream, attributes = opened
        watched = self._streams[place.id] = self._living[place.id] = Watched(stream, attributes)
        try:
            watched.length = stream.length()
            events.append(w.Found(place.id, attributes, watched.length))
            self._see_end(place.id, watched, events)
            if watched.end is None:  # its writer may be dead since long
                self._see_death(place.id, watched, events)
        except OSError as error:
            self._lose(place.id, error, events)

    def _see_segments(self, name: str, watched: Watched, events: list[w.FromSpool]) -> None:
        watched.stream.refresh()
        self._see_length(name, watched, events)

    def _see_length(self, name: str, watched: Watched, events: list[w.FromSpool]) -> None:
        length = watched.stream.length()
        if length > watched.length:
            watched.length = length
            events.append(w.Grew(name, length))

    def _see_end(self, name: str, watched: Watched, events: list[w.FromSpool]) -> None:
        try:
            end = watched.stream.end()
        except LogboomError as error:
            _log.error(
                "%s: %s; it is taken to end where its bytes do", watched.stream.place.path, error
            )
            end = End(watched.length, 0, Why.RECORDER_GONE)
        if end is not None:
            self._finish(name, watched, end, events)

    def _see_death(self, name: str, watched: Watched, events: list[w.FromSpool]) -> None:
        end = bury(watched.stream, self._rights)
        if end is not None:
            self._finish(name, watched, end, events)

    def _finish(self, name: str, watched: Watched, end: End, events: list[w.FromSpool]) -> None:
        watched.stream.refresh()
        self._see_length(name, watched, events)
        if end.length != watched.length:
            _log.error(
                "stream %s ends at %d by its end.json, but the spool holds it up to %d",
                name, end.length, watched.length,
            )  # fmt: skip
        # What the spool lost is part of the stream all the same: a hole up to its end.
        watched.end = End(max(end.length, watched.length), end.boot_ns, end.why)
        self._living.pop(name, None)
        events.append(w.Ended(name, watched.end))

    def _lose(self, name: str, error: OSError, events: list[w.FromSpool]) -> None:
        if not isinstance(error, FileNotFoundError):
            _log.error("stream %s cannot be read: %s", name, error)
        self._drop(name)
        events.append(w.Vanished(name))
