"""Openings belong to the store: whoever asked may go, what is opened stays one at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from collector.agentlike import made_id, stream

from logboom.collector.commit import Committer
from logboom.collector.group import Group, Owner
from logboom.collector.local import LocalStorage
from logboom.collector.run import Run
from logboom.collector.store import Store
from logboom.collector.stored import StoredStream
from logboom.format.stream import StreamAttributes

LOG = "azureml-logs/70_driver_log_0.txt"
HANG_S = 60.0


class GateStorage(LocalStorage):
    """Stops in the store's threads before it cuts a driver log, while ``is_closed``."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.is_closed = False
        self.reached = threading.Event()
        self.gate = threading.Event()
        self.store_syncs = 0

    def set_length(self, path: str, length: int) -> None:
        is_stores = threading.current_thread().name.startswith("store")
        if self.is_closed and is_stores and path.endswith(LOG):
            self.is_closed = False
            self.reached.set()
            self.gate.wait(HANG_S)
        super().set_length(path, length)

    def sync(self, paths: Collection[str]) -> None:
        self.store_syncs += threading.current_thread().name.startswith("store")
        super().sync(paths)


@asynccontextmanager
async def storing(storage: LocalStorage) -> AsyncIterator[Store]:
    def forget(owners: set[Owner]) -> None:
        store.forget(owners)

    with ThreadPoolExecutor(4, "store") as threads:
        group = Group(storage)
        committer = Committer(group, lambda trouble: None, forget)
        store = Store(storage, group, committer, threads)
        commits = asyncio.create_task(committer.run())
        try:
            yield store
        finally:
            commits.cancel()
            await asyncio.wait([commits])


async def opened(store: Store, attributes: StreamAttributes) -> tuple[Run, StoredStream]:
    run = await store.run("r", is_begun=True)
    placed = run.place(attributes, "node-a", "10.0.0.5", 0, 0)
    await store.placed(run)
    return run, await store.stream(run, placed)


async def torn(root: Path) -> None:
    """Leave a run behind whose stream has a piece without its record, as after a kill."""
    with LocalStorage(root) as storage:
        async with storing(storage) as store:
            run, found = await opened(store, stream())
            run.append(found, memoryview(b"0123456789"), b"")
            await store.committer.durable(run, found.data, 10)
        storage.write(f"runs/r/{LOG}", 10, b"TORN")


def test_an_opening_whose_asker_has_gone_cuts_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    async def test() -> None:
        await torn(tmp_path)
        storage = GateStorage(tmp_path)
        with storage:
            async with storing(storage) as store:
                run = await store.run("r")
                placed = run.ledger.streams[stream().id]
                storage.is_closed = True
                first = asyncio.create_task(store.stream(run, placed))
                await asyncio.to_thread(storage.reached.wait, HANG_S)
                first.cancel()
                await asyncio.wait([first])
                second = asyncio.create_task(store.stream(run, placed))
                await asyncio.wait([second], timeout=0.2)
                assert not second.done(), "two openings of one stream at once"
                storage.gate.set()
                found = await second
                run.append(found, memoryview(b"ABCDEFGHIJ"), b"")
                await store.committer.durable(run, found.data, 20)
                await store.openings()
        assert (tmp_path / "runs/r" / LOG).read_bytes() == b"0123456789ABCDEFGHIJ"

    asyncio.run(asyncio.wait_for(test(), HANG_S))


def test_a_run_is_not_opened_anew_while_a_stream_of_it_is_being_recovered(tmp_path: Path) -> None:
    async def test() -> None:
        await torn(tmp_path)
        storage = GateStorage(tmp_path)
        with storage:
            async with storing(storage) as store:
                run = await store.run("r")
                storage.is_closed = True
                recovery = asyncio.create_task(store.stream(run, run.ledger.streams[stream().id]))
                await asyncio.to_thread(storage.reached.wait, HANG_S)
                store.committer.failed(run, RuntimeError("the run falls back"))
                again = asyncio.create_task(store.run("r"))
                await asyncio.wait([again], timeout=0.2)
                assert not again.done()
                storage.gate.set()
                assert await again is not run
                assert isinstance(
                    (await asyncio.gather(recovery, return_exceptions=True))[0], Exception
                )

    asyncio.run(asyncio.wait_for(test(), HANG_S))


def test_a_run_that_cannot_be_resumed_leaves_nothing_to_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Run.resume

    def failing(run: Run) -> None:
        real(run)
        raise OSError(22, "not this time")

    async def test() -> None:
        with LocalStorage(tmp_path) as storage:
            async with storing(storage) as store:
                with monkeypatch.context() as patch:
                    patch.setattr(Run, "resume", failing)
                    with pytest.raises(OSError, match="not this time"):
                        await store.run("r", is_begun=True)
                assert not store.committer.group.dirty
                await opened(store, stream())

    asyncio.run(asyncio.wait_for(test(), HANG_S))


def test_new_streams_need_no_sync_of_their_own_and_those_from_before_do(tmp_path: Path) -> None:
    async def test() -> None:
        many = [stream(rank=rank, world_size=20, id=made_id(rank)) for rank in range(10)]
        storage = GateStorage(tmp_path)
        with storage:
            async with storing(storage) as store:
                await store.run("r", is_begun=True)
                before = storage.store_syncs
                for attributes in many:
                    await opened(store, attributes)
                assert storage.store_syncs == before
            async with storing(storage) as store:
                await store.run("r")
                before = storage.store_syncs
                for attributes in many:
                    await opened(store, attributes)
                assert storage.store_syncs == before + len(many)

    asyncio.run(asyncio.wait_for(test(), HANG_S))
