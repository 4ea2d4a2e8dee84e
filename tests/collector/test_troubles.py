"""What goes wrong in one run, or on the disk, over real gRPC: whom it touches, and who is told."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import grpc
import pytest
from collector.agentlike import connected, digest_of, stream
from collector.serving import serving
from grpc_health.v1 import health_pb2, health_pb2_grpc

from logboom.collector.local import LocalStorage
from logboom.collector.run import Run
from logboom.collector.storage import LinkInTheWay
from logboom.collector.stored import StoredStream
from logboom.format.journal import encode_line
from logboom.format.stream import Kind
from logboom.wire.v1 import logboom_pb2 as pb
from logboom.wire.v1 import logboom_pb2_grpc as rpc

JOURNAL = "runs/r/.logboom/journal.jsonl"
SERVING = health_pb2.HealthCheckResponse.SERVING
Patch = pytest.MonkeyPatch


def within_a_minute(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def health_of(address: str) -> Any:
    async with grpc.aio.insecure_channel(address) as channel:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        return reply.status


def test_a_link_in_one_runs_way_lets_the_others_go_on(tmp_path: Path, monkeypatch: Patch) -> None:
    is_in_the_way = False

    def blocked(real: Callable[..., None]) -> Callable[..., None]:
        def call(self: LocalStorage, paths: Collection[str] | str, *more: Any) -> None:
            touched = [paths] if isinstance(paths, str) else paths
            if is_in_the_way and any(path.startswith("runs/bad/") for path in touched):
                raise LinkInTheWay("a link is in the way")
            real(self, paths, *more)

        return call

    monkeypatch.setattr(LocalStorage, "sync", blocked(LocalStorage.sync))
    monkeypatch.setattr(LocalStorage, "set_length", blocked(LocalStorage.set_length))

    async def test() -> None:
        nonlocal is_in_the_way
        async with serving(tmp_path) as server, connected(server.address) as agent:
            await agent.open(1, stream(run_id="bad"))
            await agent.open(2, stream(run_id="good"))
            is_in_the_way = True
            await agent.send(1, 0, b"x")
            assert (await agent.hear("refused", 1)).refused.retry
            if not await answered(agent, 3, stream(run_id="good")):
                await asyncio.sleep(0.6)
                assert await answered(agent, 4, stream(run_id="good"))
            assert await health_of(server.address) == SERVING

    within_a_minute(test())


async def answered(agent: Any, number: int, attributes: Any) -> bool:
    """Open; say whether it was opened, and not refused for now."""
    await agent.say_open(number, attributes)
    async with asyncio.timeout(30):
        while True:
            for message in agent.heard:
                if getattr(message, message.WhichOneof("what")).number == number:
                    return bool(message.WhichOneof("what") == "opened")
            await asyncio.sleep(0.01)


def test_a_commit_that_fails_unexpectedly_ends_the_collector(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    def sync(self: LocalStorage, paths: Collection[str]) -> None:
        raise RuntimeError("nobody expects this")

    async def test() -> None:
        async with serving(tmp_path) as server, connected(server.address) as agent:
            await agent.open(1, stream())
            monkeypatch.setattr(LocalStorage, "sync", sync)
            await agent.send(1, 0, b"x")
            await asyncio.sleep(50)

    async def ends() -> None:
        task = asyncio.create_task(test())
        await asyncio.wait([task], timeout=30)
        assert task.done(), "it lives on, and holds the lock"
        with pytest.raises(BaseExceptionGroup) as raised:
            await task
        assert raised.group_contains(RuntimeError)

    within_a_minute(ends())


@pytest.mark.parametrize("depth", [70, 300, 800, 990, 5000])
def test_an_event_that_is_nested_too_deep_is_passed_over(tmp_path: Path, depth: int) -> None:
    line = b'{"n":0,"t":1,"event":"message","text":' + b"[" * depth + b"]" * depth + b"}\n"
    line += b'{"n":1,"t":2,"event":"exited","code":0}\n'

    async def test() -> None:
        for _ in range(2):
            async with serving(tmp_path) as server, connected(server.address) as agent:
                if not (await agent.open(1, stream(Kind.EVENTS))).ended:
                    await agent.send(1, 0, line)
                    await agent.end(1, line)
                    await agent.ended(1)

    within_a_minute(test())
    assert (tmp_path / JOURNAL).read_text().count('"what":"event"') == 1


def test_an_unexpected_error_refuses_one_stream_for_now_and_no_other(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(run: Run, *arguments: Any) -> Any:
            if run.run_id == "bad":
                raise RuntimeError("nobody expects this")
            return real(run, *arguments)

        return call

    async def test() -> None:
        async with serving(tmp_path) as server, connected(server.address) as agent:
            await agent.open(1, stream(run_id="good"))
            await agent.open(2, stream(run_id="bad"))
            for number, name in ((3, "end_stream"), (4, "recover_stream"), (5, "place")):
                monkeypatch.setattr(Run, name, failing(getattr(Run, name)))
                if name == "end_stream":
                    await agent.end(2, b"")
                else:
                    await agent.say_open(number, stream(run_id="bad", rank=number))
                heard = await agent.hear("refused", 2 if name == "end_stream" else number)
                assert heard.refused.retry
            await agent.send(1, 0, b"x")
            await agent.acked(1, 1)

    within_a_minute(test())


def test_what_the_collector_cannot_do_is_never_a_refusal_for_good(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).parent.mkdir(parents=True)
    (tmp_path / JOURNAL).write_bytes(encode_line(0, "begun", {"version": 99, "run_id": "r"}))

    async def test() -> None:
        async with serving(tmp_path) as server, connected(server.address) as agent:
            await agent.say_open(1, stream())
            refused = (await agent.hear("refused", 1)).refused
            assert "version 99" in refused.reason
            assert refused.retry
            await agent.say_open(2, stream(run_id="other"), lowest=1 << 50)
            assert not (await agent.hear("refused", 2)).refused.retry

    within_a_minute(test())


def test_a_stream_with_a_hole_ends_without_being_read(tmp_path: Path, monkeypatch: Patch) -> None:
    def read_digest(self: StoredStream, length: int) -> bytes:
        raise RuntimeError("terabytes are read")

    monkeypatch.setattr(StoredStream, "read_digest", read_digest)

    async def test() -> None:
        async with serving(tmp_path) as server, connected(server.address) as agent:
            await agent.open(1, stream(), lowest=100)
            await agent.send(1, 100, b"rest")
            await agent.end(1, bytes(100) + b"rest", digest=digest_of(b"x"))
            await agent.ended(1)

    within_a_minute(test())


def test_a_hole_that_the_disk_cannot_hold_is_not_told_as_one(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    real = LocalStorage.set_length

    def set_length(self: LocalStorage, path: str, length: int) -> None:
        if length > 1 << 30:
            raise OSError(errno.EFBIG, "file too large")
        real(self, path, length)

    monkeypatch.setattr(LocalStorage, "set_length", set_length)

    async def test() -> None:
        async with serving(tmp_path) as server, connected(server.address) as agent:
            await agent.say_open(1, stream(), lowest=1 << 40)
            assert (await agent.hear("refused", 1)).refused.retry
            assert (await agent.open(2, stream())).durable_offset == 0
            await agent.send(2, 0, b"x")
            await agent.acked(2, 1)

    within_a_minute(test())
    assert '"lost"' not in (tmp_path / JOURNAL).read_text()


def test_on_a_full_disk_nothing_is_opened_until_there_is_room_and_health_says_so(
    tmp_path: Path, monkeypatch: Patch, caplog: pytest.LogCaptureFixture
) -> None:
    real = LocalStorage.write
    is_full = False

    def write(self: LocalStorage, path: str, offset: int, content: bytes) -> None:
        if is_full:
            raise OSError(errno.ENOSPC, "no space left on device")
        real(self, path, offset, content)

    monkeypatch.setattr(LocalStorage, "write", write)

    async def test() -> None:
        nonlocal is_full
        async with serving(tmp_path) as server, connected(server.address) as agent:
            await agent.open(1, stream())
            await agent.send(1, 0, b"kept")
            await agent.acked(1, 4)
            is_full = True
            await agent.send(1, 4, b" given back")
            assert (await agent.hear("refused", 1)).refused.retry
            await asyncio.sleep(0.7)  # past the first probe
            assert await health_of(server.address) != SERVING
            await agent.say_open(2, stream(run_id="other"))
            refused = (await agent.hear("refused", 2)).refused
            assert refused.retry
            assert "no space left" in refused.reason
            is_full = False
            while await health_of(server.address) != SERVING:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert (await agent.open(3, stream())).durable_offset == 4

    within_a_minute(test())
    assert "run r falls back" in caplog.text


@pytest.mark.parametrize("name", ["is_same", "read_digest"])
def test_bytes_that_cannot_be_read_refuse_their_stream_and_leave_the_run(
    tmp_path: Path, monkeypatch: Patch, name: str
) -> None:
    def failing(*arguments: Any) -> None:
        raise OSError(errno.EIO, "cannot be read")

    monkeypatch.setattr(StoredStream, name, failing)
    monkeypatch.setattr(StoredStream, "known_digest", lambda self, length: None)

    async def test() -> None:
        async with serving(tmp_path) as server, connected(server.address) as agent:
            await agent.open(1, stream())
            await agent.open(2, stream(rank=1))
            await agent.send(1, 0, b"abc")
            if name == "is_same":
                await agent.send(1, 0, b"abcdef")
            else:
                await agent.end(1, b"abc")
            assert (await agent.hear("refused", 1)).refused.retry
            await agent.send(2, 0, b"x")
            await agent.acked(2, 1)
            assert await health_of(server.address) == SERVING
            assert not [m for m in agent.heard if m.WhichOneof("what") == "refused"]

    within_a_minute(test())


def test_a_reader_that_follows_a_refused_stream_comes_to_its_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as server, connected(server.address) as agent:
            await agent.open(1, stream())
            await agent.send(1, 0, b"abcdef")
            await agent.send(1, 4, b"eX")
            await agent.hear("refused", 1)
            async with grpc.aio.insecure_channel(server.address) as channel:
                stub: Any = rpc.CollectorStub(channel)  # type: ignore[no-untyped-call]
                follow = pb.ReadRequest(run_id="r", stream=stream().id, follow=True)
                assert b"".join([r.content async for r in stub.Read(follow)]) == b"abcdef"

    within_a_minute(test())


def test_a_reason_without_measure_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as server, connected(server.address) as agent:
            await agent.open(1, stream())
            async with grpc.aio.insecure_channel(server.address) as channel:
                stub: Any = rpc.CollectorStub(channel)  # type: ignore[no-untyped-call]
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await stub.EndRun(pb.EndRunRequest(run_id="r", reason="x" * 4097))
                assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                await stub.EndRun(pb.EndRunRequest(run_id="r", reason="x" * 4096))

    within_a_minute(test())
