"""The agent as a process, against a collector in memory that can be broken."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent.fake_collector import InThread
from agent.spool_writer import Writer, payload

from logboom.format.spans import Source, decode_all_spans
from logboom.format.spool import BLOCK_BYTES
from processes import HANG_S, ROOT, environment, free_port, logboom, run, wait_until

pytestmark = pytest.mark.system


@pytest.fixture
def server() -> Iterator[InThread]:
    found = InThread()
    yield found
    found.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    found = tmp_path / "spool"
    found.mkdir(mode=0o700)
    return found


class Agent:
    """An agent as a process; its words are in a file."""

    def __init__(self, spool: Path, server: InThread, *more: str) -> None:
        words = ["agent", "--spool", str(spool), "--collector", server.served.address, *more]
        self.log = spool.parent / f"agent-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                logboom(*words), env=environment(), stderr=log, stdout=log
            )

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)

    def end(self, number: int) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(HANG_S)

    @property
    def words(self) -> str:
        return self.log.read_text()


def drain(spool: Path, server: InThread, *more: str) -> subprocess.CompletedProcess[str]:
    address = server.served.address
    return run("agent", "--spool", spool, "--collector", address, "--until-drained", *more)


def assert_whole(server: InThread, stream: str, content: bytes) -> None:
    kept = server.served.fake.streams[stream]
    assert bytes(kept.content) == content
    assert kept.end is not None
    assert kept.end.length == len(content)
    assert kept.end.digest == kept.digest
    assert kept.holes == []
    assert server.served.fake.conflicts == []


def test_until_drained_delivers_all_and_leaves_an_empty_spool(
    spool: Path, server: InThread
) -> None:
    writers = [Writer(spool, rank=rank) for rank in range(3)]
    contents = [payload(1, 2 * BLOCK_BYTES + 77), payload(2, 1000), b""]
    for writer, content in zip(writers, contents, strict=True):
        writer.write(content)
    writers[0].end()
    writers[1].die()
    writers[2].end()
    done = drain(spool, server, "--node-id", "node-a", "--node-ip", "127.0.0.11")
    assert done.returncode == 0, done.stderr
    for writer, content in zip(writers, contents, strict=True):
        assert_whole(server, writer.id, content)
    ends = [server.served.fake.streams[writer.id].end for writer in writers]
    assert [end.why for end in ends if end] == ["eof", "recorder gone", "eof"]
    hello = server.served.fake.hellos[0]
    assert (hello.node_id, hello.node_ip) == ("node-a", "127.0.0.11")
    assert "is empty" in run("spool", "ls", spool).stdout
    assert sorted(p.name for p in spool.iterdir()) == ["agent.lock", "gone", "node.json", "runs"]


def test_sources_arrive_as_they_were_written(spool: Path, server: InThread) -> None:
    writer = Writer(spool)
    choose = random.Random(5)
    expected: dict[Source, bytes] = {Source.STDOUT: b"", Source.STDERR: b""}
    for n in range(3000):
        source = choose.choice((Source.STDOUT, Source.STDERR))
        raw = b"%s %d\n" % (source.name.encode(), n)
        writer.write(raw, source)
        expected[source] += raw
    writer.end()
    assert drain(spool, server).returncode == 0
    kept = server.served.fake.streams[writer.id]
    spans = decode_all_spans(b"".join(kept.spans[offset] for offset in sorted(kept.spans)))
    ends = [span.offset for span in spans[1:]] + [len(kept.content)]
    found = {Source.STDOUT: b"", Source.STDERR: b""}
    for span, end in zip(spans, ends, strict=True):
        found[span.source] += bytes(kept.content[span.offset : end])
    assert found == expected


def test_killed_again_and_again_everything_arrives_once(spool: Path, server: InThread) -> None:
    """SIGKILL to the agent, cut connections and a collector that forgets, while two write."""
    words = [sys.executable, str(ROOT / "tests/agent/spool_writer.py"), str(spool)]
    length = 3 * BLOCK_BYTES // 2
    writing = [
        subprocess.Popen(
            [*words, str(seed), str(length), "5"], env=environment(), stdout=subprocess.PIPE
        )
        for seed in (1, 2)
    ]
    choose = random.Random(3)
    kills = restarts = 0
    server.served.fake.knobs.forget_every = 7
    deadline = time.monotonic() + HANG_S
    while any(process.poll() is None for process in writing):
        assert time.monotonic() < deadline
        with Agent(spool, server):
            time.sleep(choose.uniform(0.5, 1.2))
            if choose.random() < 0.4:
                server.restart(crashes=True)
                restarts += 1
                time.sleep(0.3)
        kills += 1
    assert kills >= 4
    assert restarts >= 1
    written = [json.loads(process.communicate()[0]) for process in writing]
    done = drain(spool, server)
    assert done.returncode == 0, done.stderr
    fake = server.served.fake
    print(f"{kills} kills, {restarts} restarts, {fake.connections} connections, "
          f"{fake.resumes} resumes")  # fmt: skip
    assert fake.resumes > 0, "the fault never bit"
    for entry in written:
        assert_whole(server, entry["id"], payload(entry["seed"], entry["length"]))


def test_a_connection_that_keeps_breaking_still_delivers(spool: Path, server: InThread) -> None:
    server.served.fake.knobs.drop_after_messages = 10
    writer = Writer(spool)
    content = payload(9, BLOCK_BYTES)
    writer.write(content)
    writer.end()
    done = drain(spool, server)
    assert done.returncode == 0, done.stderr
    assert server.served.fake.connections >= 3
    assert_whole(server, writer.id, content)


def test_two_agents_on_one_spool_are_harmless(
    spool: Path, server: InThread, tmp_path: Path
) -> None:
    """The lock keeps a second one out; here it is taken away under the first."""
    writer = Writer(spool)
    content = payload(4, 3 * BLOCK_BYTES)
    writer.write(content[: 2 * BLOCK_BYTES])
    with Agent(spool, server) as first:
        wait_until("the first has begun", lambda: writer.id in server.served.fake.streams)
        (spool / "agent.lock").unlink()
        with Agent(spool, server) as second:
            wait_until("the second has begun", lambda: server.served.fake.connections >= 2)
            writer.write(content[2 * BLOCK_BYTES :])
            writer.end()
            wait_until("all is delivered", lambda: not (spool / "runs" / "run").exists())
            assert first.process.poll() is None, first.words
            assert second.process.poll() is None, second.words
    assert_whole(server, writer.id, content)


def test_lines_are_under_way_while_their_writer_lives(spool: Path, server: InThread) -> None:
    with Agent(spool, server) as agent:
        wait_until("it is connected", lambda: server.served.fake.connections > 0)
        writer = Writer(spool)
        for n in range(1, 20):
            writer.write(b"line %d\n" % n)
            wait_until(
                f"line {n} has arrived",
                lambda: len(_content(server, writer.id)) == writer.length,
                timeout_s=5,
            )
        assert agent.end(signal.SIGTERM) == 0
    acked = (writer.folder / "acked").read_text()
    assert int(acked) == writer.length


def _content(server: InThread, stream: str) -> bytes:
    kept = server.served.fake.streams.get(stream)
    return bytes(kept.content) if kept else b""


def test_a_hole_in_the_spool_is_a_hole_there_and_the_rest_arrives(
    spool: Path, server: InThread
) -> None:
    writer = Writer(spool)
    content = payload(6, 2 * BLOCK_BYTES + 100)
    writer.write(content)
    writer.end()
    cut = 1_000_000
    os.truncate(writer.folder / ("%020d.seg" % 0), cut)
    done = drain(spool, server)
    assert done.returncode == 0, done.stderr
    kept = server.served.fake.streams[writer.id]
    assert kept.holes == [(cut, BLOCK_BYTES)]
    assert bytes(kept.content[:cut]) == content[:cut]
    assert bytes(kept.content[BLOCK_BYTES:]) == content[BLOCK_BYTES:]


def test_a_collector_that_lost_what_it_had_gets_the_rest(spool: Path, server: InThread) -> None:
    """A restored backup: what the spool forgot stays a hole, all else arrives."""
    writer = Writer(spool)
    content = payload(8, BLOCK_BYTES + 5000)
    writer.write(content)
    with Agent(spool, server):
        wait_until("it is trimmed", lambda: not (writer.folder / ("%020d.seg" % 0)).exists())
    server.served.fake.streams.clear()
    writer.write(b"more")
    writer.end()
    assert drain(spool, server).returncode == 0
    kept = server.served.fake.streams[writer.id]
    assert kept.holes == [(0, BLOCK_BYTES)]
    assert bytes(kept.content[BLOCK_BYTES:]) == content[BLOCK_BYTES:] + b"more"


def test_a_stream_refused_for_ever_is_put_away_and_said(spool: Path, server: InThread) -> None:
    bad, good = Writer(spool, rank=0), Writer(spool, rank=1)
    for writer in (bad, good):
        writer.write(b"x")
        writer.end()
    server.served.fake.knobs.refuse_never = {bad.id}
    done = drain(spool, server)
    assert done.returncode == 1
    assert bad.id in done.stderr
    assert_whole(server, good.id, b"x")
    assert "refused" in run("spool", "ls", spool).stdout
    assert list((spool / "refused" / "run").iterdir())


def test_a_stream_refused_for_now_is_delivered_in_the_end(spool: Path, server: InThread) -> None:
    server.served.fake.knobs.refuse_streams_times = 3
    writer = Writer(spool)
    writer.write(b"x")
    writer.end()
    assert drain(spool, server).returncode == 0
    assert server.served.fake.opens.count(writer.id) == 4
    assert_whole(server, writer.id, b"x")


def test_a_collector_that_refuses_us_for_ever_ends_a_drain_in_a_sentence(
    spool: Path, server: InThread
) -> None:
    Writer(spool).end()
    server.served.fake.knobs.refuse_connection = "this wire is too old"
    done = drain(spool, server)
    assert done.returncode == 1
    assert "this wire is too old" in done.stderr.splitlines()[-1]


def test_the_token_is_sent_and_a_wrong_one_is_said(
    spool: Path, server: InThread, tmp_path: Path
) -> None:
    server.served.fake.knobs.token = "secret"
    writer = Writer(spool)
    writer.end()
    done = drain(spool, server)
    assert done.returncode == 1
    assert "token" in done.stderr.splitlines()[-1]
    (tmp_path / "token").write_text("secret\n")
    assert drain(spool, server, "--token-file", str(tmp_path / "token")).returncode == 0


def test_until_drained_waits_for_living_writers(spool: Path, server: InThread) -> None:
    writer = Writer(spool)
    writer.write(b"a")
    with Agent(spool, server, "--until-drained") as agent:
        wait_until("a is there", lambda: _content(server, writer.id) == b"a")
        time.sleep(0.5)
        assert agent.process.poll() is None
        writer.write(b"b")
        writer.end()
        assert agent.process.wait(HANG_S) == 0, agent.words
    assert_whole(server, writer.id, b"ab")


def test_a_stopped_agent_sends_what_is_there_and_a_second_signal_ends_it_at_once(
    spool: Path, server: InThread
) -> None:
    writer = Writer(spool)
    with Agent(spool, server) as agent:
        wait_until("it is open", lambda: writer.id in server.served.fake.streams)
        writer.write(b"last words")
        assert agent.end(signal.SIGTERM) == 0
    assert _content(server, writer.id) == b"last words"
    server.served.fake.knobs.holds_acks = True
    writer.write(b" and more")
    with Agent(spool, server) as agent:
        wait_until("it has sent", lambda: _content(server, writer.id).endswith(b"more"))
        agent.process.send_signal(signal.SIGTERM)
        wait_until("it has heard", lambda: "SIGTERM" in agent.words)
        start = time.monotonic()
        assert agent.end(signal.SIGTERM) == 0
        assert "at once" in agent.words
        print(f"left {time.monotonic() - start:.2f} s after the second signal")


def test_a_shim_that_probes_the_lock_is_no_agent(spool: Path, server: InThread) -> None:
    fd = os.open(spool / "agent.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    threading.Timer(0.3, lambda: os.close(fd)).start()
    Writer(spool).end()
    assert drain(spool, server).returncode == 0


def test_without_a_collector_it_says_so_once_and_ships_when_one_comes(spool: Path) -> None:
    port = free_port()
    writer = Writer(spool)
    writer.write(b"kept")
    writer.end()
    words = ["agent", "--spool", str(spool), "--collector", f"127.0.0.1:{port}", "--until-drained"]
    agent = subprocess.Popen(logboom(*words), env=environment(), stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    assert agent.poll() is None
    found = InThread(port)
    try:
        _, said = agent.communicate(timeout=HANG_S)
        assert agent.returncode == 0
        assert said.count("does not answer") == 1
        assert_whole(found, writer.id, b"kept")
    finally:
        agent.kill()
        found.close()


def test_end_closes_a_run_and_knows_what_it_does_not_know(server: InThread) -> None:
    address = server.served.address
    done = run("end", "run-1", "--collector", address, "--reason", "enough")
    assert (done.returncode, done.stderr) == (0, "")
    assert server.served.fake.ended_runs == [("run-1", "enough")]
    assert "before" in run("end", "run-1", "--collector", address).stdout
    unknown = run("end", "nosuchrun", "--collector", address)
    assert unknown.returncode == 1
    assert "nosuchrun" in unknown.stderr
    bad = run("end", "../x", "--collector", address)
    assert bad.returncode == 2
    nobody = run("end", "r", "--collector", f"127.0.0.1:{free_port()}")
    assert nobody.returncode == 1
    for done in (unknown, bad, nobody):
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("logboom: ")
