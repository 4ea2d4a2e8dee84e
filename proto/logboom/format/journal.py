"""The journal: one append-only file a run that puts everything known of it in one order.

Law
    * One JSON object a line. ``"n"`` counts lines from 0 without a gap; ``"crc"``, the last key,
      is eight hex digits of ``zlib.crc32`` over the line's bytes before ``,"crc"``.
    * The first line that is not whole, not numbered next, or whose crc differs ends the journal:
      it and what follows is cut when the run is opened.
    * A line with ``"source"`` is an event of that stream, and ``"offset"`` is the offset after
      it: the line is its own cursor. It is written after its event was committed.
    * Other lines are decisions of the collector; together they are the *ledger*.
    * Lines without ``"source"`` have ``"unix_ns"``, when they were written (collector's time).
    * Everything that is derived is a function of these lines alone, and follows their commit.

    what      fields
    begun     version, run_id: the first line
    placed    attributes (as in stream.json), attempt, path (in the run's folder), node_id,
              node_ip, clock_offset_ns, clock_error_ns (collector's unix time less the node's)
    event     source, offset, event (the event's object)
    ended     stream, length, digest (hex, as the node declared), why, boot_ns; corrupt (true)
              where what is here has another digest; declared (bytes) where the node declared
              fewer than are here: the digest is theirs
    lost      stream, start, end, why: bytes that are not here and never will be
    refused   stream, why
    closed    reason: the run, every attempt of it, was ended by hand
    attempt_ended   attempt, state (Completed, Failed), reason: nothing more is expected of it
    not_responding  attempt: it is unfinished, and none of its agents spoke for 5 min
    responding      attempt: one of them speaks again
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Dict

VERSION = 1
Line = Dict[str, Any]


def encode_line(number: int, what: str, fields: Line) -> bytes:
    """Return the line, newline included. ``fields`` must not hold n, what or crc."""
    body = json.dumps(dict({"n": number, "what": what}, **fields), separators=(",", ":"))
    head = body[:-1].encode()
    return head + b',"crc":"%08x"}\n' % zlib.crc32(head)


def decode_line(content: bytes, number: int) -> Line | None:
    """Return the object in a line (without newline), or None where it is not line ``number``."""
    at = content.rfind(b',"crc":"')
    if at < 0 or content[at:] != b',"crc":"%08x"}' % zlib.crc32(content[:at]):
        return None
    try:
        found = json.loads(content[:at].decode() + "}")
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("n") != number or "what" not in found:
        return None
    return found


def decode_lines(content: bytes) -> tuple[list[Line], int]:
    """Return a journal's sound lines, and how many bytes of ``content`` they take."""
    lines: list[Line] = []
    at = 0
    while True:
        end = content.find(b"\n", at)
        line = decode_line(content[at:end], len(lines)) if end >= 0 else None
        if line is None:
            return lines, at
        lines.append(line)
        at = end + 1
