"""The real process: killed while a client ships, stopped, misused."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from collector.agentlike import connected, stream

from logboom.collector.local import LocalStorage
from logboom.collector.verify import Verdict, verify_streams
from processes import HANG_S, environment, free_port, wait_until

pytestmark = pytest.mark.system
LOG = "azureml-logs/70_driver_log_%d.txt"


def words(data: Path, listen: str, *more: str) -> list[str]:
    start = [sys.executable, "-m", "logboom.collector.cli", "--data", str(data)]
    return [*start, "--listen", listen, *more]


class Server:
    """A collector process that can be killed and started again."""

    def __init__(self, data: Path, log: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.data, self.log = data, log
        self.process: subprocess.Popen[str]

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                words(self.data, self.address),
                stdout=subprocess.PIPE, stderr=log, text=True, env=environment(),
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == f"listening on {self.address}\n", self.log.read_text()

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        status = self.process.wait(HANG_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@contextmanager
def served(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", tmp_path / "log")
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)


def run_collector(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(arguments), check=False, capture_output=True, text=True,
        env=environment(**env), timeout=HANG_S,
    )  # fmt: skip


async def ship_as_told(address: str, contents: list[bytes], deleted: list[int]) -> None:
    """Ship until every end is acknowledged; ``deleted`` is how far the spool is gone already."""
    async with connected(address) as agent:
        offsets = []
        for rank, content in enumerate(contents):
            opened = await agent.open(rank + 1, stream(rank=rank), lowest=deleted[rank])
            assert opened.durable_offset >= deleted[rank], "what was acknowledged is gone"
            offsets.append(opened.durable_offset)
            if opened.ended:
                offsets[-1] = len(content)
        ended: set[int] = set()
        while len(ended) < len(contents):
            for rank, content in enumerate(contents):
                if rank in ended:
                    continue
                piece = content[offsets[rank] : offsets[rank] + 20_000]
                if piece:
                    await agent.send(rank + 1, offsets[rank], piece)
                    offsets[rank] += len(piece)
                elif not (await agent.open(rank + 100 + len(ended), stream(rank=rank))).ended:
                    await agent.end(rank + 1, content)
                    await agent.ended(rank + 1)
                    ended.add(rank)
                else:
                    ended.add(rank)
            for message in agent.heard:
                for ack in message.ack.streams:
                    if ack.number <= len(contents):
                        deleted[ack.number - 1] = max(deleted[ack.number - 1], ack.durable_offset)
            agent.heard[:] = [m for m in agent.heard if m.WhichOneof("what") != "ack"]
            await asyncio.sleep(0.002)


def test_killed_again_and_again_while_a_client_ships_everything_arrives_once(
    tmp_path: Path,
) -> None:
    contents = [random.Random(rank).randbytes(3_000_000 + rank) for rank in range(4)]
    deleted = [0] * 4
    kills = 0

    async def ship(server: Server) -> None:
        nonlocal kills
        while True:
            task = asyncio.create_task(ship_as_told(server.address, contents, deleted))
            if kills < 6:
                goal = sum(deleted) + 300_000  # so much must be acknowledged before the next kill
                while sum(deleted) < goal and not task.done():
                    await asyncio.wait([task], timeout=0.002)
                if not task.done():
                    await asyncio.to_thread(server.end, signal.SIGKILL)
                    await asyncio.gather(task, return_exceptions=True)
                    await asyncio.to_thread(server.start)
                    kills += 1
                    continue
            await task
            return

    with served(tmp_path) as server:
        asyncio.run(asyncio.wait_for(ship(server), HANG_S))
        assert kills >= 3
        assert any(deleted)
        for rank, content in enumerate(contents):
            found = (server.data / "runs/r" / (LOG % rank)).read_bytes()
            assert hashlib.sha256(found).digest() == hashlib.sha256(content).digest()
        with LocalStorage(server.data, is_writable=False) as storage:
            assert {f.verdict for f in verify_streams(storage, "r")} == {Verdict.COMPLETE}
        assert "Traceback" not in server.log.read_text()


def test_a_client_that_vanishes_leaves_no_traceback_and_no_trouble(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, sys\n"
        "from collector.agentlike import connected, stream\n"
        "async def main():\n"
        "    async with connected(sys.argv[1]) as agent:\n"
        "        await agent.open(1, stream())\n"
        "        await agent.send(1, 0, b'x' * 100000)\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    with served(tmp_path) as server:
        done = run_collector(sys.executable, "-c", program, server.address)
        assert done.returncode == -9, done.stderr
        wait_until("its node is gone", lambda: "is gone" in server.log.read_text())
        assert server.end(signal.SIGTERM) == 0
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order_with_status_0(tmp_path: Path, number: int) -> None:
    async def test(server: Server) -> None:
        async with connected(server.address) as agent:
            await agent.open(1, stream())
            await agent.send(1, 0, b"kept")
            log = server.data / "runs/r" / (LOG % 0)
            await asyncio.to_thread(wait_until, "taken", lambda: log.stat().st_size == 4)
            ended = asyncio.create_task(asyncio.to_thread(server.end, number))
            assert (await agent.over()).name == "UNAVAILABLE"
            assert await ended == 0
            assert (await agent.acked(1, 4)).durable_offset == 4

    with served(tmp_path) as server:
        asyncio.run(asyncio.wait_for(test(server), HANG_S))
        said = server.log.read_text()
        assert said.index("nothing more is taken") < said.index("is committed")


def one_sentence(done: subprocess.CompletedProcess[str], status: int, *parts: str) -> None:
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("logboom: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in lines[0]


def test_a_second_collector_says_who_has_the_folder(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        done = run_collector(*words(server.data, "127.0.0.1:0"))
        one_sentence(done, 1, str(server.process.pid), str(server.data))
        done = run_collector(*words(tmp_path / "other", server.address))
        one_sentence(done, 1, server.address, "in use")


def test_bad_settings_are_one_sentence_each(tmp_path: Path) -> None:
    data, config = tmp_path / "data", tmp_path / "config.toml"
    for listen in ("nonsense", "127.0.0.1:notaport", "127.0.0.1:99999", "::1:4319"):
        one_sentence(run_collector(*words(data, listen)), 2, listen)
    config.write_text("[collector]\nlisten = '127.0.0.1:0'\ncolour = 'red'\n")
    more = ["--config", str(config)]
    one_sentence(run_collector(*words(data, "127.0.0.1:0", *more)), 2, "colour")
    more = ["--token-file", str(tmp_path / "nowhere")]
    one_sentence(run_collector(*words(data, "127.0.0.1:0", *more)), 2, "nowhere")
    one_sentence(run_collector(sys.executable, "-m", "logboom.collector.cli"), 2, "--data")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", Path("/proc/logboom")):
        one_sentence(run_collector(*words(folder, "127.0.0.1:0")), 1, str(folder))


def test_variables_of_kubernetes_are_passed_over(tmp_path: Path) -> None:
    injected = {
        "LOGBOOM_LISTEN": "tcp://10.0.0.1:4319",
        "LOGBOOM_COLLECTOR_PORT": "tcp://10.0.0.1:4319",
        "LOGBOOM_COLLECTOR_SERVICE_HOST": "10.0.0.1",
        "LOGBOOM_DATA": str(tmp_path / "data"),
    }
    config = tmp_path / "config.toml"
    config.write_text("listen = '127.0.0.1:0'\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "logboom.collector.cli", "--config", str(config)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(**injected),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("listening on 127.0.0.1:")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("seconds", ["0.5", "1000"])
def test_a_stop_ends_at_its_deadline_or_the_second_signal_even_when_all_is_stuck(
    tmp_path: Path, seconds: str
) -> None:
    program = (
        "import sys, time\n"
        "from logboom.collector import cli\n"
        "from logboom.collector.ingest import Ingest\n"
        "def stuck(self):\n"
        "    print('stuck', flush=True)\n"
        "    time.sleep(1000)\n"
        "Ingest.stop = stuck\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--data", str(tmp_path / "d"), "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE, text=True, env=environment(LOGBOOM_DRAIN_TIMEOUT_S=seconds),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on")
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stuck\n"
        if seconds == "1000":
            process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_S) == 1
    finally:
        process.kill()
        process.communicate()
