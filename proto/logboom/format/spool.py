"""The spool: the folder through which recorders hand streams to the agent of their node.

Layout
    <spool>/node.json                                 what the agent knows of the node
    <spool>/agent.lock                                flock: an agent lives here
    <spool>/runs/<run_id>/<kind>[-<rank>]-<id>/       a stream
        stream.lock     flock held while the writer lives (shim and recorder share it)
        stream.json     attributes; written to a temporary name, renamed; before any byte
        <offset>.seg    raw bytes from <offset> on, 16 MiB aligned blocks
        <offset>.spans  spans of those bytes (``logboom.format.spans``); the first is at <offset>
        <offset>.blake3 64 hex digits: hash of a whole block, by the agent, before it may go
        end.json        length, time, why; the stream is complete
        acked           how far the collector has it, by the agent: a hint, rewritten in place
    <spool>/refused/    streams that the collector never takes
    <spool>/gone/       streams on their way out: renamed here, then removed
    <spool>/own/<run_id>/   a spool of the same form, of one run with a collector of its own

Law
    * ``<offset>`` is 20 decimal digits, ``<id>`` 32 hex digits. The names are the protocol.
    * Bytes are only appended; a segment is full at BLOCK_BYTES and the next begins there.
    * A segment is removed when all of it is acknowledged and a later one or ``end.json`` exists;
      the newest never.
    * A folder without ``stream.json`` is not a stream yet. A free ``stream.lock`` without
      ``end.json`` means that the writers died: whoever takes the lock may write the end.
    * A living segment's length is read before its spans.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from logboom.format.ids import is_id
from logboom.format.stream import Kind, StreamAttributes

SYSTEM_SPOOL = "/var/spool/logboom"  # the default place where it can be written,
OWN_SPOOL = "/var/tmp/logboom-%d"  # else this user's
BLOCK_BYTES = 16 * 1024 * 1024
RUNS = "runs"
REFUSED = "refused"
GONE = "gone"
OWN = "own"
NODE_JSON = "node.json"
AGENT_LOCK = "agent.lock"
STREAM_JSON = "stream.json"
STREAM_LOCK = "stream.lock"
END_JSON = "end.json"
ACKED = "acked"
SEGMENT = ".seg"
SPANS = ".spans"
HASH = ".blake3"
_OFFSET_NAME = re.compile(r"([0-9]{20})(\.seg|\.spans|\.blake3)", re.ASCII)
_FOLDER = re.compile(r"([a-z_]+)(?:-([0-9]+))?-([0-9a-f]{32})", re.ASCII)


class StreamFolder(NamedTuple):
    """What a stream folder's name says."""

    kind: Kind
    rank: int | None
    id: str


def offset_name(offset: int, suffix: str) -> str:
    """Return the name of the segment, spans or hash file that begins at ``offset``."""
    return "%020d%s" % (offset, suffix)


def parse_offset_name(name: str, suffix: str) -> int | None:
    """Return the offset in a file's name, or None where it is no such file."""
    found = _OFFSET_NAME.fullmatch(name)
    return int(found.group(1)) if found and found.group(2) == suffix else None


def block_start(offset: int) -> int:
    """Return where the block that holds the byte at ``offset`` begins."""
    return offset - offset % BLOCK_BYTES


def folder_name(attributes: StreamAttributes) -> str:
    """Return the name of a stream's folder in its run's."""
    rank = "" if attributes.rank is None else "-%d" % attributes.rank
    return "%s%s-%s" % (attributes.kind.value, rank, attributes.id)


def parse_folder_name(name: str) -> StreamFolder | None:
    """Return what a stream folder's name says, or None where it is none."""
    found = _FOLDER.fullmatch(name)
    if found is None or not is_id(found.group(3)):
        return None
    try:
        kind = Kind(found.group(1))
    except ValueError:
        return None
    rank = None if found.group(2) is None else int(found.group(2))
    return StreamFolder(kind, rank, found.group(3))
