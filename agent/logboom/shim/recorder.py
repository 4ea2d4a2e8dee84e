"""The recorder: moves what a process writes into its stream, and writes what became of it.

Law
    * A turn is counted at least every TURN_S, waiting for room included.
    * At a limit the bytes stay where they are for ROOM_WAIT_S; then they are dropped and counted,
      and as soon as there is room the stream says how many.
    * When the command has ended, what is in the pipes at that moment is moved, END_S at most;
      then the process's end is written and the shim told. A pipe that a grandchild holds is read
      on: closing it would kill the grandchild.
"""

from __future__ import annotations

import os
import select
import time
from typing import Any

from logboom.format.spans import Source
from logboom.format.spool import END_JSON
from logboom.format.stream import End, Why, encode_end
from logboom.shim.board import Board, Field
from logboom.shim.eventlog import CANNOT_RUN, EXITED, STARTED, EventLog, outcome
from logboom.shim.intake import Intake
from logboom.shim.loss import NO_RECORDER, unmarked_bytes
from logboom.shim.room import NO_ROOM, Room, refusal
from logboom.shim.segments import Segments
from logboom.shim.settings import (
    END_S,
    LAST_WORDS_S,
    PIPE_BYTES,
    REST_S,
    ROOM_WAIT_S,
    STAGE_BYTES,
    TURN_S,
)
from logboom.shim.turns import Hold, Move, Turns, UpTo

_SOURCES = (Source.STDOUT, Source.STDERR)
_SMALL_MOVE = PIPE_BYTES // 16


