"""What time alone does to a run: decided in the journal, told in the files, once."""

from __future__ import annotations

from collector.agentlike import stream
from collector.crashstorage import CrashStorage
from collector.scenario import RUN_ID, append, commit, place, recover

from logboom.collector.group import Group
from logboom.collector.run import Run
from logboom.collector.state import GIVEN_UP_NS, QUIET_NS, SILENT_NS, State
from logboom.format.events import Event, encode_event
from logboom.format.stream import Kind
from logboom.format.tree import EXECUTION_LOG, PROCESS_STATUS

START = 10**18


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


def opened(storage: CrashStorage, clock: Clock) -> tuple[Run, Group]:
    group = Group(storage)
    run = Run(storage, RUN_ID, group, clock)
    run.open()
    run.resume()
    return run, group


def text(storage: CrashStorage, path: str) -> str:
    return storage.files()[f"runs/{RUN_ID}/{path}"].decode()


def begun(storage: CrashStorage, clock: Clock, code: int | None) -> tuple[Run, Group]:
    """Return a run of a world of one that has started, and has exited where ``code`` is given."""
    run, group = opened(storage, clock)
    events = stream(Kind.EVENTS, world_size=1)
    for attributes in (events, stream(world_size=1)):
        place(run, attributes)
    commit(group)
    content = encode_event(Event(0, 1, "started", {"pid": 5}))
    if code is not None:
        content += encode_event(Event(1, 2, "exited", {"code": code}))
    append(run, recover(run, events), content)
    commit(group)
    return run, group


def test_a_quiet_minute_after_the_last_of_the_world_ends_the_attempt_once() -> None:
    storage, clock = CrashStorage(), Clock()
    run, group = begun(storage, clock, code=0)
    for step in (QUIET_NS - 1, 1, QUIET_NS):
        clock.now += step
        run.tick({})
        commit(group)
    assert text(storage, PROCESS_STATUS).count('"*"') == 1
    assert text(storage, EXECUTION_LOG).splitlines()[-1] == (
        "[2001-09-09 01:47:40Z] attempt 0 ended: Completed: "
        "1 process has ended, and 60 s brought no other; 1 of 1 with 0"
    )
    run, group = opened(storage, clock)
    clock.now += GIVEN_UP_NS
    run.tick({})
    commit(group)
    assert run.states.run is State.COMPLETED
    assert text(storage, PROCESS_STATUS).count('"*"') == 1


def test_a_restart_in_the_quiet_minute_begins_it_anew() -> None:
    storage, clock = CrashStorage(), Clock()
    begun(storage, clock, code=1)
    clock.now += QUIET_NS - 1
    run, group = opened(storage, clock)
    clock.now += QUIET_NS - 1
    run.tick({})
    commit(group)
    assert '"*"' not in text(storage, PROCESS_STATUS)
    clock.now += 1
    run.tick({})
    commit(group)
    assert run.states.run is State.FAILED
    assert '"*"' in text(storage, PROCESS_STATUS)


def test_silence_is_told_and_closed_after_a_day_over_restarts() -> None:
    storage, clock = CrashStorage(), Clock()
    run, group = begun(storage, clock, code=None)
    clock.now += SILENT_NS
    run.tick({})
    run.tick({})
    commit(group)
    assert text(storage, EXECUTION_LOG).count("is not responding") == 1
    for _ in range(26):
        clock.now += GIVEN_UP_NS // 24
        run, group = opened(storage, clock)
        clock.now += SILENT_NS
        run.tick({})
        commit(group)
    assert run.states.run is State.FAILED
    assert text(storage, EXECUTION_LOG).count("is not responding") == 1
    assert text(storage, EXECUTION_LOG).count("none of its agents spoke for 24 h") == 1
    assert text(storage, PROCESS_STATUS).count('"*"') == 1
