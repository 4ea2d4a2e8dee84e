"""Turns: lines stay whole, nobody starves, no byte is skipped (pure)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from logboom.format.spans import Source
from logboom.shim.settings import LINE_WAIT_S
from logboom.shim.turns import Hold, Move, Turns, UpTo

WAIT_NS = int(LINE_WAIT_S * 1e9)
_BLOCKS = st.lists(
    st.tuples(
        st.sampled_from([Source.STDOUT, Source.STDERR]),
        st.sampled_from([b"a", b"b\n", b"\n", b"long line\nand a half", b"x\ny\n"]),
        st.integers(0, 2 * WAIT_NS),
    ),
    max_size=30,
)


class Pipes:
    """Two pipes and the stream they go to, driven by ``Turns`` as the recorder drives them."""

    def __init__(self) -> None:
        self.turns = Turns(Source.STDERR)
        self.pipes = {Source.STDOUT: b"", Source.STDERR: b""}
        self.moved = {Source.STDOUT: b"", Source.STDERR: b""}
        self.stream = b""
        self.torn = 0

    def turn(self, now_ns: int) -> Hold | None:
        """Take one turn."""
        waiting = bool(self.pipes[Source.STDOUT]), bool(self.pipes[Source.STDERR])
        before = self.turns.current
        turn = self.turns.choose(now_ns, waiting, self._is_within_line)
        if not isinstance(turn, Move):
            return turn
        at = self.pipes[turn.source].rfind(b"\n") + 1
        if not at and turn.up_to is UpTo.LINE_END_OR_YIELD:
            turn = self.turns.give_up()
            at = self.pipes[turn.source].rfind(b"\n") + 1
        if turn.up_to is UpTo.ALL:
            at = 0
        if turn.source is not before and self._is_within_line():
            self.torn += 1
        count = at or len(self.pipes[turn.source])
        assert count, "an empty pipe was given a turn"
        taken = self.pipes[turn.source][:count]
        self.pipes[turn.source] = self.pipes[turn.source][count:]
        self.moved[turn.source] += taken
        self.stream += taken
        return None

    def _is_within_line(self) -> bool:
        return bool(self.stream) and not self.stream.endswith(b"\n")


@given(_BLOCKS)
def test_every_byte_gets_its_turn_and_in_order(
    blocks: list[tuple[Source, bytes, int]],
) -> None:
    pipes, now = Pipes(), 0
    written = {Source.STDOUT: b"", Source.STDERR: b""}
    for source, block, pause in blocks:
        pipes.pipes[source] += block
        written[source] += block
        now += pause
        pipes.turn(now)
    for _ in range(4 * len(blocks) + 4):
        hold = pipes.turn(now)
        now = hold.until_ns if hold else now + 1
    assert pipes.moved == written
    assert len(pipes.stream) == sum(map(len, written.values()))


@given(_BLOCKS)
def test_a_line_is_torn_only_after_the_other_waited_its_time(
    blocks: list[tuple[Source, bytes, int]],
) -> None:
    pipes = Pipes()
    for source, block, _ in blocks:
        pipes.pipes[source] += block
        pipes.turn(0)
    for _ in range(4 * len(blocks)):
        pipes.turn(WAIT_NS - 1)
    assert pipes.torn == 0


def test_the_wait_counts_from_when_the_other_became_readable() -> None:
    pipes = Pipes()
    pipes.pipes[Source.STDOUT] = b"no end"
    pipes.turn(0)
    for now in range(0, 10 * WAIT_NS, WAIT_NS // 10):  # a flood without a line end
        pipes.pipes[Source.STDOUT] += b"no end"
        if now >= 5 * WAIT_NS and not pipes.moved[Source.STDERR]:
            pipes.pipes[Source.STDERR] = b"line\n"
        pipes.turn(now)
        if pipes.moved[Source.STDERR]:
            break
    assert now == 6 * WAIT_NS


def test_they_alternate_at_line_ends() -> None:
    pipes = Pipes()
    pipes.pipes = {Source.STDOUT: b"o\n", Source.STDERR: b"e\n"}
    order = b""
    for now in range(6):
        pipes.turn(now)
        order = pipes.stream
        for source in pipes.pipes:
            pipes.pipes[source] = pipes.pipes[source] or (b"o\n", b"e\n")[source]
    assert order == b"o\ne\n" * 3
