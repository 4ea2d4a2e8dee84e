"""The wire, as an agent meets it: real gRPC, one process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import pytest
from collector.agentlike import connected, digest_of, made_id, stream
from collector.serving import serving

from logboom.collector.local import LocalStorage
from logboom.collector.verify import Verdict, verify_streams
from logboom.format.events import Event, encode_event
from logboom.format.spans import Source, decode_all_spans
from logboom.format.stream import Kind
from logboom.wire.v1 import logboom_pb2 as pb
from logboom.wire.v1 import logboom_pb2_grpc as rpc

LOG = "azureml-logs/70_driver_log_0.txt"
STARTED = encode_event(Event(0, 5, "started", {"pid": 42}))
EXITED = encode_event(Event(1, 9, "exited", {"code": 0}))
Test = Callable[[Path], Coroutine[Any, Any, None]]


def over_grpc(test: Test) -> Callable[[Path], None]:
    """Run an async test to its end."""

    def run(tmp_path: Path) -> None:
        asyncio.run(asyncio.wait_for(test(tmp_path), 60))

    run.__name__ = test.__name__
    return run


async def until(holds: Callable[[], bool]) -> None:
    """Wait until ``holds()``, for a time that only a hang takes."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def verdicts(data: Path, run_id: str = "r") -> set[Verdict]:
    with LocalStorage(data, is_writable=False) as storage:
        return {finding.verdict for finding in verify_streams(storage, run_id)}


def stub_of(channel: grpc.aio.Channel) -> Any:
    return rpc.CollectorStub(channel)  # type: ignore[no-untyped-call]


