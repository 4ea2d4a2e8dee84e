"""The event log: what happened to the process, written to its ``events`` stream.

Events that come once (started, exited) come once however often the recorder is started again:
what was written is found in the stream itself, and on the board where a segment has gone.
"""

from __future__ import annotations

import os
from typing import Any

from logboom.format.events import Event, encode_event, read_events
from logboom.format.spans import Source
from logboom.shim.board import Board, Field
from logboom.shim.segments import Segments

STARTED, EXITED, CANNOT_RUN = 1, 2, 4  # bits of Field.TOLD
_BITS = {"started": STARTED, "exited": EXITED}


class EventLog:
    """Appends events. What the disk refuses is kept and tried again with ``flush``."""

    def __init__(self, segments: Segments, board: Board) -> None:
        self._segments = segments
        self._board = board
        self._unwritten = b""
        self._unwritten_bits = 0
        content = segments.newest()
        for event, _ in read_events(content):
            board[Field.NEXT_EVENT] = max(board[Field.NEXT_EVENT], event.number + 1)
            board[Field.TOLD] |= _BITS.get(event.name, 0)
        if content and not content.endswith(b"\n"):
            self._unwritten = b"\n"  # a predecessor died within a line; readers pass over it

    @property
    def is_written(self) -> bool:
        """Whether everything said is in the stream."""
        return not self._unwritten

    def has_told(self, bit: int) -> bool:
        """Say whether an event that comes once was written, or will be."""
        return bool((self._board[Field.TOLD] | self._unwritten_bits) & bit)

    def add(self, boot_ns: int, name: str, bit: int = 0, **fields: Any) -> None:
        """Write an event. Raises ``OSError`` where the disk refuses it; it is kept then."""
        number = self._board[Field.NEXT_EVENT]
        self._unwritten += encode_event(Event(number, boot_ns, name, fields))
        self._board[Field.NEXT_EVENT] = number + 1
        self._unwritten_bits |= bit
        self.flush(boot_ns)

    def flush(self, boot_ns: int) -> None:
        """Write what could not be written before."""
        while self._unwritten:
            room = self._segments.prepare(Source.STDOUT, boot_ns)
            written = self._segments.write(self._unwritten[:room])
            self._unwritten = self._unwritten[written:]
        self._board[Field.TOLD] |= self._unwritten_bits
        self._unwritten_bits = 0
        self._board[Field.EVENTS_LENGTH] = self._segments.length


def outcome(status: int) -> dict[str, Any]:
    """Return the fields of ``exited`` for a wait status."""
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    return {"code": os.WEXITSTATUS(status)}
