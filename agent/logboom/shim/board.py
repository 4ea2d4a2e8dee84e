"""The board: a page of memory that shim and recorder share, one writer a field.

Law
    * Each field is one aligned 64-bit word, written whole. Only the side named here writes it.
    * A status is there when ``ENDED_NS`` is not 0; the words it speaks of are written before.
    * ``IN_HAND`` is set before bytes are read into memory and cleared after they were written or
      counted, so that a recorder's successor knows what its death may have cost.
    * What a successor may have to finish stands here as the value after it (``LOST_BEFORE`` and
      what was lost, ``MARKING_TO``), never as a sum to be added: done twice, it is the same.
"""

from __future__ import annotations

import enum
import mmap


class Field(enum.IntEnum):
    """The words of the board."""

    # by the shim
    STARTED_NS = 0
    ENDED_NS = 1
    WAIT_STATUS = 2
    SHIM_LOST = 3  # bytes it took out of the pipes because no recorder could
    RECORDERS = 4  # how many were started
    LAST_DEATH = 5  # wait status of the recorder before this one
    # by the command's child, before it became the command
    EXEC_ERRNO = 6
    # by the recorder
    TURNS = 8
    MOVED = 9  # bytes
    LENGTH = 10  # of the driver stream
    EVENTS_LENGTH = 11
    LOST = 12  # bytes it could not keep
    MARKED = 13  # lost bytes, its own and the shim's, that a marker in the stream tells of
    NEXT_EVENT = 14
    TOLD = 15  # bits: which of the events that come once were written
    STAGED_SOURCE = 16  # whose bytes the stage holds
    IN_HAND = 17
    IN_HAND_AT = 18  # the stream's length when they were taken in hand
    LOSING = 19  # 1: those in hand are to be counted, not written
    LOST_BEFORE = 20  # LOST when they were taken in hand
    MARKING_TO = 21  # MARKED, once the marker being written is whole
    MARKING_END = 22  # the stream's length then
    FAILED_ERRNO = 23  # of the error that ended the last recorder


class Board:
    """The shared page."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._words = memoryview(self._memory).cast("Q")

    def __getitem__(self, field: Field) -> int:
        return self._words[field]

    def __setitem__(self, field: Field, value: int) -> None:
        self._words[field] = value

    def add(self, field: Field, value: int) -> None:
        """Add to a field; for its one writer only."""
        self._words[field] += value