@over_grpc
async def test_a_stream_arrives_is_acknowledged_and_ends_verified(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        opened = await agent.open(1, stream())
        assert (opened.path, opened.durable_offset, opened.ended) == (LOG, 0, False)
        assert (tmp_path / "runs/r" / LOG).read_bytes() == b""
        await agent.send(1, 0, b"hello ")
        await agent.send(1, 6, b"world", Source.STDERR)
        await agent.acked(1, 11)
        assert (tmp_path / "runs/r" / LOG).read_bytes() == b"hello world"
        await agent.end(1, b"hello world")
        await agent.ended(1)
        assert verdicts(tmp_path) == {Verdict.COMPLETE}
        again = await agent.open(2, stream())
        assert (again.durable_offset, again.ended) == (11, True)


@over_grpc
async def test_an_overlap_of_equal_bytes_is_skipped_and_the_rest_appended(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        await agent.send(1, 0, b"abcdef")
        await agent.send(1, 2, b"cdefgh")
        await agent.send(1, 0, b"abc")
        await agent.acked(1, 8)
        await agent.end(1, b"abcdefgh")
        await agent.ended(1)
        assert verdicts(tmp_path) == {Verdict.COMPLETE}


@over_grpc
async def test_other_bytes_refuse_the_stream_as_conflict_and_change_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        await agent.send(1, 0, b"abcdef")
        await agent.send(1, 4, b"eX")
        refused = (await agent.hear("refused", 1)).refused
        assert not refused.retry
        assert "conflict" in refused.reason
        await agent.open(2, stream(rank=1))
        await agent.send(2, 0, b"the others go on")
        await agent.acked(2, 16)
        assert (tmp_path / "runs/r" / LOG).read_bytes() == b"abcdef"


@over_grpc
async def test_a_piece_past_the_end_is_answered_with_where_to_go_on_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        await agent.send(1, 0, b"abc")
        await agent.send(1, 10, b"too far")
        await agent.send(1, 17, b"too far")
        assert (await agent.hear("resume", 1)).resume.offset == 3
        await agent.send(1, 3, b"def")
        await agent.acked(1, 6)
        assert not [m for m in agent.heard if m.WhichOneof("what") == "resume"]
        assert (tmp_path / "runs/r" / LOG).read_bytes() == b"abcdef"


@over_grpc
async def test_two_connections_with_one_stream_are_harmless(tmp_path: Path) -> None:
    content = b"".join(b"line %d\n" % n for n in range(500))
    async with (
        serving(tmp_path) as server,
        connected(server.address) as one,
        connected(server.address) as other,
    ):
        for agent in (one, other):
            await agent.open(7, stream())
        for at in range(0, len(content), 50):
            await one.send(7, at, content[at : at + 50])
            if at >= 100:
                await other.send(7, at - 100, content[at - 100 : at + 20])
                await asyncio.sleep(0)
        await one.end(7, content)
        await one.ended(7)
        await other.end(7, content)
        assert (await other.ended(7)).durable_offset == len(content)
        assert (tmp_path / "runs/r" / LOG).read_bytes() == content
        assert verdicts(tmp_path) == {Verdict.COMPLETE}


@over_grpc
async def test_an_end_past_what_is_here_asks_to_go_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        await agent.send(1, 0, b"abc")
        await agent.end(1, b"abcdef")
        assert (await agent.hear("resume", 1)).resume.offset == 3
        await agent.send(1, 3, b"def")
        await agent.end(1, b"abcdef")
        assert (await agent.ended(1)).durable_offset == 6


@over_grpc
async def test_an_end_short_of_what_is_here_ends_at_the_length_here(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        await agent.send(1, 0, b"abcdef")
        await agent.end(1, b"abcd")
        assert (await agent.ended(1)).durable_offset == 6
        journal = (tmp_path / "runs/r/.logboom/journal.jsonl").read_text()
        assert '"declared":4' in journal
        assert verdicts(tmp_path) == {Verdict.COMPLETE}


@over_grpc
async def test_another_digest_is_entered_as_corrupt_and_acknowledged(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        await agent.send(1, 0, b"abcdef")
        await agent.end(1, b"abcdef", digest=digest_of(b"abcdeX"))
        await agent.ended(1)
        assert verdicts(tmp_path) == {Verdict.CORRUPT}


@over_grpc
async def test_bytes_acknowledged_before_and_not_here_are_a_named_hole(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        opened = await agent.open(1, stream(), lowest=100)
        assert opened.durable_offset == 100
        await agent.send(1, 100, b"rest")
        await agent.end(1, bytes(100) + b"rest", digest=digest_of(b"x"))
        await agent.ended(1)
    with LocalStorage(tmp_path, is_writable=False) as storage:
        (finding,) = verify_streams(storage, "r")
    assert finding.verdict is Verdict.INCOMPLETE
    assert "bytes 0 to 100" in finding.says


@over_grpc
async def test_events_become_status_and_info_lines(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream(Kind.EVENTS), clock=500)
        await agent.open(2, stream(), clock=500)
        await agent.send(1, 0, STARTED + EXITED)
        await agent.end(1, STARTED + EXITED)
        await agent.ended(1)
        folder = tmp_path / "runs/r/azureml-logs"
        assert [
            json.loads(x) for x in (folder / "process_status.json").read_text().splitlines()
        ] == [
            {"process_name": "worker_0", "timestamp": f"2001-09-09T01:46:40.{n:09d}Z", "status": s}
            for n, s in ((505, "Started"), (509, "Completed"))
        ]
        assert (folder / "process_info.json").read_text() == (
            '{"process_name":"worker_0","node_id":"node-a","pid_in_container":42,'
            '"private_ip":"10.0.0.5","log":"azureml-logs/70_driver_log_0.txt"}\n'
        )


@over_grpc
async def test_hostile_events_are_passed_over_and_harm_nobody(tmp_path: Path) -> None:
    bad = b"[" * 100_000 + b"\n" + b'{"n":1e999,"t":NaN}\n\xff\xfe\n' + b"9" * 5000 + b"\n"
    bad += (
        encode_event(Event(0, 10**30, "started", {"pid": "x"}))
        + b'{"n":1,"t":0,"event":"exited"}\n'
    )
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        await agent.open(2, stream(Kind.EVENTS))
        await agent.send(2, 0, bad)
        await agent.end(2, bad)
        await agent.ended(2)
        status = (tmp_path / "runs/r/azureml-logs/process_status.json").read_text()
        assert status.count("\n") == 2
        assert '"timestamp":"9999-12-31' in status


@over_grpc
async def test_the_same_rank_again_is_the_next_attempt_and_latest_names_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        again = stream(process=made_id("again"), started_unix_ns=10**18 + 5)
        assert (await agent.open(2, again)).path == "retry_001/" + LOG
        assert os.readlink(tmp_path / "runs/r/latest") == "retry_001"
        assert (tmp_path / "runs/r/retry_001" / LOG).exists()


@over_grpc
async def test_two_spools_under_one_node_id_are_two_nodes_for_ever(tmp_path: Path) -> None:
    for _ in range(2):
        async with serving(tmp_path) as server:
            for spool, granted in (("a", "n"), ("b", "n-2"), ("c", "n-3"), ("b", "n-2")):
                async with connected(server.address, hello=False) as agent:
                    assert (await agent.hello("n", spool)).node_id == granted


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"node_id": "../x"}, "node id"),
        ({"node_ip": "nonsense"}, "nonsense"),
        ({"oldest_version": 2, "newest_version": 3}, "version"),
    ],
)
def test_a_hello_that_cannot_be_served_is_refused_in_a_sentence(
    tmp_path: Path, more: dict[str, Any], word: str
) -> None:
    async def test(data: Path) -> None:
        async with serving(data) as server, connected(server.address, hello=False) as agent:
            fields: dict[str, Any] = {
                "oldest_version": 1,
                "newest_version": 1,
                "node_id": "n",
            } | more
            await agent.say(hello=pb.Hello(spool_id=made_id("s"), **fields))
            refused = (await agent.hear("refused", 0)).refused
            assert not refused.retry
            assert word in refused.reason
            assert await agent.over() is grpc.StatusCode.OK

    over_grpc(test)(tmp_path)


@pytest.mark.parametrize(
    "more",
    [{"run_id": "../up"}, {"name": "a/b"}, {"kind": Kind.FILE, "path": "../../x"}, {"id": "short"}],
)
def test_a_stream_with_a_bad_name_is_refused_for_good_and_leaves_nothing(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    async def test(data: Path) -> None:
        async with serving(data / "data") as server, connected(server.address) as agent:
            await agent.say_open(1, stream(**more))
            refused = (await agent.hear("refused", 1)).refused
            assert not refused.retry
            await agent.open(2, stream(rank=1))
        assert os.listdir(data) == ["data"]
        assert sorted(os.listdir(data / "data")) == [".logboom", "runs"]

    over_grpc(test)(tmp_path)


@over_grpc
async def test_a_broken_batch_ends_the_call_and_not_the_collector(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        async with connected(server.address) as agent:
            await agent.open(1, stream())
            piece = pb.Piece(number=1, offset=0, length=3)
            await agent.say(batch=pb.Batch(pieces=[piece], raw_length=3, compressed=b"nonsense"))
            assert await agent.over() is grpc.StatusCode.INVALID_ARGUMENT
        async with connected(server.address) as agent:
            assert (await agent.open(1, stream())).durable_offset == 0


@over_grpc
async def test_without_the_token_nothing_is_served_but_health(tmp_path: Path) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async with serving(tmp_path, token="secret") as server:
        async with connected(server.address, hello=False) as agent:
            assert await agent.over() is grpc.StatusCode.UNAUTHENTICATED
            assert agent.error is not None
            assert "token" in str(agent.error.details())
        metadata = (("authorization", "Bearer secret"),)
        async with connected(server.address, metadata=metadata) as agent:
            await agent.open(1, stream())
        async with grpc.aio.insecure_channel(server.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub_of(channel).GetRun(pb.GetRunRequest(run_id="r"))
            assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
            health = health_pb2_grpc.HealthStub(channel)
            reply = await health.Check(health_pb2.HealthCheckRequest())
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


@over_grpc
async def test_half_closing_brings_all_acknowledgements_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        await agent.send(1, 0, b"abc")
        await agent.end(1, b"abc")
        await agent.half_close()
        assert (await agent.ended(1)).durable_offset == 3
        assert await agent.over() is grpc.StatusCode.OK


@over_grpc
async def test_a_stopping_collector_acknowledges_and_says_unavailable(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        await agent.send(1, 0, b"abc")
        await agent.acked(1, 3)
        await server.stop()
        assert await agent.over() is grpc.StatusCode.UNAVAILABLE


@over_grpc
async def test_read_gives_bytes_and_spans_and_follows_to_the_end(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as server,
        connected(server.address) as agent,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = stub_of(channel)
        await agent.open(1, stream())
        await agent.send(1, 0, b"one ")
        await agent.send(1, 4, b"two ", Source.STDERR)
        await agent.acked(1, 8)
        request = pb.ReadRequest(run_id="r", path=LOG, start=2)
        (reply,) = [reply async for reply in stub.Read(request)]
        assert (reply.offset, reply.content, reply.durable_offset) == (2, b"e two ", 8)
        spans = decode_all_spans(reply.spans)
        assert [(s.offset, s.source) for s in spans] == [(0, Source.STDOUT), (4, Source.STDERR)]
        follow = stub.Read(pb.ReadRequest(run_id="r", stream=stream().id, follow=True))
        replies = aiter(follow)
        assert (await anext(replies)).content == b"one two "
        await agent.send(1, 8, b"three")
        await agent.end(1, b"one two three")
        rest = [reply async for reply in replies]
        assert b"".join(reply.content for reply in rest) == b"three"
        assert decode_all_spans(rest[0].spans)[-1].source is Source.STDOUT
        for bad in (pb.ReadRequest(run_id="r", path="x"), pb.ReadRequest(run_id="no", path=LOG)):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                [reply async for reply in stub.Read(bad)]
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND


@over_grpc
async def test_a_reader_that_follows_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as server,
        connected(server.address) as agent,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await agent.open(1, stream())
        await agent.send(1, 0, b"x")
        follow = stub_of(channel).Read(pb.ReadRequest(run_id="r", path=LOG, follow=True))
        assert (await follow.read()).content == b"x"
        await asyncio.wait_for(server.stop(), 20)


@over_grpc
@pytest.mark.system
async def test_a_thousand_streams_at_once_are_opened_and_ended(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        for number in range(1, 1001):
            await agent.say_open(number, stream(rank=number, world_size=2000))
        for number in range(1, 1001):
            await agent.hear("opened", number)
        for number in range(1, 1001):
            await agent.send(number, 0, b"%d" % number)
            await agent.end(number, b"%d" % number)
        await agent.half_close()
        ended = {s.number for m in agent.heard for s in m.ack.streams if s.ended}
        assert len(ended) == 1000
        assert verdicts(tmp_path) == {Verdict.COMPLETE}


@over_grpc
async def test_a_run_is_told_and_ended_by_hand_once(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as server,
        connected(server.address) as agent,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = stub_of(channel)
        await agent.open(1, stream())
        await agent.open(2, stream(Kind.EVENTS))
        await agent.send(2, 0, STARTED)
        await agent.acked(2, len(STARTED))
        end = pb.EndRunRequest(run_id="r", reason="enough")
        assert [(await stub.EndRun(end)).was_closed for _ in range(2)] == [False, True]
        run = await stub.GetRun(pb.GetRunRequest(run_id="r"))
        assert run.closed == "enough"
        assert {(s.path, s.durable_offset, s.status) for s in run.streams} >= {(LOG, 0, "Started")}
        status = (tmp_path / "runs/r/azureml-logs/process_status.json").read_text().splitlines()
        assert '"process_name":"*"' in status[-1]
        assert len(status) == 2
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.EndRun(pb.EndRunRequest(run_id="nosuchrun"))
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        assert "nosuchrun" in str(raised.value.details())


@over_grpc
async def test_a_failing_sync_gives_the_bytes_back_and_health_says_so(tmp_path: Path) -> None:
    """The disk fails for a while: nothing is acknowledged, then everything is, once."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    real = LocalStorage.sync
    failing = True
    calls = 0

    def sync(self: LocalStorage, paths: Any) -> None:
        nonlocal calls
        calls += 1
        if failing:
            raise OSError(5, "the disk fails")
        real(self, paths)

    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        await agent.send(1, 0, b"kept ")
        await agent.acked(1, 5)
        LocalStorage.sync = sync  # type: ignore[method-assign]
        try:
            await agent.send(1, 5, b"given back")
            assert (await agent.hear("refused", 1)).refused.retry
            assert calls
            async with grpc.aio.insecure_channel(server.address) as channel:
                health = health_pb2_grpc.HealthStub(channel)
                reply = await health.Check(health_pb2.HealthCheckRequest())
                assert reply.status == health_pb2.HealthCheckResponse.NOT_SERVING
                await agent.say_open(2, stream())
                assert (await agent.hear("refused", 2)).refused.retry
                failing = False
                while reply.status != health_pb2.HealthCheckResponse.SERVING:
                    await asyncio.sleep(0.05)
                    reply = await health.Check(health_pb2.HealthCheckRequest())
        finally:
            LocalStorage.sync = real  # type: ignore[method-assign]
        assert (await agent.open(3, stream())).durable_offset == 5
        await agent.send(3, 5, b"given back")
        await agent.end(3, b"kept given back")
        await agent.ended(3)
        assert verdicts(tmp_path) == {Verdict.COMPLETE}


@over_grpc
async def test_get_run_tells_the_state_and_the_attempts_end_once_the_launcher_is_over(
    tmp_path: Path,
) -> None:
    async with (
        serving(tmp_path) as server,
        connected(server.address) as agent,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        mpirun: dict[str, Any] = {"rank": None, "world_size": 1, "process": made_id("mpirun")}
        await agent.open(1, stream(Kind.EVENTS, **mpirun))
        await agent.open(2, stream(Kind.MPI, **mpirun))
        await agent.open(3, stream(Kind.EVENTS))
        await agent.open(4, stream())
        found = await stub_of(channel).GetRun(pb.GetRunRequest(run_id="r"))
        assert (found.state, [a.state for a in found.attempts]) == ("Running", ["Running"])
        for number in (1, 3):
            await agent.send(number, 0, STARTED + EXITED)
            await agent.end(number, STARTED + EXITED)
        await agent.end(2, b"")
        for number in (1, 2, 3):
            await agent.ended(number)
        found = await stub_of(channel).GetRun(pb.GetRunRequest(run_id="r"))
        assert (found.state, found.attempts[0].ended) == ("Completed", True)
        status = tmp_path / "runs/r/azureml-logs/process_status.json"
    assert status.read_text().splitlines()[-1].startswith('{"process_name":"*"')
    assert status.read_text().count("*") == 1


@over_grpc
async def test_a_collector_that_starts_writes_again_what_was_removed_without_being_asked(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream(Kind.EVENTS))
        await agent.open(2, stream())
        await agent.send(1, 0, STARTED + EXITED)
        await agent.end(1, STARTED + EXITED)
        await agent.ended(1)
    status = tmp_path / "runs/r/azureml-logs/process_status.json"
    before = status.read_bytes()
    status.unlink()
    async with serving(tmp_path):
        await until(lambda: status.exists() and status.read_bytes() == before)


@over_grpc
async def test_a_node_folders_link_appears_with_the_first_byte_and_never_dangles(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        pipe = stream(Kind.PIPE, rank=None, process="", name="dmon", id=made_id("dmon"))
        await agent.open(2, pipe)
        async with connected(server.address, hello=False) as other:
            await other.hello("node-b", "other", node_ip="fe80::6")
            await other.open(1, stream(rank=1))
        folder = tmp_path / "runs/r"
        log = folder / "fe80--6/azureml-logs/70_driver_log_1.txt"
        await until(log.is_symlink)
        link = folder / "10.0.0.5/logs/dmon.txt"
        assert not link.is_symlink()
        await agent.send(2, 0, b"0 44 53")
        await agent.acked(2, 7)
        assert link.read_bytes() == b"0 44 53"
        assert os.readlink(link) == "../../logs/dmon.txt"
        assert log.read_bytes() == b""


@over_grpc
async def test_an_orderly_stop_leaves_overall_logs_that_lack_no_committed_line(
    tmp_path: Path,
) -> None:
    content = b"".join(b"line %d of many\n" % n for n in range(60_000))
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        for at in range(0, len(content), 200_000):
            await agent.send(1, at, content[at : at + 200_000])
        await agent.acked(1, len(content))
    lines = (tmp_path / "runs/r/logs/azureml/stdoutlogs.txt").read_bytes().splitlines()
    assert [line.partition(b"] ")[2] for line in lines] == content.splitlines()


@over_grpc
@pytest.mark.system
async def test_overall_logs_that_cannot_be_written_harm_nobody_and_come_later(
    tmp_path: Path,
) -> None:
    in_the_way = tmp_path / "runs/r/logs/azureml/stdoutlogs.txt"
    in_the_way.mkdir(parents=True)
    async with serving(tmp_path) as server, connected(server.address) as agent:
        await agent.open(1, stream())
        for at in range(0, 60, 6):
            await agent.send(1, at, b"line \n")
            await agent.acked(1, at + 6)
            await asyncio.sleep(0.05)
        in_the_way.rmdir()
        await until(lambda: in_the_way.is_file() and in_the_way.read_bytes().count(b"\n") == 10)
