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

    ``splice`` needs none of this; it is for counting what is dropped, and for where ``splice`` is
    refused. A death between two of these steps may count bytes as lost that are there all the
    same, never the other way: nothing is lost silently.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    def take(self, count: int, length: int, is_lost: bool) -> None:
        """Say that ``count`` bytes are about to be read from where they wait."""
        self._board[Field.IN_HAND_AT] = length
        self._board[Field.LOSING] = int(is_lost)
        self._board[Field.LOST_BEFORE] = self._board[Field.LOST]
        self._board[Field.IN_HAND] = count

    def release(self) -> None:
        """Say that they were written, or put where they wait again."""
        self._board[Field.IN_HAND] = 0

    def lose(self, count: int) -> None:
        """Count ``count`` of them as lost and release the rest."""
        self._board[Field.LOST] = self._board[Field.LOST_BEFORE] + count
        self.release()

    def settle(self, staged: int, length: int) -> None:
        """Count what a predecessor had in hand when it died, unless ``staged`` holds it."""
        board = self._board
        count = board[Field.IN_HAND]
        if count:
            arrived = 0 if board[Field.LOSING] else max(0, length - board[Field.IN_HAND_AT])
            self.lose(max(0, count - staged - arrived))
        if board[Field.MARKING_TO] > board[Field.MARKED] and length >= board[Field.MARKING_END]:
            board[Field.MARKED] = board[Field.MARKING_TO]  # its marker was written whole
