"""One stream on one connection: from its Open to its end.

OPENING -> OPEN -> ENDING -> ENDED         (Open, End, the end is durable)
any     -> REFUSED                         (for good, under this number)

Law: a stream is refused for good only for what its own messages say, and for a conflict. What
befalls the collector, expected or not, is answered with retry, for this stream alone.
"""

from __future__ import annotations

import enum
import logging

from logboom.collector.ledger import Placed
from logboom.collector.outbox import Outbox
from logboom.collector.run import Run
from logboom.collector.sequence import Resume, Sequence, Take
from logboom.collector.store import Store
from logboom.collector.stored import StoredStream
from logboom.format.errors import BadFormat, BadName, LogboomError
from logboom.format.spans import RECORD_BYTES, decode_all_spans
from logboom.format.stream import StreamAttributes
from logboom.format.tree import stream_path
from logboom.wire.convert import attributes_from_message
from logboom.wire.v1 import logboom_pb2 as pb

_OFFSET_LIMIT = 1 << 50
log = logging.getLogger(__name__)


class State(enum.Enum):
    """Where a lane is."""

    OPENING = enum.auto()
    OPEN = enum.auto()
    ENDING = enum.auto()
    ENDED = enum.auto()
    REFUSED = enum.auto()


class Lane:
    """What an agent sends under one number."""

    def __init__(self, number: int, store: Store, outbox: Outbox) -> None:
        self.number = number
        self.state = State.OPENING
        self._store = store
        self._outbox = outbox
        self._sequence = Sequence()
        self._run: Run | None = None
        self._stream: StoredStream | None = None
        self._placed: Placed | None = None
        self._acknowledged = 0

    async def place(self, message: pb.Open, node_id: str, node_ip: str) -> bool:
        """Decide where the stream lies. Say whether ``open`` is to follow."""
        try:
            attributes = _checked(message, node_id)
        except (BadName, BadFormat) as error:
            log.warning("stream %d of %s is refused: %s", self.number, node_id, error)
            self._refuse(str(error), retry=False)
            return False
        try:
            self._run = await self._store.run(attributes.run_id, is_begun=True)
            self._placed = self._run.place(
                attributes, node_id, node_ip, message.clock_offset_ns, message.clock_error_ns
            )
            self._store.committer.wake()
        except Exception as error:
            self._refuse_for(error, attributes)
            return False
        return True

    async def open(self, lowest_offset: int) -> None:
        """Recover the stream and answer the Open."""
        try:
            await self._open(lowest_offset)
        except Exception as error:
            self._refuse_for(error)

    async def _open(self, lowest_offset: int) -> None:
        run, placed = self._run, self._placed
        assert run is not None
        assert placed is not None
        ended = placed.ended  # before the wait: an end that comes during it is not durable yet
        await self._store.placed(run)
        if ended is not None:
            self.state = State.ENDED
            self._answer(ended.length, has_ended=True)
            return
        stream = self._stream = await self._store.stream(run, placed)
        if lowest_offset > stream.length:
            log.error(
                "stream %s of run %s: bytes %d to %d are not here and no longer on the node",
                stream.id, run.run_id, stream.length, lowest_offset,
            )  # fmt: skip
            run.leave_hole(stream, lowest_offset)
            await self._store.placed(run)
            await self._store.committer.durable(run, stream.data, lowest_offset)
        self.state = State.OPEN
        self._acknowledged = stream.durable
        stream.watchers.add(self._notice)
        self._answer(stream.durable, has_ended=False)

    def piece(self, offset: int, content: memoryview, spans: bytes) -> None:
        """Take a piece."""
        run, stream, placed = self._run, self._stream, self._placed
        if self.state is not State.OPEN or run is None or stream is None or placed is None:
            return  # refused or ended meanwhile; what was on its way does not matter
        if run.broken:
            self._notice()
            return
        decision = self._sequence.piece(stream.length, offset, len(content))
        if isinstance(decision, Resume):
            self._outbox.say(
                pb.ToAgent(resume=pb.Resume(number=self.number, offset=decision.offset))
            )
        elif isinstance(decision, Take):
            try:
                self._take(run, stream, placed, decision.known, offset, content, spans)
            except OSError as error:
                self._store.committer.failed(run, error)
                self._notice()
            except Exception as error:
                self._refuse_for(error)

    def _take(
        self,
        run: Run,
        stream: StoredStream,
        placed: Placed,
        known: int,
        offset: int,
        content: memoryview,
        spans: bytes,
    ) -> None:
        try:
            new_spans = spans_from(spans, offset, offset + known, len(content) - known)
        except BadFormat as error:
            log.warning("stream %s of run %s is refused: %s", stream.id, run.run_id, error)
            self._refuse(str(error), retry=False)
            return
        if known:
            holes = [(start, end) for start, end, _ in placed.lost]
            try:
                is_same = stream.is_same(offset, content[:known], holes)
            except OSError as error:  # what cannot be read is no reason to forget what was written
                self._refuse_for(error)
                return
            if not is_same:
                self._conflict(run, stream, f"conflict: other bytes at {offset} than before")
                return
            if known == len(content):
                return
        if placed.ended is not None:
            self._conflict(run, stream, f"conflict: the stream has ended at {stream.length}")
            return
        run.append(stream, content[known:], new_spans)
        self._store.committer.wake()

    def _conflict(self, run: Run, stream: StoredStream, why: str) -> None:
        log.error("stream %s of run %s is refused: %s", stream.id, run.run_id, why)
        run.refuse_stream(stream.id, why)
        self._store.committer.wake()
        self._refuse(why, retry=False)

    def end(self, message: pb.End) -> bool:
        """Take an end. Say whether ``finish`` is to follow."""
        stream = self._stream
        if self.state is not State.OPEN or stream is None:
            return False
        decision = self._sequence.end(stream.length, message.length)
        if isinstance(decision, Resume):
            self._outbox.say(
                pb.ToAgent(resume=pb.Resume(number=self.number, offset=decision.offset))
            )
            return False
        self.state = State.ENDING
        return True

    async def finish(self, message: pb.End) -> None:
        """Make the end durable, and acknowledge it."""
        run, stream, placed = self._run, self._stream, self._placed
        assert run is not None
        assert stream is not None
        assert placed is not None
        try:
            while placed.ended is None:
                run.check()
                length = stream.length
                stream.data.trim()
                await self._store.committer.durable(run, stream.data, length)
                here = b""
                if not placed.lost:
                    try:
                        here = await self._store.digest(stream, message.length)
                    except OSError as error:  # as above
                        self._refuse_for(error)
                        return
                if length == stream.length and placed.ended is None:
                    run.end_stream(
                        stream, message.length, message.digest, message.why, message.boot_ns, here
                    )
                    self._store.committer.wake()
            await self._store.placed(run)
        except OSError as error:
            self._store.committer.failed(run, error)
            self._refuse_for(error)
            return
        except Exception as error:
            self._refuse_for(error)
            return
        if placed.ended.is_corrupt:
            log.error("stream %s of run %s is corrupt here", stream.id, run.run_id)
        self.state = State.ENDED
        self._outbox.acknowledge(self)

    def acknowledgement(self) -> pb.Ack.Stream | None:
        """Return what there is to acknowledge now."""
        stream = self._stream
        if stream is None or self.state in (State.REFUSED, State.OPENING):
            return None
        self._acknowledged = stream.durable
        return pb.Ack.Stream(
            number=self.number,
            durable_offset=stream.durable,
            ended=self.state is State.ENDED,
        )

    def leave(self) -> None:
        """The connection has ended."""
        if self._stream is not None:
            self._stream.watchers.discard(self._notice)

    def is_waiting(self) -> bool:
        """Say whether there are bytes of this lane that were not acknowledged yet."""
        stream = self._stream
        return (
            stream is not None
            and self.state is State.OPEN
            and stream.length > min(stream.durable, self._acknowledged)
        )

    def _notice(self) -> None:
        """More is durable, or the run fell back."""
        if self._run is not None and self._run.broken:
            if self.state in (State.OPEN, State.ENDING):
                self._refuse(f"the store fell back: {self._run.broken}", retry=True)
        elif self._stream is not None and self._stream.durable > self._acknowledged:
            self._outbox.acknowledge(self)

    def _answer(self, durable: int, has_ended: bool) -> None:
        assert self._placed is not None
        opened = pb.Opened(
            number=self.number, path=self._placed.path, durable_offset=durable, ended=has_ended
        )
        self._outbox.say(pb.ToAgent(opened=opened))

    def _refuse_for(self, error: Exception, attributes: StreamAttributes | None = None) -> None:
        """Refuse the stream for what is not its own fault."""
        if self._placed is not None:
            attributes = self._placed.attributes
        assert attributes is not None
        is_known = isinstance(error, (LogboomError, OSError))
        why = str(error) or repr(error)
        log.warning(
            "stream %s of run %s is refused for now: %s",
            attributes.id, attributes.run_id, why, exc_info=not is_known,
        )  # fmt: skip
        self._store.committer.suspect(error)
        self._refuse(why, retry=True)

    def _refuse(self, reason: str, retry: bool) -> None:
        if self.state is not State.REFUSED:
            self.state = State.REFUSED
            refused = pb.Refused(number=self.number, reason=reason, retry=retry)
            self._outbox.say(pb.ToAgent(refused=refused))
        self.leave()


def _checked(message: pb.Open, node_id: str) -> StreamAttributes:
    """Return an Open's attributes. Raises ``BadName``, ``BadFormat`` where it can never be held."""
    attributes = attributes_from_message(message.attributes)
    stream_path(attributes, node_id)
    if message.lowest_offset >= _OFFSET_LIMIT:
        raise BadFormat(f"lowest offset {message.lowest_offset} is out of range")
    return attributes


def spans_from(spans: bytes, offset: int, start: int, size: int) -> bytes:
    """Return the records of ``spans`` at ``start`` and after. Raises ``BadFormat``.

    ``spans`` belong to a piece at ``offset``; they must be in order and lie within it.
    """
    if not spans:
        return b""
    found = decode_all_spans(spans)
    before = offset
    skipped = 0
    for span in found:
        if not before <= span.offset < start + size:
            raise BadFormat(f"span at {span.offset} does not lie in its piece")
        before = span.offset
        skipped += span.offset < start
    return spans[skipped * RECORD_BYTES :]
