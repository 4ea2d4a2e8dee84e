"""The keeper: does what custody decides on the disk, in a thread, so that nobody waits for it.

Trimming hashes and syncs; removing a folder unlinks gigabytes. Requests of one stream are done in
their order; of several trims the last is enough.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from logboom.agent import custody
from logboom.agent.spool import Place, Rights

_log = logging.getLogger("logboom.agent")


class Keeper:
    """Takes requests at once, carries them out later. ``run`` is its one task."""

    def __init__(self, rights: Rights) -> None:
        self._rights = rights
        self._trims: dict[Place, int] = {}
        self._leaving: dict[Place, Callable[[Place, Rights], None]] = {}
        self._is_wanted = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def trim(self, place: Place, offset: int) -> None:
        """Forget bytes before ``offset``."""
        self._trims[place] = max(offset, self._trims.get(place, 0))
        self._want()

    def retire(self, place: Place) -> None:
        """Remove a delivered stream."""
        self._leave(place, custody.retire)

    def refuse(self, place: Place) -> None:
        """Put a stream away that the collector never takes."""
        self._leave(place, custody.refuse)

    def _leave(self, place: Place, how: Callable[[Place, Rights], None]) -> None:
        self._trims.pop(place, None)
        self._leaving[place] = how
        self._want()

    def _want(self) -> None:
        self._is_idle.clear()
        self._is_wanted.set()

    async def finish(self) -> None:
        """Wait until all that was requested is done."""
        await self._is_idle.wait()

    async def run(self) -> None:
        """Carry out requests for ever."""
        while True:
            await self._is_wanted.wait()
            self._is_wanted.clear()
            trims, self._trims = self._trims, {}
            leaving, self._leaving = self._leaving, {}
            await asyncio.to_thread(self._carry_out, trims, leaving)
            if not self._is_wanted.is_set():
                self._is_idle.set()

    def _carry_out(
        self, trims: dict[Place, int], leaving: dict[Place, Callable[[Place, Rights], None]]
    ) -> None:
        for place, offset in trims.items():
            try:
                custody.trim(place, offset, self._rights)
            except OSError as error:
                _log.warning("%s cannot be trimmed: %s", place.path, error)
        for place, how in leaving.items():
            try:
                how(place, self._rights)
            except OSError as error:
                _log.error("%s cannot be removed: %s", place.path, error)
