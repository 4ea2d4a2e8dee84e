"""Intake: from a process's pipes, by way of the stage, into the stream's segments.

Law
    * ``splice`` puts bytes into the file and takes exactly those from the pipe: no SIGKILL loses
      or doubles a byte.
    * From the process's pipe they go to the *stage* first, a pipe of ours that the shim holds
      too: a pipe is locked while its bytes go to a file, and a disk that hangs would hold up the
      process's own write, and the shim that wants to empty the pipe for it.
    * The stage holds bytes of one source at a time, and ``Field.STAGED_SOURCE`` says whose.
    * Where ``splice`` is refused (a file system, a seccomp filter), bytes are read and written,
      and a killed recorder's loss is counted (``loss.HandCheck``).
"""

from __future__ import annotations

import errno
import os

from logboom.format.spans import Source
from logboom.shim import kernel
from logboom.shim.board import Board, Field
from logboom.shim.loss import HandCheck, marker, unmarked_bytes
from logboom.shim.segments import Segments
from logboom.shim.settings import STAGE_BYTES


class Intake:
    """Moves bytes. Raises ``OSError`` where the disk refuses them; none is lost by that."""

    def __init__(
        self,
        board: Board,
        pipes: tuple[int, int],
        stage: tuple[int, int],
        look: tuple[int, int],
        segments: Segments,
    ) -> None:
        """``stage`` and ``look`` (to look ahead) are pipes that all recorders share, one by one."""
        self.segments = segments
        self._board = board
        self._pipes = pipes
        self._stage_out, self._stage_in = stage
        self._look_out, self._look_in = look
        self._hand = HandCheck(board)
        self._held = b""  # read, and not yet written: only where splice is refused
        self._marker = b""
        self._has_begun_marker = False
        self._marked = 0
        self._can_splice = True  # from the stage
        self._can_stage = True  # by splice
        while left := kernel.bytes_waiting(self._look_out):
            os.read(self._look_out, left)  # a predecessor died while it looked
        self.staged = kernel.bytes_waiting(self._stage_out)
        self._hand.settle(self.staged, segments.length)

    @property
    def has_unwritten(self) -> bool:
        """Whether bytes wait on this side of the process's pipes."""
        return bool(self.staged or self._held)

    def waiting(self, source: Source) -> int:
        """Return how many bytes wait in the pipe of ``source``."""
        pipe = self._pipes[source]
        return kernel.bytes_waiting(pipe) if pipe >= 0 else 0

    def line_end(self, source: Source) -> int:
        """Return how many bytes go up to the last line end in sight; 0: none is in sight."""
        try:
            count = kernel.tee(self._pipes[source], self._look_in, STAGE_BYTES)
        except OSError:
            return 0
        sight = b""
        while len(sight) < count:
            sight += os.read(self._look_out, count - len(sight))
        return sight.rfind(b"\n") + 1

    def stage(self, source: Source, limit: int) -> int:
        """Take up to ``limit`` bytes of a pipe into the empty stage. Returns how many."""
        self._board[Field.STAGED_SOURCE] = source
        if self._can_stage:
            try:
                self.staged = kernel.splice_to_pipe(self._pipes[source], self._stage_in, limit)
                return self.staged
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    return 0
                self._can_stage = False  # whatever the reason: reading will meet a real one too
        count = min(limit, self.waiting(source), kernel.pipe_size(self._stage_in))
        self._hand.take(count, self.segments.length, is_lost=False)
        self.staged = os.write(self._stage_in, os.read(self._pipes[source], count)) if count else 0
        self._hand.release()
        return self.staged

    def flush(self, boot_ns: int) -> None:
        """Move what is staged into the stream."""
        source = Source(self._board[Field.STAGED_SOURCE])
        while self.has_unwritten:
            room = self.segments.prepare(source, boot_ns)
            if self._can_splice and not self._held:
                try:
                    moved = self.segments.splice(self._stage_out, min(self.staged, room))
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
                        raise
                    self._can_splice = False
                    continue
                self.staged -= moved
            else:
                moved = self._write_held(room)
            self._board.add(Field.MOVED, moved)
            self._board[Field.LENGTH] = self.segments.length

    def drop(self) -> int:
        """Take what is staged out of the way and count it as lost. Returns how many bytes."""
        count = len(self._held)  # taken in hand when they were read
        self._held = b""
        if self.staged:
            self._hand.take(self.staged, self.segments.length, is_lost=True)
            count = self._empty_stage()
        if count:
            self._hand.lose(count)
        return count

    def mark(self, boot_ns: int, why: str) -> int:
        """Write the marker of what was lost; returns how many bytes it tells of, 0 for none."""
        if not self._has_begun_marker:  # else it goes on where the disk became full within it
            self._marked = unmarked_bytes(self._board)
            if not self._marked:
                return 0
            self._marker = marker(self._marked, why, self.segments.ends_within_line())
            # A successor does not write again what it finds written. A marker that death cut
            # short is written again, whole: then the stream says too much, never too little.
            end = self.segments.length + len(self._marker)
            self._board[Field.MARKING_END] = end
            self._board[Field.MARKING_TO] = self._board[Field.MARKED] + self._marked
        while self._marker:
            room = self.segments.prepare(Source.LOST, boot_ns)
            written = self.segments.write(self._marker[:room])
            self._marker = self._marker[written:]
            self._has_begun_marker = bool(self._marker)
            self._board[Field.LENGTH] = self.segments.length
        self._board[Field.MARKED] = self._board[Field.MARKING_TO]
        return self._marked

    def _empty_stage(self) -> int:
        count, self.staged = self.staged, 0
        left = count
        while left:
            left -= len(os.read(self._stage_out, left))
        return count

    def _write_held(self, room: int) -> int:
        if not self._held:
            self._hand.take(self.staged, self.segments.length, is_lost=False)
            while self.staged:
                content = os.read(self._stage_out, self.staged)
                self.staged -= len(content)
                self._held += content
        written = self.segments.write(self._held[:room])
        self._held = self._held[written:]
        if not self._held:
            self._hand.release()
        return written
