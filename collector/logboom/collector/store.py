"""The runs that are open, and their streams: opened lazily, each once, by whoever asks first.

Law
    * An opening cuts files. It belongs to the store, not to who asked: it goes on to its end when
      the asker goes, and nobody else opens the same until its thread has ended.
    * A run is not opened while a stream of it is being recovered for the run that it was before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
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
        self._openings: dict[asyncio.Task[Any], str] = {}  # with the run whose stream it recovers

    async def run(self, run_id: str, is_begun: bool = False) -> Run:
        """Return a run, opened; with ``is_begun``, begin it where there is none.

        Raises ``BadName``, ``UnknownRun``, ``StoreInTrouble``, ``OSError``.
        """
        check_name("run id", run_id)
        self.committer.check()
        while run_id not in self._runs:  # again, where it was let go before we were told
            await self._alone(run_id, lambda: self._open(run_id, is_begun))
        return self._runs[run_id]

    async def _open(self, run_id: str, is_begun: bool) -> None:
        if run_id in self._runs:
            return
        recovering = [task for task, of in self._openings.items() if of == run_id]
        if recovering:
            await asyncio.wait(recovering)
        self.committer.check()
        run = Run(self.storage, run_id, self._group)
        if not await self._in_thread(run.exists) and not is_begun:
            raise UnknownRun(f"there is no run {run_id!r} here")
        await self._in_thread(run.open)
        try:
            run.resume()
        except Exception as error:
            self.committer.failed(run, error)
            raise
        self.committer.wake()
        self._runs[run_id] = run

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
        """Decide what follows from time for one run; where that fails, it alone falls back."""
        try:
            run.tick(self.heard_ns)
        except Exception as error:  # one run's trouble must not end all others' care
            self.committer.failed(run, error)

    async def stream(self, run: Run, placed: Placed) -> StoredStream:
        """Return a placed stream, recovered. Raises ``RunFellBack``, ``OSError``."""
        stream_id = placed.attributes.id
        run.check()
        if stream_id in run.streams:
            return run.streams[stream_id]
        return await self._alone(stream_id, lambda: self._stream(run, placed), run.run_id)

    async def _stream(self, run: Run, placed: Placed) -> StoredStream:
        run.check()
        if placed.attributes.id in run.streams:
            return run.streams[placed.attributes.id]
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

    async def openings(self) -> None:
        """Wait until every opening that goes on has ended."""
        while self._openings:
            await asyncio.wait(tuple(self._openings))

    async def _alone(
        self, name: str, opening: Callable[[], Coroutine[Any, Any, _R]], stream_of: str = ""
    ) -> _R:
        """Let one at a time open what has this name, to its end, whether it is waited for or not.

        ``stream_of`` is the run whose stream is recovered.
        """
        task = asyncio.create_task(self._in_turn(name, opening))
        self._openings[task] = stream_of
        task.add_done_callback(self._openings.pop)
        return await asyncio.shield(task)

    async def _in_turn(self, name: str, opening: Callable[[], Coroutine[Any, Any, _R]]) -> _R:
        turn = self._turns.setdefault(name, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                return await opening()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[name]

    async def _in_thread(self, work: Callable[..., _R], *arguments: Any) -> _R:
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)
