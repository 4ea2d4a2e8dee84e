"""The state of attempts and runs, by the one rule, with time as an argument."""

from __future__ import annotations

import pytest
from collector.agentlike import stream
from collector.journallines import ended, event, launcher, placed, process

from logboom.collector.ledger import Ledger
from logboom.collector.state import GIVEN_UP_NS, QUIET_NS, SILENT_NS, State, States
from logboom.format.journal import Line
from logboom.format.stream import Kind

S = 10**9
NOW = 10**18


def fed(lines: list[Line], now: int = NOW) -> States:
    states = States(now)
    for line in lines:
        states.handle(line, now)
    return states


def decide(states: States, now: int, heard: dict[str, int] | None = None) -> list[str]:
    """Let time pass as a run does; return what was decided."""
    said = []
    for decisions in (states.finished(now), states.silent(now, heard or {})):
        for what, fields in decisions:
            said.append(f"{what} {fields.get('state', '')}".strip())
            states.handle({"what": what, **fields}, now)
    return said


def run_of(states: States) -> str:
    return states.run.value if states.run else ""


def test_nothing_known_is_no_state() -> None:
    assert fed([{"what": "begun"}]).run is None


@pytest.mark.parametrize(("code", "state"), [(0, "Completed"), (3, "Failed")])
def test_without_a_launcher_an_attempt_ends_60_s_after_the_last_of_its_world(
    code: int, state: str
) -> None:
    lines: list[Line] = []
    for rank in range(2):
        events, begun = process(rank)
        lines += [*begun, event(events, "started", 0, pid=1), event(events, "exited", 1, code=code)]
    states = fed(lines)
    assert run_of(states) == State.RUNNING.value
    assert decide(states, NOW + QUIET_NS - 1) == []
    assert decide(states, NOW + QUIET_NS) == [f"attempt_ended {state}"]
    assert decide(states, NOW + 2 * QUIET_NS) == []
    assert run_of(states) == state


def test_a_world_that_is_not_whole_is_waited_for() -> None:
    events, lines = process(0)
    states = fed([*lines, event(events, "exited", 1, code=0)])
    assert decide(states, NOW + 2 * QUIET_NS) == []
    assert run_of(states) == State.RUNNING.value


def test_with_a_launcher_an_attempt_ends_with_the_last_of_all_at_once() -> None:
    mpirun_events, words, lines = launcher()
    events, begun = process(0, size=4)
    states = fed([*lines, *begun, event(mpirun_events, "exited", 1, code=0)])
    assert decide(states, NOW) == []
    states.handle(ended(words), NOW)
    assert decide(states, NOW) == [], "a process is still alive"
    states.handle(event(events, "exited", 1, code=0), NOW)
    assert decide(states, NOW) == ["attempt_ended Completed"]


def test_a_launcher_that_fails_before_any_rank_is_a_failed_attempt() -> None:
    events, words, lines = launcher()
    states = fed([*lines, event(events, "exited", 1, code=213), ended(words)])
    assert decide(states, NOW) == ["attempt_ended Failed"]
    assert run_of(states) == State.FAILED.value


def test_a_launchers_exit_is_not_its_end_before_its_words_have_ended() -> None:
    events, words, lines = launcher()
    states = fed([*lines, event(events, "exited", 1, code=0)])
    assert decide(states, NOW) == []
    states.handle(ended(words), NOW)
    assert decide(states, NOW) == ["attempt_ended Completed"]


def test_events_that_end_without_exited_mean_failed() -> None:
    events, lines = process(0, size=1)
    states = fed([*lines, event(events, "started"), ended(events)])
    assert decide(states, NOW + QUIET_NS) == ["attempt_ended Failed"]


