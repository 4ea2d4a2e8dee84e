"""The runs that are open, and their streams: opened lazily, each once, by whoever asks first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from logboom.collector.commit import Committer
from logboom.collector.group import Group, Owner
from logboom.collector.ledger import Placed
from logboom.collector.run import Run
from logboom.collector.storage import Storage
from logboom.collector.stored import StoredStream
from logboom.format.errors import LogboomError
from logboom.format.ids import check_name

_R = TypeVar("_R")


class UnknownRun(LogboomError):
    """There is no run of this name here."""


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Store:
    """Opens runs and streams over a storage; long work is done in a few threads."""

    def __init__(
        self, storage: Storage, group: Group, committer: Committer, threads: ThreadPoolExecutor
    ) -> None:
        self.storage = storage
        self.committer = committer
        self.threads = threads
        self.heard_ns: dict[str, int] = {}  # when each node's agent last spoke, unix time
        self._group = group
        self._runs: dict[str, Run] = {}
        self._turns: dict[str, _Turn] = {}

    async def run(self, run_id: str, is_begun: bool = False) -> Run:
        """Return a run, opened; with ``is_begun``, begin it where there is none.

        Raises ``BadName``, ``UnknownRun``, ``StoreInTrouble``, ``OSError``.
        """
        check_name("run id", run_id)
        self.committer.check()
        async with self._alone(run_id):
            run = self._runs.get(run_id)
            if run is None:
                run = Run(self.storage, run_id, self._group)
                if not await self._in_thread(run.exists) and not is_begun:
                    raise UnknownRun(f"there is no run {run_id!r} here")
                await self._in_thread(run.open)
                run.resume()
                self.committer.wake()
                self._runs[run_id] = run
            return run

    def open_runs(self) -> list[Run]:
        """Return the runs that are open."""
        return list(self._runs.values())

    def let_go(self, run: Run) -> None:
        """Drop a run that is over and settled: who asks for it opens it anew."""
        if run.is_over() and self._runs.get(run.run_id) is run:
            del self._runs[run.run_id]

    def tick(self) -> None:
        """Decide, for every open run, what follows from time."""
        for run in self.open_runs():
            self.tick_run(run)
        if self._group.dirty:
            self.committer.wake()

    def tick_run(self, run: Run) -> None:
        """Decide what follows from time for one run; where its disk fails, it falls back."""
        try:
            run.tick(self.heard_ns)
        except OSError as error:
            self.committer.failed(run, error)

    async def stream(self, run: Run, placed: Placed) -> StoredStream:
        """Return a placed stream, recovered. Raises ``RunFellBack``, ``OSError``."""
        stream_id = placed.attributes.id
        run.check()
        if stream_id in run.streams:
            return run.streams[stream_id]
        async with self._alone(stream_id):
            run.check()
            if stream_id in run.streams:
                return run.streams[stream_id]
            return run.adopt(await self._in_thread(run.recover_stream, placed))

    async def placed(self, run: Run) -> None:
        """Wait until all that the run's journal says now is durable."""
        file = run.journal.file
        await self.committer.durable(run, file, file.length)

    async def digest(self, stream: StoredStream, length: int) -> bytes:
        """Return the digest of the first ``length`` bytes of a stream."""
        known = stream.known_digest(length)
        if known is None:
            known = await self._in_thread(stream.read_digest, length)
        return known

    def forget(self, owners: set[Owner]) -> None:
        """Drop runs that fell back: the next who asks opens them anew."""
        self._runs = {name: run for name, run in self._runs.items() if run not in owners}

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """Let one at a time open what has this name."""
        turn = self._turns.setdefault(name, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[name]

    async def _in_thread(self, work: Callable[..., _R], *arguments: Any) -> _R:
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)