def boot_ns() -> int:
    """Return the node's CLOCK_BOOTTIME in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Recorder:
    """One recorder's life; ``run`` returns when both streams have ended."""

    def __init__(
        self,
        board: Board,
        pipes: tuple[int, int],
        stage: tuple[int, int],
        look: tuple[int, int],
        shim: tuple[int, int],
        driver: Segments,
        events: Segments,
        room: Room,
        about: dict[str, Any],
    ) -> None:
        """Take over from whoever recorded before.

        ``shim``: what tells of the shim (readable: it speaks or is gone), and what tells it.
        ``about``: the fields of the process's ``started``.
        """
        self._board = board
        self._intake = Intake(board, pipes, stage, look, driver)
        self._log = EventLog(events, board)
        self._room = room
        self._about = about
        self._driver = driver
        self._events = events
        self._from_shim, self._to_shim = shim
        # They alternate at line ends; stdout goes first.
        before = Source(board[Field.STAGED_SOURCE]) if driver.length else Source.STDERR
        self._turns = Turns(before)
        self._pipes = dict(zip(_SOURCES, pipes))
        self._is_open = {source: fd >= 0 for source, fd in self._pipes.items()}
        self._is_shim_gone = False
        self._must_tell_shim = False
        self._due: dict[Source, int] | None = None  # to be moved before the end is written
        self._due_until_ns = 0
        self._full_since_ns = 0
        self._dropping = False
        self._last_drop_ns = 0
        self._why = ""
        self._gone_ns = 0

    def run(self) -> None:
        """Record until the streams have ended."""
        while True:
            now = boot_ns()
            self._board.add(Field.TURNS, 1)
            if not (self._dropping or self._full_since_ns):
                self._keep_place()
            self._say_what_is_due(now)
            if self._is_over(now):
                self._end(now)
                return
            self._turn(now)

    # What became of the process.

    def _say_what_is_due(self, now: int) -> None:
        board, log = self._board, self._log
        try:
            if not log.is_written:
                log.flush(now)
            if board[Field.STARTED_NS] and not log.has_told(STARTED):
                log.add(board[Field.STARTED_NS], "started", STARTED, **self._about)
            if board[Field.EXEC_ERRNO] and not log.has_told(CANNOT_RUN):
                why = os.strerror(board[Field.EXEC_ERRNO])
                text = "%s cannot be run: %s" % (self._about["command"][0], why)
                log.add(now, "message", CANNOT_RUN, text=text)
            if self._is_end_due(now):
                if board[Field.ENDED_NS]:
                    fields = outcome(board[Field.WAIT_STATUS])
                    log.add(board[Field.ENDED_NS], "exited", EXITED, **fields)
                else:
                    log.add(now, "exited", EXITED, unknown="the shim was gone before the process")
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
        if self._must_tell_shim and (log.has_told(EXITED) or now >= self._due_until_ns):
            self._must_tell_shim = False
            try:
                os.write(self._to_shim, b"D")
            except OSError:
                pass  # it did not wait for us

    def say(self, text: str) -> None:
        """Write a message of ours about this process."""
        try:
            self._log.add(boot_ns(), "message", text=text)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise

    def _is_end_due(self, now: int) -> bool:
        if self._due is None or self._log.has_told(EXITED):
            return False
        is_moved = not self._intake.has_unwritten and not any(self._due.values())
        return is_moved or now >= self._due_until_ns

    def _hear_shim(self, now: int) -> None:
        try:
            word = os.read(self._from_shim, 64)
        except BlockingIOError:
            return
        if not word:
            self._is_shim_gone = True
        if self._due is None and (word or not self._board[Field.ENDED_NS] or self._is_shim_gone):
            self._due = {source: self._intake.waiting(source) for source in _SOURCES}
            self._due_until_ns = now + int(END_S * 1e9)
            self._must_tell_shim = bool(word)

    # The end of the streams.

    def _is_over(self, now: int) -> bool:
        if any(self._is_open.values()) or self._due is None or not self._log.has_told(EXITED):
            return False
        if self._gone_ns == 0:
            self._gone_ns = now
        if now - self._gone_ns > LAST_WORDS_S * 1e9:
            return True
        return (
            self._log.is_written
            and not self._intake.has_unwritten
            and not unmarked_bytes(self._board)
        )

    def _end(self, now: int) -> None:
        lost = unmarked_bytes(self._board)
        try:
            if lost:
                self._log.add(now, "lost", bytes=lost, why=self._why or NO_RECORDER)
            for stream in (self._driver, self._events):
                stream.folder.put(END_JSON, encode_end(End(stream.length, now, Why.EOF)))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise  # the agent finds a free lock and writes the end itself

    # Moving.

    def _turn(self, now: int) -> None:
        if self._intake.has_unwritten or unmarked_bytes(self._board):
            if not self._write(now):
                self._wait_for_room(now)
            return
        waiting = (
            self._intake.waiting(Source.STDOUT) > 0,
            self._intake.waiting(Source.STDERR) > 0,
        )
        turn = self._turns.choose(now, waiting, self._is_line_open)
        if turn is None:
            self._sleep(now, TURN_S, _SOURCES)
        elif isinstance(turn, Hold):
            self._sleep(now, min(TURN_S, (turn.until_ns - now) / 1e9), (turn.source,))
        else:
            moved = self._stage(turn)
            if self._write(now) and moved < _SMALL_MOVE and self._due is None:
                self._sleep(now, REST_S, ())

    def _is_line_open(self) -> bool:
        return self._is_open[self._turns.current] and self._driver.ends_within_line()

    def _stage(self, move: Move) -> int:
        limit = STAGE_BYTES
        if move.up_to is not UpTo.ALL:
            at = self._intake.line_end(move.source)
            if not at and move.up_to is UpTo.LINE_END_OR_YIELD:
                move = self._turns.give_up()
                at = self._intake.line_end(move.source)
            limit = at or STAGE_BYTES
        moved = self._intake.stage(move.source, limit)
        if self._due is not None:
            self._due[move.source] = max(0, self._due[move.source] - moved)
        return moved

    def _write(self, now: int) -> bool:
        """Write what is staged and the marker of what was lost; False: there is no room."""
        why = self._room.why_none(now, self._driver.length)
        try:
            if not why:
                # What is staged came before anything that the shim had to throw away.
                self._intake.flush(now)
                marked = self._intake.mark(now, self._why or NO_RECORDER)
                if marked:
                    self._log.add(now, "lost", bytes=marked, why=self._why or NO_RECORDER)
                self._full_since_ns = 0
                self._dropping = False
                if not unmarked_bytes(self._board):
                    self._why = ""
                return True
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            why = refusal(error)
        self._why = why
        return False

    def _wait_for_room(self, now: int) -> None:
        if not self._full_since_ns:
            self._full_since_ns = now
            # Patience is for a disk that fills once; at the brink it would stop the job for
            # each block that came free.
            is_again = self._last_drop_ns and now - self._last_drop_ns < 10 * ROOM_WAIT_S * 1e9
            self._dropping = bool(is_again)
        elif now - self._full_since_ns >= ROOM_WAIT_S * 1e9:
            self._dropping = True
        if not self._dropping:
            self._sleep(now, TURN_S, ())
            return
        self._last_drop_ns = now
        dropped = self._intake.drop()
        for source in _SOURCES:
            while self._intake.waiting(source) and boot_ns() - now < TURN_S * 1e9:
                moved = self._intake.stage(source, STAGE_BYTES)
                if self._due is not None:
                    self._due[source] = max(0, self._due[source] - moved)
                dropped += self._intake.drop()
        if not dropped:
            self._sleep(now, TURN_S, _SOURCES)

    # Waiting.

    def _sleep(self, now: int, seconds: float, sources: tuple[Source, ...]) -> None:
        poll = select.poll()
        for source in sources:
            if self._is_open[source]:
                poll.register(self._pipes[source], select.POLLIN)
        if not self._is_shim_gone:
            poll.register(self._from_shim, select.POLLIN)
        elif not sources and seconds > REST_S:
            seconds = min(seconds, TURN_S)
        ready = dict(poll.poll(max(1, int(seconds * 1000))))
        for source in sources:
            events = ready.get(self._pipes[source], 0)
            if events & (select.POLLHUP | select.POLLERR) and not self._intake.waiting(source):
                self._is_open[source] = False
        if self._from_shim in ready:
            self._hear_shim(boot_ns())

    def _keep_place(self) -> None:
        for stream in (self._driver, self._events):
            removed = stream.keep_place()
            if removed:
                kind = stream.folder.attributes.kind.value
                what = "the %s of %s was removed" % (removed, kind)
                self._room.move_to(self._driver.folder.fd)
                self.say("%s; the stream goes on at byte %d in a new one" % (what, stream.length))
