"""Whatever was acknowledged is there after any crash; whatever is there is right."""

from __future__ import annotations

import random

import pytest
from collector.crashstorage import CrashStorage, Killed
from collector.scenario import (
    RUN_ID,
    append,
    commit,
    end,
    finish,
    opened,
    place,
    recover,
    streams,
    truth_of,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from logboom.collector.group import Group, Taken
from logboom.collector.run import Run
from logboom.collector.verify import Verdict, verify_streams
from logboom.format.journal import decode_lines
from logboom.format.stream import Kind
from logboom.format.tree import JOURNAL

STREAMS = streams()
FOLDER = f"runs/{RUN_ID}/"
DERIVED = [
    attempt + "azureml-logs/process_" + name
    for attempt in ("", "retry_001/")
    for name in ("status.json", "info.json")
]


class StoreMachine(RuleBasedStateMachine):
    """One run; commits in three steps; kills, power cuts and failing syncs between any two."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = CrashStorage()
        self.run: Run
        self.group: Group
        self.taken: Taken | None = None
        self.synced = False
        self.acknowledged: dict[str, int] = {}
        self.answered: dict[str, tuple[int, str]] = {}
        self.has_ended: set[str] = set()
        self.run, self.group = opened(self.storage)

    @initialize(placed=st.integers(0, len(STREAMS)))
    def begin(self, placed: int) -> None:
        """So many streams are open already: crashes of their placing are half of the story."""
        for attributes in STREAMS[:placed]:
            place(self.run, attributes)
        commit(self.group)
        self.answer_opens()

    @rule(number=st.integers(0, len(STREAMS) - 1))
    def place(self, number: int) -> None:
        place(self.run, STREAMS[number])

    @rule(mask=st.integers(1, 2 ** len(STREAMS) - 1), size=st.integers(1, 120))
    def append(self, mask: int, size: int) -> None:
        for number in self.open_ones():
            if mask >> number & 1:
                found = self.open(number)
                content = truth_of(STREAMS[number])[found.length : found.length + size]
                if content:
                    append(self.run, found, content)

    @rule()
    def end(self) -> None:
        for number in self.open_ones():
            found = self.open(number)
            if found.durable == len(truth_of(STREAMS[number])):
                end(self.run, found, truth_of(STREAMS[number]))

    def open_ones(self) -> list[int]:
        ended = self.ended_here()
        ids = [attributes.id for attributes in STREAMS]
        return [n for n, i in enumerate(ids) if i in self.answered and i not in ended]

    @rule()
    def answer_opens(self) -> None:
        """The placing of a stream is told once the journal is durable."""
        if self.run.journal.file.durable == self.run.journal.file.length:
            for placed in self.run.ledger.streams.values():
                told = (placed.attempt, placed.path)
                assert self.answered.setdefault(placed.attributes.id, told) == told
                if placed.ended is not None:
                    self.has_ended.add(placed.attributes.id)

    @precondition(lambda self: self.taken is None)
    @rule()
    def take(self) -> None:
        self.taken = self.group.take()
        self.synced = False

    @precondition(lambda self: self.taken is not None and not self.synced)
    @rule()
    def sync(self) -> None:
        assert self.taken is not None
        self.storage.sync(self.taken.paths)
        self.synced = True

    @precondition(lambda self: self.taken is not None and not self.synced)
    @rule()
    def sync_fails(self) -> None:
        """The medium fails once; the run falls back and is opened anew."""
        self.storage.is_broken = True
        assert self.taken is not None
        with pytest.raises(OSError, match="medium"):
            self.storage.sync(self.taken.paths)
        self.storage.is_broken = False
        self.run.fall_back("the medium fails")
        self.restart()

    @precondition(lambda self: self.taken is not None and self.synced)
    @rule()
    def settle(self) -> None:
        assert self.taken is not None
        assert not self.group.settle(self.taken)
        self.taken = None
        for found in self.run.streams.values():
            self.acknowledge(found.id, found.durable)

    @precondition(lambda self: self.taken is None)
    @rule(mask=st.integers(1, 2 ** len(STREAMS) - 1), size=st.integers(1, 120))
    def commit_while_bytes_come(self, mask: int, size: int) -> None:
        """The common case, which steps alone rarely make."""
        self.append(mask, size)
        self.take()
        self.append(mask, size)
        self.sync()
        self.settle()

    @rule()
    def kill(self) -> None:
        """The page cache survives."""
        self.restart()

    @rule(seed=st.integers(0, 2**32))
    def cut_power(self, seed: int) -> None:
        self.storage.lose_power(random.Random(seed))
        self.restart()

    @rule(seed=st.integers(0, 2**32), fuse=st.integers(0, 12), is_power=st.booleans())
    def crash_while_starting(self, seed: int, fuse: int, is_power: bool) -> None:
        self.storage.fuse = fuse
        try:
            opened(self.storage)
        except Killed:
            pass
        self.storage.fuse = -1
        if is_power:
            self.storage.lose_power(random.Random(seed))
        self.restart()

    def restart(self) -> None:
        self.taken = None
        self.run, self.group = opened(self.storage)
        for stream_id, told in self.answered.items():
            placed = self.run.ledger.streams[stream_id]
            assert (placed.attempt, placed.path) == told
        for stream_id in self.has_ended:
            assert self.run.ledger.streams[stream_id].ended is not None
        for number, attributes in enumerate(STREAMS):
            if attributes.id in self.answered and attributes.id not in self.ended_here():
                found = self.open(number)
                assert found.length >= self.acknowledged.get(attributes.id, 0)
                self.acknowledge(attributes.id, found.length)

    def open(self, number: int):  # type: ignore[no-untyped-def]
        return recover(self.run, STREAMS[number])

    def acknowledge(self, stream_id: str, offset: int) -> None:
        self.acknowledged[stream_id] = max(offset, self.acknowledged.get(stream_id, 0))

    def ended_here(self) -> set[str]:
        return {i for i, placed in self.run.ledger.streams.items() if placed.ended is not None}

    @invariant()
    def what_is_there_is_right(self) -> None:
        for attributes in STREAMS:
            placed = self.run.ledger.streams.get(attributes.id)
            if placed is None:
                continue
            truth, path = truth_of(attributes), FOLDER + placed.path
            length = self.storage.length(path) or 0
            assert length <= len(truth)
            assert length >= self.acknowledged.get(attributes.id, 0)
            if length:
                assert self.storage.read(path, 0, length) == truth[:length]

    @invariant()
    def the_cursor_is_never_past_the_events(self) -> None:
        path = FOLDER + JOURNAL
        lines, _ = (
            decode_lines(self.storage.read(path, 0, 1 << 20)) if self.length(path) else ([], 0)
        )
        for line in lines:
            if line["what"] == "event":
                placed = self.run.ledger.streams.get(line["source"])
                assert placed is not None
                assert line["offset"] <= (self.storage.length(FOLDER + placed.path) or 0)

    @invariant()
    def a_journal_line_follows_the_commit_of_its_event(self) -> None:
        for found in self.run.streams.values():
            assert self.run.ledger.streams[found.id].cursor <= found.durable

    def length(self, path: str) -> int:
        return self.storage.length(path) or 0

    def teardown(self) -> None:
        """However it went, the agents finish; then all is there, once, and verified."""
        self.restart()
        finish(self.run, self.group, STREAMS)
        assert [f.verdict for f in verify_streams(self.storage, RUN_ID)] == [Verdict.COMPLETE] * 8
        assert_statuses_once(self.storage, self.run)


def assert_statuses_once(storage: CrashStorage, run: Run) -> None:
    """Assert that every status and info line of every process is there, once, in its attempt."""
    lines: dict[str, list[bytes]] = {}
    for path in DERIVED:
        if storage.length(FOLDER + path) is not None:
            lines[path] = storage.read(FOLDER + path, 0, 1 << 20).splitlines()
    for attributes in STREAMS:
        if attributes.kind is not Kind.DRIVER:
            continue
        attempt = run.ledger.streams[attributes.id].attempt
        folder = "retry_%03d/" % attempt if attempt else ""
        name = b'"process_name":"worker_%d"' % (attributes.rank or 0)
        statuses = [
            line.rpartition(b'"status":')[2]
            for line in lines[folder + "azureml-logs/process_status.json"]
            if name in line
        ]
        last = b'"Failed"}' if (attributes.rank or 0) % 2 else b'"Completed"}'
        assert statuses == [b'"Started"}', last]
        infos = [x for x in lines[folder + "azureml-logs/process_info.json"] if name in x]
        assert len(infos) == 1
    count = sum(map(len, lines.values()))
    assert count == 3 * len(STREAMS) // 2


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("is_power_cut", [False, True])
def test_a_crash_between_any_two_steps_loses_no_derived_line_and_writes_none_twice(
    is_power_cut: bool,
) -> None:
    quiet = CrashStorage()
    run, group = opened(quiet)
    finish(run, group, STREAMS)
    assert_statuses_once(quiet, run)
    assert quiet.changes > 50
    for fuse in range(quiet.changes):
        storage = CrashStorage()
        storage.fuse = fuse
        with pytest.raises(Killed):
            finish(*opened(storage), STREAMS)
        storage.fuse = -1
        if is_power_cut:
            storage.lose_power(random.Random(fuse))
        run, group = opened(storage)
        finish(run, group, STREAMS)
        commit(group)
        assert_statuses_once(storage, run)
        assert {f.verdict for f in verify_streams(storage, RUN_ID)} == {Verdict.COMPLETE}


def test_a_stream_that_only_its_events_were_committed_of_is_derived_when_the_run_is_opened() -> (
    None
):
    """The agent was told and never comes again: what is committed is still told to people."""
    storage = CrashStorage()
    run, group = opened(storage)
    for attributes in STREAMS[:2]:
        place(run, attributes)
    commit(group)
    events = recover(run, STREAMS[0])
    append(run, events, truth_of(STREAMS[0]))
    taken = group.take()
    storage.sync(taken.paths)
    run, group = opened(storage)
    commit(group)
    content = storage.read(FOLDER + DERIVED[0], 0, 1 << 20)
    assert content.count(b'"Completed"') == 1