def test_silence_is_told_after_5_minutes_taken_back_and_closed_after_24_hours() -> None:
    _, lines = process(0)
    states = fed(lines)
    assert decide(states, NOW + SILENT_NS - 1) == []
    assert decide(states, NOW + SILENT_NS, {"node-a": NOW + 1}) == []
    assert decide(states, NOW + 2 * SILENT_NS, {"node-a": NOW + 1}) == ["not_responding"]
    assert run_of(states) == State.NOT_RESPONDING.value
    again = {"node-a": NOW + 2 * SILENT_NS + 1}
    assert decide(states, NOW + 2 * SILENT_NS + 2, again) == ["responding"]
    assert run_of(states) == State.RUNNING.value
    assert decide(states, NOW + 4 * SILENT_NS, again) == ["not_responding"]
    late = NOW + 3 * SILENT_NS + GIVEN_UP_NS
    assert decide(states, late - 1, again) == []
    assert decide(states, late, again) == ["attempt_ended Failed"]
    assert run_of(states) == State.FAILED.value
    assert "24 h" in states.attempts[0].reason


def test_a_collector_that_was_away_for_days_gives_the_agents_5_minutes() -> None:
    _, lines = process(0)
    lines.append({"what": "not_responding", "attempt": 0, "unix_ns": NOW})
    states = fed(lines, NOW + 3 * GIVEN_UP_NS)
    assert decide(states, NOW + 3 * GIVEN_UP_NS) == []
    assert decide(states, NOW + 3 * GIVEN_UP_NS + S, {"node-a": NOW + 3 * GIVEN_UP_NS}) == [
        "responding"
    ]


def test_closing_by_hand_takes_the_living_as_terminated() -> None:
    events, lines = process(0, size=1)
    states = fed([*lines, {"what": "closed", "reason": "enough", "unix_ns": NOW}])
    assert run_of(states) == State.FAILED.value
    states.handle(event(events, "exited", 1, code=0), NOW)
    assert run_of(states) == State.FAILED.value
    assert decide(states, NOW + 2 * GIVEN_UP_NS) == []


def test_what_is_heard_after_the_end_counts() -> None:
    mpirun_events, words, lines = launcher()
    states = fed([*lines, event(mpirun_events, "exited", 1, code=0), ended(words)])
    assert decide(states, NOW) == ["attempt_ended Completed"]
    events, late = process(0, size=1)
    for line in late:
        states.handle(line, NOW)
    assert run_of(states) == State.RUNNING.value
    states.handle(event(events, "exited", 1, signal=11), NOW)
    assert run_of(states) == State.FAILED.value
    assert decide(states, NOW + 2 * QUIET_NS) == []


def test_the_run_is_its_newest_attempt_but_running_while_any_process_is() -> None:
    old_events, old = process(0, size=1)
    events, new = process(0, attempt=1, size=1)
    states = fed([*old, *new, event(events, "exited", 1, code=0)])
    assert decide(states, NOW + QUIET_NS) == ["attempt_ended Completed"]
    assert run_of(states) == State.RUNNING.value
    states.handle(event(old_events, "exited", 1, code=1), NOW)
    assert run_of(states) == State.COMPLETED.value


def test_a_start_after_an_attempts_end_without_its_mark_opens_the_next() -> None:
    ledger = Ledger()
    first = stream(rank=0)
    ledger.handle(placed(first))
    ledger.handle(
        {"what": "attempt_ended", "attempt": 0, "state": "Failed", "reason": "", "unix_ns": NOW + S}
    )
    late = stream(rank=1, started_unix_ns=NOW + 2 * S)
    assert ledger.decide(late, "n", NOW + 2 * S)[0] == 1
    before = stream(rank=1, started_unix_ns=NOW)
    assert ledger.decide(before, "n", NOW)[0] == 0


def test_a_start_after_the_end_with_the_attempts_mark_belongs_to_it() -> None:
    ledger = Ledger()
    ledger.handle(placed(stream(rank=0, launch_mark="m")))
    ledger.handle(
        {"what": "attempt_ended", "attempt": 0, "state": "Failed", "reason": "", "unix_ns": NOW + S}
    )
    late = stream(Kind.DRIVER, rank=1, launch_mark="m", started_unix_ns=NOW + 2 * S)
    assert ledger.decide(late, "n", NOW + 2 * S)[0] == 0
