"""Which attempt a process belongs to, by the law and by simulation."""

from __future__ import annotations

import random

import pytest

from logboom.collector.placing import Attempts, Newcomer

S = 10**9


def enter(attempts: Attempts, rank: int, start_s: float, **more: object) -> int:
    fields: dict[str, object] = {"world_size": 4, "launch_mark": "", "attempt": None} | more
    newcomer = Newcomer(f"driver {rank}", start_ns=int((1000 + start_s) * S), **fields)  # type: ignore[arg-type]
    number = attempts.choose(newcomer)
    assert number == attempts.choose(newcomer)
    attempts.enter(number, newcomer)
    return number


def test_ranks_started_together_share_an_attempt() -> None:
    attempts = Attempts()
    assert [enter(attempts, rank, 0.1 * rank) for rank in (2, 0, 3, 1)] == [0, 0, 0, 0]


def test_the_same_rank_again_is_the_next_attempt() -> None:
    attempts = Attempts()
    assert [enter(attempts, 0, start) for start in (0, 1, 1.1, 50)] == [0, 1, 2, 3]


def test_a_late_rank_joins_the_attempt_that_its_rank_was_not_in() -> None:
    attempts = Attempts()
    for start in (0, 100):
        enter(attempts, 0, start)
    assert enter(attempts, 1, 0.3) == 0
    assert enter(attempts, 1, 100.2) == 1


def test_a_rank_never_goes_back_behind_an_attempt_it_was_in() -> None:
    attempts = Attempts()
    enter(attempts, 0, 0)
    enter(attempts, 0, 100)
    enter(attempts, 1, 100)
    assert enter(attempts, 1, 101) == 2


def test_an_attempt_that_began_long_after_is_no_candidate() -> None:
    attempts = Attempts()
    enter(attempts, 0, 100)
    assert enter(attempts, 1, 89) == 1
    assert enter(attempts, 2, 91) == 1
    assert enter(attempts, 3, 95.1) == 0


def test_another_world_size_is_another_attempt() -> None:
    attempts = Attempts()
    enter(attempts, 0, 0)
    assert enter(attempts, 1, 0, world_size=8) == 1


def test_the_same_mark_is_the_same_attempt_and_another_never() -> None:
    attempts = Attempts()
    assert enter(attempts, 0, 0, launch_mark="a") == 0
    assert enter(attempts, 1, 0, launch_mark="b") == 1
    assert enter(attempts, 1, 99, launch_mark="a") == 0
    assert enter(attempts, 0, 0, launch_mark="b") == 1
    assert enter(attempts, 0, 5, launch_mark="a") == 2


def test_the_attempt_that_the_user_named_binds_as_long_as_it_is_free() -> None:
    attempts = Attempts()
    assert enter(attempts, 0, 0, attempt=3) == 3
    assert enter(attempts, 0, 0, attempt=3) == 4
    assert enter(attempts, 0, 0, attempt=1) == 1
    assert enter(attempts, 1, 0, attempt=3, launch_mark="x") == 3


def test_a_start_after_the_end_by_hand_is_the_next_attempt() -> None:
    attempts = Attempts()
    enter(attempts, 0, 0)
    enter(attempts, 1, 0, launch_mark="")
    attempts.close(0, 1050 * S)
    assert enter(attempts, 2, 40) == 0
    assert enter(attempts, 3, 60) == 1


def test_preparation_opens_the_attempt_that_its_ranks_join() -> None:
    attempts = Attempts()
    assert enter(attempts, 99, 0, world_size=None) == 0
    assert enter(attempts, 0, 20, launch_mark="m") == 0
    assert enter(attempts, 1, 20, launch_mark="m") == 0


def test_what_opens_no_attempt_goes_to_the_newest_that_began_before() -> None:
    attempts = Attempts()
    assert attempts.follow(0) == 0
    enter(attempts, 0, 10)
    enter(attempts, 0, 20)
    assert attempts.follow(1005 * S) == 0
    assert attempts.follow(1019 * S) == 0
    assert attempts.follow(1021 * S) == 1


@pytest.mark.parametrize("with_marks", [False, True])
def test_simulated_restarts_late_nodes_and_joining_agents_are_all_placed_right(
    with_marks: bool,
) -> None:
    """Jobs of several nodes restarted several times; 0.5 s of jitter; agents join in any order.

    Each agent opens its node's processes oldest first, as agents do; whichever agent is heard
    next is chance. A node may be late by up to 3 s, restarts are 10 s apart or more.
    """
    wrong = placed = joined_late = 0
    for seed in range(300):
        choose = random.Random(seed)
        nodes, per_node = choose.randint(1, 6), choose.randint(1, 4)
        world = nodes * per_node
        starts = [0.0]
        for _ in range(choose.randint(0, 4)):
            starts.append(starts[-1] + choose.uniform(10, 200))
        queues: list[list[tuple[float, int, int]]] = []
        for node in range(nodes):
            late = choose.choice([0.0, 0.0, 0.0, choose.uniform(0, 3)])
            clock = choose.uniform(-0.05, 0.05)
            queue = []
            for generation, start in enumerate(starts):
                for rank in range(node * per_node, (node + 1) * per_node):
                    at = start + late + clock + choose.uniform(0, 0.5)
                    queue.append((at, rank, generation))
            queues.append(sorted(queue))
        attempts = Attempts()
        generation_of: dict[int, int] = {}
        while any(queues):
            queue = choose.choice([q for q in queues if q])
            for _ in range(choose.choice([1, 1, len(queue)])):  # an agent that joins drains all
                if queue:
                    at, rank, generation = queue.pop(0)
                    mark = f"g{generation}" if with_marks else ""
                    number = enter(attempts, rank, at, world_size=world, launch_mark=mark)
                    joined_late += number < attempts.newest
                    placed += 1
                    wrong += generation_of.setdefault(number, generation) != generation
        wrong += len(generation_of) != len(starts)
    assert wrong == 0
    assert placed > 5000
    assert joined_late > 500  # else nothing was late
