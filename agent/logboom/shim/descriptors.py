"""Descriptors: who keeps which.

Everything inherited stays open in the command. The recorder keeps none of it, shim and twin only
2: whoever holds another hides an end from somebody (MPICH leaks copies of 0 to 2 under other
numbers, so it does not help to close those three).
"""

from __future__ import annotations

import os
import select
from typing import Iterable


def fill_standard() -> tuple[bool, bool]:
    """Occupy what is closed of 0, 1, 2, so that nothing of ours gets those numbers.

    Returns whether stdout and stderr were open. The fillers are closed in the command.
    """
    was_open = []
    for number in (0, 1, 2):
        try:
            os.fstat(number)
            was_open.append(True)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            was_open.append(False)
    return was_open[1], was_open[2]


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor of this process but ``kept``."""
    keep = set(kept)
    try:
        found = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        found = list(range(os.sysconf("SC_OPEN_MAX")))
    for number in found:
        if number not in keep:
            try:
                os.close(number)
            except OSError:
                pass  # the listing's own


def point_to_null(numbers: Iterable[int]) -> None:
    """Put /dev/null at these numbers, whatever is there."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
    except OSError:
        null = os.open("/", os.O_RDONLY | os.O_DIRECTORY)  # takes no byte and gives none either
    wanted = tuple(numbers)
    for number in wanted:
        if number != null:
            os.dup2(null, number)
    if null in wanted:
        os.set_inheritable(null, True)
    else:
        os.close(null)


def is_readable(fd: int, seconds: float) -> bool:
    """Wait until a descriptor, whatever its number, has something to read or its writer is gone."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0, int(seconds * 1000))))


def open_anew(folder: int) -> int:
    """Open a folder's descriptor once more, for listing it.

    One that processes share has one place within the listing, and whoever is killed while listing
    leaves it at the end: the next to list would find nothing.
    """
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
