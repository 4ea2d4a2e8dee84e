"""Group commit, without the waiting: what is dirty, what was synced, what follows from it.

Law
    * The lengths are taken first, then synced, and only those become durable.
    * What follows from durable bytes (a journal line from an event, a derived line from a journal
      line, an acknowledgement) is done after that, and may make more dirty: its turn is the next.
    * If a sync fails, nothing since the last good one is trusted: the runs that it touched fall
      back to their durable lengths, are *broken*, and are opened anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from logboom.collector.appendfile import AppendFile
from logboom.collector.storage import Storage


class Item(Protocol):
    """Files that are committed together."""

    @property
    def files(self) -> Sequence[AppendFile]:
        """The files."""
        ...

    def settled(self) -> None:
        """Take note that more of the files is durable. Raises ``OSError``."""
        ...


class Owner(Protocol):
    """What falls back as a whole: a run. ``broken`` says why it did, or ""."""

    run_id: str
    broken: str

    def fall_back(self, reason: str) -> list[AppendFile]:
        """Forget what is not durable; return the files that could not be cut."""
        ...


class TakenItem(NamedTuple):
    """An item, and the lengths of its files when it was taken."""

    item: Item
    owner: Owner
    lengths: tuple[int, ...]


class Taken(NamedTuple):
    """What one commit is about."""

    items: list[TakenItem]

    @property
    def paths(self) -> list[str]:
        """The paths to sync."""
        return [file.path for taken in self.items for file in taken.item.files]

    @property
    def owners(self) -> set[Owner]:
        """The runs that are touched."""
        return {taken.owner for taken in self.items}


class Group:
    """What was appended to since it was last taken."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.dirty: dict[Item, Owner] = {}

    def add(self, owner: Owner, item: Item) -> None:
        """Note that ``item`` was appended to."""
        self.dirty[item] = owner

    def take(self) -> Taken:
        """Take all that is dirty, with its lengths."""
        dirty, self.dirty = self.dirty, {}
        return Taken(
            [
                TakenItem(item, owner, tuple(file.length for file in item.files))
                for item, owner in dirty.items()
            ]
        )

    def settle(self, taken: Taken) -> dict[Owner, Exception]:
        """Note that ``taken`` was synced. Return the owners whose next step failed.

        What fell back meanwhile is passed over: its lengths are no longer those.
        """
        failed: dict[Owner, Exception] = {}
        for item, owner, lengths in taken.items:
            if not owner.broken:
                for file, length in zip(item.files, lengths, strict=True):
                    file.durable = length
        for item, owner, _ in taken.items:
            if not owner.broken and owner not in failed:
                try:
                    item.settled()
                except Exception as error:  # one run's trouble must not end all others' commits
                    failed[owner] = error
        return failed

    def forget(self, owners: set[Owner]) -> None:
        """Drop what is dirty of ``owners``, which fell back."""
        self.dirty = {item: owner for item, owner in self.dirty.items() if owner not in owners}
