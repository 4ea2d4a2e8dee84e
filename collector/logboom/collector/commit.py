"""The driver of group commit: when to sync, who waits for it, and what to do when it fails.

Law: an acknowledgement waits for the disk. The first bytes after a quiet time are committed at
once, the next 50 ms later at the earliest: under load that is one sync for everything. After a
failure nothing more is taken until a probe could be written and synced.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from logboom.collector.appendfile import AppendFile
from logboom.collector.group import Group, Owner, Taken
from logboom.collector.storage import Storage
from logboom.format.errors import LogboomError
from logboom.format.tree import OURS

INTERVAL_S = 0.05
_GATHER_S = 0.002  # what arrives together is committed together
_RETRY_S = 0.5
_PROBE = OURS + "/probe"
_PROBE_BYTES = 4 << 20  # more than one batch: room for less would be full again at once
_FULL = (errno.ENOSPC, errno.EDQUOT)
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
        self._is_over = False

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
        if owner.broken or self._is_over:
            raise StoreInTrouble(f"not kept: {owner.broken or 'the collector is ending'}")
        if file.durable >= length:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(file, _Waiting(owner)).futures.append((length, future))
        self.wake()
        await future

    async def flush(self) -> None:
        """Wait until all that is dirty now, and what follows, is durable, or ``run`` has ended."""
        while not self._is_over and (self.group.dirty or not self._is_idle):
            self.wake()
            await asyncio.sleep(0.005)

    async def run(self) -> None:
        """Commit until cancelled. What is no trouble of the disk is raised: the collector ends."""
        try:
            await self._run()
        except Exception:
            log.exception("the collector ends: it cannot commit")
            raise
        finally:
            self._is_over = True
            for file in tuple(self._waiting):
                self._give_up(file, "the collector is ending")

    async def _run(self) -> None:
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
            except (OSError, LogboomError) as error:
                self._fall_back(taken.owners, error)
                self._say(str(error))
            else:
                self._settle(taken)
        while self.trouble or self._uncut:
            try:
                while self._uncut:
                    self._uncut[-1].fall_back()
                    self._uncut.pop()
                await self._in_thread(executor, self._probe, list(self._paths_of_dirty()))
            except (OSError, LogboomError) as error:
                self._fall_back(set(self.group.dirty.values()), error)
                self._say(str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                self._say("")

    async def _sync(self, executor: ThreadPoolExecutor, paths: list[str]) -> None:
        await self._in_thread(executor, self._storage.sync, paths)

    def _probe(self, paths: list[str]) -> None:
        """Sync these files, and one more, written anew: a full disk syncs what it has."""
        try:
            self._storage.write(_PROBE, 0, os.urandom(_PROBE_BYTES))
            self._storage.sync([_PROBE, *paths])
        finally:
            self._storage.set_length(_PROBE, 0)

    async def _in_thread(
        self, executor: ThreadPoolExecutor, work: Callable[[list[str]], None], paths: list[str]
    ) -> None:
        await asyncio.get_running_loop().run_in_executor(executor, work, paths)

    def _paths_of_dirty(self) -> set[str]:
        return {file.path for item in self.group.dirty for file in item.files}

    def failed(self, owner: Owner, error: Exception) -> None:
        """Let a run fall back whose file could not be written."""
        self._fall_back({owner}, error)
        if isinstance(error, OSError) and error.errno == errno.EIO:
            self._say(str(error))
        self.suspect(error)
        self.wake()

    def suspect(self, error: Exception) -> None:
        """Take nothing more until a probe can be written, if ``error`` is that of a full disk."""
        if isinstance(error, OSError) and error.errno in _FULL:
            self._say(str(error))
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
        names = sorted(owner.run_id for owner in fallen)
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        log.error("run %s falls back to what is durable: %s", shown, str(error) or repr(error))
        self.group.forget(fallen)
        for owner in fallen:
            self._uncut += owner.fall_back(str(error) or repr(error))
        for file in [f for f, waiting in self._waiting.items() if waiting.owner in fallen]:
            self._give_up(file, str(error))
        self._on_fallen(fallen)

    def _give_up(self, file: AppendFile, why: str) -> None:
        for _, future in self._waiting.pop(file).futures:
            if not future.done():
                future.set_exception(StoreInTrouble(f"not kept: {why}"))

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._on_health(trouble)
