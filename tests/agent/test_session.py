"""The session, pure: a real one joined to a model receiver by a list that misbehaves."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logboom.agent import words as w
from logboom.agent.phase import OutOfTurn, Phase
from logboom.agent.session import (
    BATCH_BYTES,
    FORSAKEN_S,
    IDLE_S,
    PING_S,
    SILENCE_S,
    Purpose,
    Session,
)
from logboom.format.stream import End, Kind, StreamAttributes, Why

WINDOW = 4 * BATCH_BYTES


def attributes(stream: str, started: int = 0) -> StreamAttributes:
    return StreamAttributes(id=stream, kind=Kind.PIPE, run_id="r", started_unix_ns=started)


def end(length: int) -> End:
    return End(length, 1, Why.EOF)


def welcome(window: int = WINDOW, min_gap_s: float = 0.0) -> w.Welcomed:
    return w.Welcomed(1, "node", "store", 4 * BATCH_BYTES, window, min_gap_s)


class Bench:
    """A session with a clock that a test turns by hand."""

    def __init__(self, purpose: Purpose | None = None) -> None:
        self.now = 100.0
        self.session = Session(purpose or Purpose(), lambda: 0.5, self.now)

    def tell(self, event: w.Event) -> list[w.Action]:
        return self.session.handle(event, self.now)

    def connect(self, **limits: float) -> list[w.Action]:
        """Go through hello and clock; return what follows the last pong."""
        if self.session.phase is Phase.RESTING:
            assert w.Connect() in self.tell(w.Ticked())
        assert self.tell(w.Connected()) == [w.SendHello()]
        pings = [a for a in self.tell(welcome(**limits)) if isinstance(a, w.SendPing)]  # type: ignore[arg-type]
        assert len(pings) == 3
        said: list[w.Action] = []
        for ping in pings:
            self.now += 0.010
            said = self.tell(w.Ponged(ping.sequence, 5_000_000_000, 3_000_000_000))
        return said

    def open(self, stream: str, length: int, durable: int = 0, number: int = 0) -> list[w.Action]:
        """Find a stream and have it opened; return what follows."""
        said = self.tell(w.Found(stream, attributes(stream), length))
        opens = [a for a in said if isinstance(a, w.SendOpen)]
        return self.tell(w.Opened(number or opens[0].number, durable, False))


def parts(actions: list[w.Action]) -> list[w.Part]:
    return [part for a in actions if isinstance(a, w.SendBatch) for part in a.parts]


def test_streams_are_opened_after_the_clock_was_measured_and_oldest_first() -> None:
    bench = Bench()
    for name, started in (("young", 30), ("old", 10), ("middle", 20)):
        said = bench.tell(w.Found(name, attributes(name, started), 0))
        assert not [a for a in said if isinstance(a, w.SendOpen)]
    said = bench.connect()
    opens = [a for a in said if isinstance(a, w.SendOpen)]
    assert [a.stream for a in opens] == ["old", "middle", "young"]
    assert [a.number for a in opens] == [1, 2, 3]


def test_the_clock_offset_is_that_of_the_smallest_round_trip() -> None:
    bench = Bench()
    bench.tell(w.Found("s", attributes("s"), 0))
    opened = next(a for a in bench.connect() if isinstance(a, w.SendOpen))
    # The first pong came after 10 ms: halfway, the node's clock stood at 3 s - 5 ms.
    assert opened.clock_offset_ns == pytest.approx(2_005_000_000, abs=10)
    assert opened.clock_error_ns == pytest.approx(5_000_000, abs=10)


def test_bytes_go_from_the_collectors_offset_on() -> None:
    bench = Bench()
    bench.connect()
    said = bench.open("s", 1000, durable=400)
    assert parts(said) == [w.Part(1, "s", 400, 1000)]
    assert w.Trim("s", 400) in said


def test_nothing_is_trimmed_that_is_not_acknowledged() -> None:
    bench = Bench()
    bench.connect()
    bench.open("s", 1000)
    assert not [a for a in bench.tell(w.Sent()) if isinstance(a, w.Trim)]
    assert bench.tell(w.Acked(1, 600, False)) == [w.Trim("s", 600)]


def test_the_end_goes_after_the_last_byte_and_the_folder_after_its_acknowledgement() -> None:
    bench = Bench()
    bench.connect()
    bench.open("s", 10)
    assert not [a for a in bench.tell(w.Ended("s", end(10))) if isinstance(a, w.SendEnd)]
    assert bench.tell(w.Sent()) == [w.SendEnd(1, "s", end(10))]
    assert bench.tell(w.Acked(1, 10, False)) == [w.Trim("s", 10)]
    assert bench.tell(w.Acked(1, 10, True)) == [w.Retire("s")]


def test_a_stream_that_ended_there_but_lives_here_is_kept() -> None:
    bench = Bench()
    bench.connect()
    said = bench.tell(w.Found("s", attributes("s"), 10))
    said += bench.tell(w.Opened(1, 10, True))
    assert not [a for a in said if isinstance(a, w.Retire)]
    assert bench.tell(w.Ended("s", end(10))) == [w.Retire("s")]


def test_a_stream_longer_here_than_where_it_ended_is_put_away_not_removed() -> None:
    bench = Bench()
    bench.connect()
    bench.tell(w.Found("s", attributes("s"), 20))
    bench.tell(w.Ended("s", end(20)))
    said = bench.tell(w.Opened(1, 10, True))
    assert [a for a in said if isinstance(a, w.Refuse)]
    assert not [a for a in said if isinstance(a, w.Retire)]


def test_a_loud_stream_cannot_starve_a_quiet_one() -> None:
    bench = Bench()
    bench.connect()
    bench.open("loud", 100 * BATCH_BYTES)
    for n in range(50):
        bench.tell(w.Found(f"quiet{n}", attributes(f"quiet{n}"), 100))
        bench.tell(w.Opened(n + 2, 0, False))
    said = parts(bench.tell(w.Sent()))
    assert {part.stream for part in said} == {"loud"} | {f"quiet{n}" for n in range(50)}
    assert sum(part.end - part.start for part in said) == BATCH_BYTES


def test_streams_without_room_in_a_batch_come_first_in_the_next() -> None:
    bench = Bench()
    bench.connect(window=1 << 30)
    count = 600
    for n in range(count):
        bench.tell(w.Found(f"{n:03}", attributes(f"{n:03}"), 10 * BATCH_BYTES))
    for n in range(count):
        bench.tell(w.Opened(n + 1, 0, False))
    first = {part.stream for part in parts(bench.tell(w.Sent()))}
    second = {part.stream for part in parts(bench.tell(w.Sent()))}
    third = {part.stream for part in parts(bench.tell(w.Sent()))}
    assert not first & second
    assert len(first | second | third) == count


def test_unacknowledged_bytes_never_pass_the_window() -> None:
    bench = Bench()
    bench.connect(window=1000)
    assert parts(bench.open("s", 5000)) == [w.Part(1, "s", 0, 1000)]
    assert parts(bench.tell(w.Sent())) == []
    assert parts(bench.tell(w.Acked(1, 300, False))) == [w.Part(1, "s", 1000, 1300)]


def test_a_full_window_is_waited_for_and_not_asked_about_again_and_again() -> None:
    bench = Bench()
    bench.connect(window=1000)
    bench.open("s", 5000)
    bench.tell(w.Sent())
    assert bench.session.deadline() > bench.now + 1


def test_small_batches_keep_the_gap_and_full_ones_do_not_wait() -> None:
    bench = Bench()
    bench.connect(min_gap_s=0.25)
    assert parts(bench.open("s", 10)) == [w.Part(1, "s", 0, 10)]
    bench.tell(w.Sent())
    assert parts(bench.tell(w.Grew("s", 20))) == []
    assert bench.session.deadline() == pytest.approx(bench.now + 0.25)
    bench.now += 0.25
    assert parts(bench.tell(w.Ticked())) == [w.Part(1, "s", 10, 20)]
    bench.tell(w.Sent())
    assert parts(bench.tell(w.Grew("s", 2 * BATCH_BYTES)))


def test_a_resume_goes_on_from_the_offset_that_it_names() -> None:
    bench = Bench()
    bench.connect()
    bench.open("s", 1000)
    bench.tell(w.Sent())
    assert parts(bench.tell(w.Resumed(1, 250))) == [w.Part(1, "s", 250, 1000)]


def test_bytes_that_the_spool_lacks_are_passed_by_opening_behind_them() -> None:
    bench = Bench()
    bench.connect()
    bench.open("s", 1000)
    bench.tell(w.Shortened("s", 300))
    bench.tell(w.Sent())
    bench.tell(w.Lacked("s", 300, 700))
    said = bench.tell(w.Sent())
    assert not [a for a in said if isinstance(a, w.SendOpen)], "the bytes before must be safe first"
    said = bench.tell(w.Acked(1, 300, False))
    assert w.SendOpen(2, "s", 700, *_clock(said)) in said
    assert parts(bench.tell(w.Opened(2, 700, False))) == [w.Part(2, "s", 700, 1000)]


def _clock(said: list[w.Action]) -> tuple[int, int]:
    found = next(a for a in said if isinstance(a, w.SendOpen))
    return found.clock_offset_ns, found.clock_error_ns


def test_a_stream_refused_for_now_is_offered_again_under_a_new_number_and_said_once() -> None:
    bench = Bench()
    bench.connect()
    bench.tell(w.Found("s", attributes("s"), 10))
    said = bench.tell(w.Refused(1, "no room", True))
    assert [a for a in said if isinstance(a, w.Report)]
    bench.now = bench.session.deadline()
    opens = [a for a in bench.tell(w.Ticked()) if isinstance(a, w.SendOpen)]
    assert [a.number for a in opens] == [2]
    said = bench.tell(w.Refused(2, "no room", True))
    assert not [a for a in said if isinstance(a, w.Report)]


def test_a_stream_that_is_never_taken_holds_up_no_other() -> None:
    bench = Bench()
    bench.connect()
    bench.tell(w.Found("bad", attributes("bad"), 10))
    said = bench.tell(w.Refused(1, "conflict", False))
    assert w.Refuse("bad", "conflict") in said
    assert parts(bench.open("good", 10)) == [w.Part(2, "good", 0, 10)]


def test_a_message_that_has_no_place_is_named_and_changes_nothing() -> None:
    bench = Bench()
    bench.connect()
    bench.tell(w.Found("s", attributes("s"), 10))
    with pytest.raises(OutOfTurn, match="never given"):
        bench.tell(w.Opened(7, 0, False))
    with pytest.raises(OutOfTurn, match="before it was opened"):
        bench.tell(w.Acked(1, 5, False))
    with pytest.raises(OutOfTurn, match="welcomed"):
        bench.tell(welcome())
    assert parts(bench.tell(w.Opened(1, 0, False))) == [w.Part(1, "s", 0, 10)]


def test_after_a_disconnection_nothing_of_the_old_connection_counts() -> None:
    bench = Bench()
    bench.connect()
    bench.open("s", 1000)
    bench.tell(w.Disconnected("gone"))
    assert bench.session.outstanding_bytes == 0
    assert bench.tell(w.Acked(1, 1000, True)) == []
    bench.now = bench.session.deadline()
    assert [a.number for a in bench.connect() if isinstance(a, w.SendOpen)] == [1]
    assert parts(bench.tell(w.Opened(1, 500, False))) == [w.Part(1, "s", 500, 1000)]


def test_reconnecting_backs_off_and_the_loss_is_said_once() -> None:
    bench = Bench()
    waits, reports = [], 0
    for _ in range(10):
        assert bench.tell(w.Ticked()) == [w.Connect()]
        said = bench.tell(w.Disconnected("nobody there"))
        reports += len([a for a in said if isinstance(a, w.Report)])
        waits.append(bench.session.deadline() - bench.now)
        bench.now = bench.session.deadline()
    assert waits == sorted(waits)
    assert 0.05 <= waits[0] <= 0.1
    assert waits[-1] <= 5.0
    assert reports == 1


def test_a_silent_collector_is_left_and_called_again() -> None:
    bench = Bench()
    bench.connect()
    bench.now += PING_S
    assert [a for a in bench.tell(w.Ticked()) if isinstance(a, w.SendPing)]
    bench.now += SILENCE_S
    assert w.Disconnect() in bench.tell(w.Ticked())
    assert bench.session.phase is Phase.RESTING


def test_until_drained_leaves_once_the_spool_was_looked_through_and_all_is_acknowledged() -> None:
    bench = Bench(Purpose(until_drained=True))
    bench.connect()
    bench.open("s", 10)
    bench.tell(w.Ended("s", end(10)))
    bench.tell(w.Looked())
    bench.tell(w.Sent())
    said = bench.tell(w.Acked(1, 10, True))
    assert w.Look() in said
    assert not [a for a in said if isinstance(a, w.Leave)]
    assert bench.tell(w.Looked()) == [w.HalfClose()]
    assert bench.tell(w.Disconnected("")) == [w.Leave(0)]


def test_until_drained_stays_while_a_stream_lives() -> None:
    bench = Bench(Purpose(until_drained=True))
    bench.connect()
    bench.open("s", 10)
    bench.tell(w.Sent())
    bench.tell(w.Acked(1, 10, False))
    for _ in range(50):
        bench.now += 5
        said = bench.tell(w.Looked()) + bench.tell(w.Paced(0.0))
        assert not [a for a in said if isinstance(a, w.Leave | w.HalfClose)]


def test_until_drained_fails_where_something_was_refused_for_ever() -> None:
    bench = Bench(Purpose(until_drained=True))
    bench.connect()
    bench.tell(w.Found("s", attributes("s"), 10))
    bench.tell(w.Refused(1, "never", False))
    bench.tell(w.Looked())
    said = bench.tell(w.Disconnected(""))
    assert [a.exit_status for a in said if isinstance(a, w.Leave)] == [1]


@pytest.mark.parametrize("is_final", [False, True])
def test_a_peer_that_is_no_collector_ends_only_an_agent_that_has_one_job(is_final: bool) -> None:
    for purpose in (Purpose(until_drained=True), Purpose()):
        bench = Bench(purpose)
        bench.tell(w.Found("s", attributes("s"), 10))
        bench.tell(w.Ticked())
        said = bench.tell(w.Disconnected("x is not a logboom collector", is_final))
        left = [a for a in said if isinstance(a, w.Leave)]
        assert bool(left) == (is_final and purpose.until_drained)


def test_an_idle_agent_leaves_after_a_minute_and_only_if_told_so() -> None:
    for purpose, leaves in ((Purpose(leave_when_idle=True), True), (Purpose(), False)):
        bench = Bench(purpose)
        bench.connect()
        bench.open("s", 10)
        bench.tell(w.Ended("s", end(10)))
        bench.tell(w.Sent())
        bench.tell(w.Acked(1, 10, True))
        bench.now += IDLE_S - 1
        assert bench.tell(w.Paced(0.0)) in ([], [w.SendPing(4)])
        bench.now += 2
        assert (w.HalfClose() in bench.tell(w.Ticked())) == leaves


def test_a_forsaken_agent_leaves_only_when_no_stream_lives() -> None:
    bench = Bench(Purpose(leave_when_idle=True))
    bench.tell(w.Found("s", attributes("s"), 10))
    bench.now += FORSAKEN_S + 1
    assert not [a for a in bench.tell(w.Ticked()) if isinstance(a, w.Leave)]
    said = bench.tell(w.Ended("s", end(10)))
    assert [a.exit_status for a in said if isinstance(a, w.Leave)] == [1]


def test_when_stopped_what_is_there_goes_out_first_and_not_for_ever() -> None:
    bench = Bench()
    bench.connect()
    bench.open("s", 10)
    assert w.HalfClose() not in bench.tell(w.Stopped(bench.now + 5))
    bench.tell(w.Sent())
    assert w.HalfClose() in bench.tell(w.Acked(1, 10, False))
    hanging = Bench()
    hanging.connect()
    hanging.open("s", 10)
    hanging.tell(w.Stopped(hanging.now + 5))
    hanging.now += 5
    assert w.HalfClose() in hanging.tell(w.Ticked())
    hanging.now = hanging.session.deadline()
    assert hanging.tell(w.Ticked()) == [w.Leave(0)]


def test_stopped_without_a_connection_leaves_at_once() -> None:
    bench = Bench()
    bench.tell(w.Found("s", attributes("s"), 10))
    bench.tell(w.Ticked())
    bench.tell(w.Disconnected("nobody"))
    assert [a for a in bench.tell(w.Stopped(bench.now + 5)) if isinstance(a, w.Leave)]


# The model: a receiver by the wire's contract, and a list between that misbehaves.


@dataclass
class Kept:
    content: bytearray = field(default_factory=bytearray)
    durable: int = 0
    has_end: bool = False
    has_ended: bool = False  # the end is durable too


class Receiver:
    """Keeps bytes as the contract says. What is not durable is lost in a crash."""

    def __init__(self, choose: random.Random) -> None:
        self.streams: dict[str, Kept] = {}
        self.numbers: dict[int, Kept] = {}
        self.resuming: set[int] = set()
        self.choose = choose

    def reconnect(self, crashes: bool) -> None:
        self.numbers.clear()
        self.resuming.clear()
        if crashes:
            for kept in self.streams.values():
                del kept.content[kept.durable :]
                kept.has_end = kept.has_ended

    def take(self, action: w.Action, content: dict[str, bytes]) -> Iterator[w.Event]:
        match action:
            case w.SendHello():
                yield welcome(window=self.choose.choice((50, 1000, WINDOW)))
            case w.SendPing():
                yield w.Ponged(action.sequence, 0, 0)
            case w.SendOpen():
                if self.choose.random() < 0.1:
                    yield w.Refused(action.number, "busy", True)
                    return
                kept = self.streams.setdefault(action.stream, Kept())
                self.numbers[action.number] = kept
                kept.durable = len(kept.content)
                yield w.Opened(action.number, kept.durable, kept.has_ended)
            case w.SendBatch():
                for part in action.parts:
                    yield from self.piece(part, content)
                yield from self.sync()
            case w.SendEnd():
                kept = self.numbers[action.number]
                if len(kept.content) < action.end.length:
                    yield w.Resumed(action.number, len(kept.content))
                    self.resuming.add(action.number)
                else:
                    kept.has_end = True
                    yield from self.sync()

    def piece(self, part: w.Part, content: dict[str, bytes]) -> Iterator[w.Event]:
        kept = self.numbers[part.number]
        if part.start <= len(kept.content):
            self.resuming.discard(part.number)
        if part.start > len(kept.content) or self.choose.random() < 0.1:  # its disk failed
            if part.number not in self.resuming:
                yield w.Resumed(part.number, len(kept.content))
            self.resuming.add(part.number)
            return
        raw = content[part.stream][part.start : part.end]
        overlap = len(kept.content) - part.start
        assert kept.content[part.start :][: len(raw)] == raw[:overlap], "a conflict"
        kept.content += raw[overlap:]

    def sync(self) -> Iterator[w.Event]:
        if self.choose.random() < 0.3:
            return  # not yet
        for number, kept in self.numbers.items():
            kept.durable = len(kept.content)
            kept.has_ended = kept.has_end
            yield w.Acked(number, kept.durable, kept.has_ended)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lengths=st.lists(st.integers(0, 5000), min_size=1, max_size=6),
    troubles=st.lists(
        st.sampled_from(["disconnect", "crash", "repeat", "grow", "vanish"]), max_size=25
    ),
)
def test_whatever_the_way_does_every_byte_arrives_once_and_nothing_goes_too_soon(
    seed: int, lengths: list[int], troubles: list[str]
) -> None:
    choose = random.Random(seed)
    content = {f"{n}": choose.randbytes(length) for n, length in enumerate(lengths)}
    known = {name: choose.randrange(len(raw) + 1) for name, raw in content.items()}
    session = Session(Purpose(), choose.random, 0.0)
    receiver = Receiver(choose)
    inbox: list[w.Event] = [w.Found(n, attributes(n), known[n]) for n in content]
    retired: set[str] = set()
    trimmed = dict.fromkeys(content, 0)
    ended: set[str] = set()
    now, turns = 0.0, 0
    while len(retired) < len(content):
        turns += 1
        assert turns < 20_000, "no end"
        if troubles and choose.random() < 0.1:
            more = trouble(troubles.pop(), choose, content, known, retired, receiver)
            if more and isinstance(more[0], w.Disconnected):  # what was under way is lost
                inbox = [e for e in inbox if not isinstance(e, w.FromPeer | w.Connected | w.Sent)]
                inbox = more + inbox
            else:
                inbox += more
        if not inbox:
            for name, raw in content.items():
                if known[name] < len(raw) and (not troubles or choose.random() < 0.3):
                    known[name] = len(raw)
                    inbox.append(w.Grew(name, len(raw)))
                if known[name] == len(raw) and (name not in ended or not troubles):
                    ended.add(name)
                    inbox.append(w.Ended(name, end(len(raw))))
            deadline = session.deadline()
            now = now + 0.01 if math.isinf(deadline) else max(now + 0.01, min(deadline, now + 1))
            inbox += [w.Ticked(), *receiver.sync()]
        event = inbox.pop(0)
        for action in session.handle(event, now):
            match action:
                case w.Connect():
                    receiver.reconnect(False)
                    inbox.append(w.Connected())
                case w.SendBatch():
                    for part in action.parts:
                        assert part.end <= known[part.stream], "bytes that are not there yet"
                        assert part.start >= trimmed[part.stream], "bytes that are gone"
                    said = [*receiver.take(action, content)]
                    said.insert(choose.randrange(len(said) + 1), w.Sent())
                    inbox += said
                case w.Trim():
                    assert action.offset <= receiver.streams[action.stream].durable
                    trimmed[action.stream] = max(trimmed[action.stream], action.offset)
                case w.Retire():
                    kept = receiver.streams[action.stream]
                    assert kept.has_ended
                    assert bytes(kept.content) == content[action.stream]
                    retired.add(action.stream)
                case w.Refuse() | w.Leave():
                    pytest.fail(f"{action}")
                case w.Disconnect():
                    pytest.fail("it answered")
                case _:
                    inbox += receiver.take(action, content)
    for name, raw in content.items():
        assert bytes(receiver.streams[name].content) == raw


def trouble(
    what: str,
    choose: random.Random,
    content: dict[str, bytes],
    known: dict[str, int],
    retired: set[str],
    receiver: Receiver,
) -> list[w.Event]:
    name = choose.choice(list(content))
    if what in ("disconnect", "crash"):
        receiver.reconnect(what == "crash")
        return [w.Disconnected("trouble")]
    if what == "repeat" and receiver.numbers:
        number = choose.choice(list(receiver.numbers))
        kept = receiver.numbers[number]
        return [w.Resumed(number, choose.randrange(kept.durable, len(kept.content) + 1))]
    if what == "grow" and known[name] < len(content[name]):
        known[name] = choose.randrange(known[name], len(content[name]) + 1)
        return [w.Grew(name, known[name])]
    if what == "vanish" and name not in retired:
        return [w.Vanished(name), w.Found(name, attributes(name), known[name])]
    return []
