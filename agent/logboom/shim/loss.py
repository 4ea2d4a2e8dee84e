"""Loss: what could not be kept is counted, and said in the stream itself and in its events."""

from __future__ import annotations

from logboom.shim.board import Board, Field

NO_RECORDER = "no recorder could run"


def marker(lost_bytes: int, why: str, is_within_line: bool) -> bytes:
    """Return the line that stands in a stream for bytes that are not there."""
    start = "\n" if is_within_line else ""
    return ("%s[logboom: %s bytes lost here: %s]\n" % (start, f"{lost_bytes:,}", why)).encode()


def unmarked_bytes(board: Board) -> int:
    """Return how many bytes were lost that no marker tells of."""
    return board[Field.LOST] + board[Field.SHIM_LOST] - board[Field.MARKED]


class HandCheck:
    """Bytes that are read into memory: a killed recorder's successor learns what became of them.

    ``splice`` needs none of this; it is for counting what is dropped, and for file systems that
    refuse ``splice``. Bytes are always taken from the stage, all that it holds.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    def take(self, count: int, length: int, is_lost: bool) -> None:
        """Say that ``count`` bytes, all that the stage holds, are about to be read."""
        self._board[Field.IN_HAND_AT] = length
        self._board[Field.LOSING] = int(is_lost)
        self._board[Field.IN_HAND] = count

    def release(self) -> None:
        """Say that they were written or counted."""
        self._board[Field.IN_HAND] = 0

    def settle(self, staged: int, length: int) -> None:
        """Count what a predecessor had in hand when it died."""
        count = self._board[Field.IN_HAND]
        if count and staged < count:  # it had read them
            arrived = 0 if self._board[Field.LOSING] else length - self._board[Field.IN_HAND_AT]
            self._board.add(Field.LOST, max(0, count - arrived))
        self.release()
