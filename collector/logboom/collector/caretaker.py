"""What happens without anybody asking: runs are opened after a start, and time passes for them.

Law
    * Low priority: one run after another is opened; what follows from its journal and streams is
      there then. One that is over is let go again.
    * A run that cannot be opened is a line in the log, and stays for whoever asks for it.
"""

from __future__ import annotations

import asyncio
import logging

from logboom.collector.commit import StoreInTrouble
from logboom.collector.follower import LOOK_S, Follower
from logboom.collector.store import Store, UnknownRun
from logboom.format.ids import is_name
from logboom.format.tree import RUNS

TICK_S = 0.5
_RETRIES = 20
_LOOKS = 300  # then the next run has its turn, and this one stays open
log = logging.getLogger(__name__)


class Caretaker:
    """Looks after the runs of a store."""

    def __init__(self, store: Store, follower: Follower) -> None:
        self._store = store
        self._follower = follower

    async def run(self) -> None:
        """Restore every run of the tree, and let time pass, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._restore_all())
            while True:
                self._store.tick()
                await asyncio.sleep(TICK_S)

    async def _restore_all(self) -> None:
        names = await asyncio.to_thread(self._store.storage.names, RUNS)
        for name in filter(is_name, names):
            for _ in range(_RETRIES):
                try:
                    await self._restore(name)
                    break
                except UnknownRun:
                    break
                except (OSError, StoreInTrouble) as error:
                    log.warning("run %s cannot be opened now: %s", name, error)
                except Exception as error:  # one broken run must not end all others' care
                    log.error("run %s cannot be opened: %r", name, error)
                    break
                await asyncio.sleep(TICK_S)
            else:
                log.error("run %s could not be opened; it is when somebody asks for it", name)

    async def _restore(self, name: str) -> None:
        run = await self._store.run(name)
        for _ in range(_LOOKS):
            if not run.is_over() or run.broken:
                return
            if self._follower.has_caught_up(run):
                self._store.let_go(run)
                return
            await asyncio.sleep(LOOK_S)
