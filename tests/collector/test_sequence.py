"""The order of pieces, without any I/O."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from logboom.collector.sequence import Finish, Pass, Resume, Sequence, Take


def test_a_piece_at_the_end_is_all_new() -> None:
    assert Sequence().piece(10, 10, 5) == Take(0)


def test_an_overlap_is_compared_and_the_rest_appended() -> None:
    assert Sequence().piece(10, 7, 5) == Take(3)
    assert Sequence().piece(10, 2, 5) == Take(5)


def test_a_piece_past_the_end_is_answered_once() -> None:
    sequence = Sequence()
    assert sequence.piece(10, 20, 5) == Resume(10)
    assert sequence.piece(10, 25, 5) == Pass()
    assert sequence.piece(10, 10, 5) == Take(0)
    assert sequence.piece(15, 30, 5) == Resume(15)


def test_an_end_short_of_what_was_declared_asks_to_go_on() -> None:
    assert Sequence().end(10, 20) == Resume(10)
    assert Sequence().end(10, 10) == Finish(10, False)
    assert Sequence().end(10, 8) == Finish(10, True)


@given(st.binary(max_size=60), st.randoms(use_true_random=False))
def test_a_line_that_drops_repeats_and_reorders_delivers_every_byte_once(
    content: bytes, choose: object
) -> None:
    """An agent that only obeys Resume, and a wire that does anything, end with equal bytes."""
    import random

    assert isinstance(choose, random.Random)
    here = bytearray()
    sequences = [Sequence(), Sequence()]
    at = [0, 0]
    for _ in range(2000):
        if len(here) == len(content):
            break
        who = choose.randrange(2)
        start = at[who]
        if choose.random() < 0.2:
            start = choose.randrange(len(content) + 1)
        size = min(choose.randrange(1, 9), len(content) - start)
        at[who] = min(len(content), at[who] + size)
        if choose.random() < 0.2:
            continue  # dropped
        decision = sequences[who].piece(len(here), start, size)
        if isinstance(decision, Take):
            piece = content[start : start + size]
            assert piece[: decision.known] == here[start : start + decision.known]
            here += piece[decision.known :]
        elif isinstance(decision, Resume):
            at[who] = decision.offset
        if at[who] == len(content):
            ended = sequences[who].end(len(here), len(content))
            if isinstance(ended, Resume):
                at[who] = ended.offset
            elif isinstance(ended, Pass):
                at[who], sequences[who] = 0, Sequence()  # reconnected
    assert here == content
