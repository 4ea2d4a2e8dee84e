"""The driver of group commit: when to sync, who waits for it, and what to do when it fails.

Law: an acknowledgement waits for the disk. The first bytes after a quiet time are committed at
once, the next 50 ms later at the earliest: under load that is one sync for everything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from logboom.collector.appendfile import AppendFile
from logboom.collector.group import Group, Owner, Taken
from logboom.collector.storage import Storage
from logboom.format.errors import LogboomError

INTERVAL_S = 0.05
_GATHER_S = 0.002  # what arrives together is committed together
_RETRY_S = 0.5
log = logging.getLogger(__name__)


class StoreInTrouble(LogboomError):
    """The disk does not take what it is given now."""


class _Waiting:
    """Those who wait for a file's length."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.futures: list[tuple[int, asyncio.Future[None]]] = []


class Committer:
    """Commits a group again and again. ``trouble`` says why nothing can be kept, or ""."""

    def __init__(
        self,
        group: Group,
        on_health: Callable[[str], None],
        on_fallen: Callable[[set[Owner]], None],
    ) -> None:
        self.group = group
        self.trouble = ""
        self._storage: Storage = group.storage
        self._on_health = on_health
        self._on_fallen = on_fallen
        self._wake = asyncio.Event()
        self._waiting: dict[AppendFile, _Waiting] = {}
        self._uncut: list[AppendFile] = []
        self._is_idle = True

    def wake(self) -> None:
        """Something is dirty."""
        self._wake.set()

    def check(self) -> None:
        """Raise ``StoreInTrouble`` while nothing can be kept."""
        if self.trouble or self._uncut:
            why = self.trouble or "files are being cut back"
            raise StoreInTrouble(f"the store cannot keep bytes now: {why}")

    async def durable(self, owner: Owner, file: AppendFile, length: int) -> None:
        """Wait until ``length`` bytes of a file are durable. Raises if its run falls back."""
        if owner.broken:
            raise StoreInTrouble(f"not kept: {owner.broken}")
        if file.durable >= length:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(file, _Waiting(owner)).futures.append((length, future))
        self.wake()
        await future

    async def flush(self) -> None:
        """Wait until all that is dirty now, and what follows from it, is durable."""
        while self.group.dirty or not self._is_idle:
            self.wake()
            await asyncio.sleep(0.005)

    async def run(self) -> None:
        """Commit until cancelled."""
        last = 0.0
        with ThreadPoolExecutor(1, "commit") as executor:
            while True:
                await self._wake.wait()
                await asyncio.sleep(max(_GATHER_S, last + INTERVAL_S - time.monotonic()))
                self._wake.clear()
                last = time.monotonic()
                self._is_idle = False
                await self._commit(executor)
                self._is_idle = True
                if self.group.dirty:
                    self.wake()

    async def _commit(self, executor: ThreadPoolExecutor) -> None:
        taken = self.group.take()
        if taken.items:
            try:
                await self._sync(executor, taken.paths)
            except OSError as error:
                self._fall_back(taken.owners, error)
                self._say(str(error))
            else:
                self._settle(taken)
        while self.trouble or self._uncut:
            try:
                while self._uncut:
                    self._uncut[-1].fall_back()
                    self._uncut.pop()
                await self._sync(executor, list(self._paths_of_dirty()))
            except OSError as error:
                self._fall_back(set(self.group.dirty.values()), error)
                self._say(str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                self._say("")

    async def _sync(self, executor: ThreadPoolExecutor, paths: list[str]) -> None:
        await asyncio.get_running_loop().run_in_executor(executor, self._storage.sync, paths)

    def _paths_of_dirty(self) -> set[str]:
        return {file.path for item in self.group.dirty for file in item.files}

    def failed(self, owner: Owner, error: OSError) -> None:
        """Let a run fall back whose file could not be written."""
        self._fall_back({owner}, error)
        self.wake()

    def _settle(self, taken: Taken) -> None:
        for owner, error in self.group.settle(taken).items():
            self._fall_back({owner}, error)
        for item, _, _ in taken.items:
            for file in item.files:
                waiting = self._waiting.get(file)
                if waiting is None:
                    continue
                for length, future in waiting.futures:
                    if length <= file.durable and not future.done():
                        future.set_result(None)
                waiting.futures = [pair for pair in waiting.futures if not pair[1].done()]
                if not waiting.futures:
                    del self._waiting[file]

    def _fall_back(self, owners: set[Owner], error: Exception) -> None:
        fallen = {owner for owner in owners if not owner.broken}
        if not fallen:
            return
        log.error("%d run(s) fall back to what is durable: %s", len(fallen), error)
        self.group.forget(fallen)
        for owner in fallen:
            self._uncut += owner.fall_back(str(error))
        for file in [f for f, waiting in self._waiting.items() if waiting.owner in fallen]:
            for _, future in self._waiting.pop(file).futures:
                if not future.done():
                    future.set_exception(StoreInTrouble(f"not kept: {error}"))
        self._on_fallen(fallen)

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._on_health(trouble)
