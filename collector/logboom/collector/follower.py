"""What writes the overall logs, in the background: low priority, may lag, never slows ingest.

Law
    * Streams are taken in the order of their commits. Reading and writing are done in a thread of
      their own, a bounded piece at a time, and rest four times as long as they took: at most a
      fifth of one core.
    * Nothing waits for this, but an orderly stop, for a bounded time.
    * What fails is let go, and opened anew after a while: opening is recovering.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from logboom.collector.overall import LIMIT_BYTES, Job, RunOverall, SyncFailed
from logboom.collector.run import Run
from logboom.collector.store import Store
from logboom.format.errors import LogboomError
from logboom.format.stream import Kind

_R = TypeVar("_R")
LOOK_S = 0.1
COMMIT_NS = 10**9  # how often the cursors are written; a crash takes so much back
RETRY_NS = 5 * 10**9
_JOBS_AT_ONCE = 8
_REST = 4
log = logging.getLogger(__name__)


class _Following:
    """One run, and its streams that have bytes which were not taken, in order."""

    def __init__(self, overall: RunOverall) -> None:
        self.overall = overall
        self.ready: dict[str, None] = {}
        self.is_open = False
        self.is_dirty = False
        self.next_commit_ns = 0
        self.not_before_ns = 0


class Follower:
    """Follows the open runs of a store."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], int] = time.monotonic_ns,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self._store = store
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._followings: dict[Run, _Following] = {}
        self._thread = ThreadPoolExecutor(1, "overall")
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Follow until ``stop``."""
        while not self._stopping.is_set():
            start = time.monotonic()
            is_busy = await self.step()
            took = time.monotonic() - start
            rest_s = took * _REST if is_busy else max(LOOK_S, took * _REST)
            try:
                await asyncio.wait_for(self._stopping.wait(), rest_s)
            except TimeoutError:
                pass

    async def stop(self, limit_s: float) -> None:
        """Take what is committed, for at most ``limit_s``. ``run`` must have returned."""
        deadline = time.monotonic() + limit_s
        while await self.step() and time.monotonic() < deadline:
            pass
        for run, following in tuple(self._followings.items()):
            await self._commit(run, following)
        await asyncio.to_thread(self._thread.shutdown)

    def end(self) -> None:
        """Let ``run`` return after the step that it is in."""
        self._stopping.set()

    def has_caught_up(self, run: Run) -> bool:
        """Say whether all that was committed of a run is in its overall logs, for good."""
        following = self._followings.get(run)
        return (
            following is not None
            and following.is_open
            and not (following.ready or run.committed or following.is_dirty)
        )

    async def step(self) -> bool:
        """Take a piece of every stream's news, a few streams of each run. Say if there is more."""
        runs = self._store.open_runs()
        for run in self._followings.keys() - set(runs):
            del self._followings[run]
        is_busy = False
        for run in runs:
            if run not in self._followings:
                overall = RunOverall(run.storage, run.folder, self._limit_bytes)
                self._followings[run] = _Following(overall)
            following = self._followings[run]
            if run.broken or self._clock() < following.not_before_ns:
                continue
            try:
                is_busy = await self._follow(run, following) or is_busy
            except Exception as error:  # nobody may suffer from this but these logs
                log.warning("overall logs of run %s are behind: %r", run.run_id, error)
                if isinstance(error, SyncFailed):
                    for suspect in self._store.open_runs():
                        self._store.committer.failed(suspect, error)
                again = _Following(RunOverall(run.storage, run.folder, self._limit_bytes))
                again.not_before_ns = self._clock() + RETRY_NS
                self._followings[run] = again
        return is_busy

    async def _follow(self, run: Run, following: _Following) -> bool:
        if not following.is_open:
            await self._open(run, following)
        following.ready |= run.committed
        run.committed.clear()
        taken = list(following.ready)[:_JOBS_AT_ONCE]
        for stream_id in taken:
            del following.ready[stream_id]
        jobs = [job for job in (self._job(run, stream_id) for stream_id in taken) if job]
        now_ns = self._clock()
        if jobs:
            following.is_dirty = True
            for job in await self._in_thread(following.overall.work, jobs, now_ns):
                following.ready[job.placed.attributes.id] = None
        if now_ns >= following.next_commit_ns:
            following.next_commit_ns = now_ns + COMMIT_NS
            overall = following.overall
            if overall.has_unfinished and await self._in_thread(overall.age, now_ns):
                following.is_dirty = True
            await self._commit(run, following)
        return bool(following.ready)

    async def _open(self, run: Run, following: _Following) -> None:
        """Open the streams that nobody has opened, and recover the logs."""
        drivers = [
            placed
            for placed in tuple(run.ledger.streams.values())
            if placed.attributes.kind is Kind.DRIVER
        ]
        for placed in drivers:
            if placed.ended is None:
                try:
                    await self._store.stream(run, placed)
                except LogboomError as error:
                    log.warning("stream %s cannot be followed: %s", placed.attributes.id, error)
        jobs = [job for job in (self._job(run, p.attributes.id) for p in drivers) if job]
        await self._in_thread(following.overall.open, jobs)
        following.ready = {placed.attributes.id: None for placed in drivers}
        following.is_open = True

    async def _commit(self, run: Run, following: _Following) -> None:
        if following.is_dirty and not run.broken:
            following.is_dirty = False
            await self._in_thread(following.overall.commit)

    def _job(self, run: Run, stream_id: str) -> Job | None:
        placed, stream = run.ledger.streams[stream_id], run.streams.get(stream_id)
        holes = tuple((start, end) for start, end, _ in placed.lost)
        if placed.ended is not None:
            return Job(placed, placed.ended.length, True, holes)
        return Job(placed, stream.durable, False, holes) if stream else None

    async def _in_thread(self, work: Callable[..., _R], *arguments: object) -> _R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
