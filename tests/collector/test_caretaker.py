"""After a start, every run is looked after, and one that cannot be keeps nobody else from it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from collector.agentlike import connected, stream
from collector.serving import serving

from logboom.format.events import Event, encode_event
from logboom.format.stream import Kind

EVENTS = encode_event(Event(0, 5, "started", {"pid": 42})) + encode_event(
    Event(1, 9, "exited", {"code": 0})
)
STATUS = "azureml-logs/process_status.json"


def test_a_broken_run_and_a_stray_file_keep_no_other_run_from_being_restored(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async with serving(tmp_path) as server, connected(server.address) as agent:
            for number, run_id in enumerate(("a", "b", "c", "d")):
                await agent.open(10 * number + 1, stream(Kind.EVENTS, run_id))
                await agent.open(10 * number + 2, stream(run_id=run_id))
                await agent.send(10 * number + 1, 0, EVENTS)
                await agent.send(10 * number + 2, 0, b"a line\n")
                await agent.end(10 * number + 1, EVENTS)
                await agent.end(10 * number + 2, b"a line\n")
                await agent.ended(10 * number + 1)
                await agent.ended(10 * number + 2)
        runs = tmp_path / "runs"
        before = {path.name: (path / STATUS).read_bytes() for path in runs.iterdir()}
        for path in runs.iterdir():
            (path / STATUS).unlink()
        (runs / "a/.logboom/journal.jsonl").unlink()
        (runs / "a/.logboom/journal.jsonl").mkdir()
        (runs / "b/logs/azureml/stdoutlogs.txt").unlink()
        (runs / "b/logs/azureml/stdoutlogs.txt").mkdir()
        (runs / "aa.txt").write_text("somebody's notes")
        async with serving(tmp_path) as server, connected(server.address) as agent:
            async with asyncio.timeout(120):
                for name in "bcd":
                    status = runs / name / STATUS
                    while not status.exists() or status.read_bytes() != before[name]:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
            assert (await agent.open(1, stream(run_id="e"))).durable_offset == 0
        assert not (runs / "a" / STATUS).exists()

    asyncio.run(asyncio.wait_for(test(), 120))
