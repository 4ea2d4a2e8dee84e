"""Events: JSON Lines about one process, written by its recorder alone.

Law
    * One object a line: ``{"n": 0, "t": <CLOCK_BOOTTIME ns>, "event": "started", ...}``.
    * ``n`` counts from 0. A number seen before is passed over (a recorder that died after
      writing a line is followed by one that may write it again).
    * A line that is no such object stays where it is and is passed over; the next writer begins
      with a newline.
    * A process's status stands only here. Events that end without ``exited`` mean unknown.

    event     fields
    started   pid, command (list of str), cwd
    exited    exactly one of code (0 to 255), signal (1 to 64), unknown (why, in words)
    lost      bytes (how many), why
    message   text: words of ours about this process
"""

from __future__ import annotations

import json
from typing import Any, Iterator, NamedTuple


class Event(NamedTuple):
    """One event: its number, its time (CLOCK_BOOTTIME, ns), its name and its other fields."""

    number: int
    boot_ns: int
    name: str
    fields: dict[str, Any]


def encode_event(event: Event) -> bytes:
    """Return the event's line, newline included."""
    found = {"n": event.number, "t": event.boot_ns, "event": event.name}
    found.update(event.fields)
    return json.dumps(found, separators=(",", ":")).encode() + b"\n"


def decode_event(line: bytes) -> Event | None:
    """Return the event in a line, or None where it is none."""
    try:
        found = json.loads(line.decode())
        number, boot_ns, name = found.pop("n"), found.pop("t"), found.pop("event")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    if type(number) is not int or type(boot_ns) is not int or type(name) is not str:
        return None
    if number < 0 or boot_ns < 0:
        return None
    return Event(number, boot_ns, name, found)


def read_events(content: bytes, at: int = 0, next_number: int = 0) -> Iterator[tuple[Event, int]]:
    """Yield each new event in ``content[at:]`` with the offset after its line.

    Only whole lines count. Events numbered below ``next_number``, or below one already yielded,
    were seen before and are passed over.
    """
    while True:
        end = content.find(b"\n", at)
        if end < 0:
            return
        event = decode_event(content[at:end])
        at = end + 1
        if event is not None and event.number >= next_number:
            next_number = event.number + 1
            yield event, at
