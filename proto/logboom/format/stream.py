"""A stream: what one source writes from start to end, and what is known of it.

Law
    * A stream *is* its random id. Everything else (run, kind, process, rank, ...) is an
      attribute, written once, before the first byte, and never changed.
    * Offsets count a stream's bytes from 0. Ranges are half-open.
    * Attributes are stored as one JSON object with ``"version": 1`` (``stream.json`` in the
      spool, the ``placed`` line in the journal). A reader passes over keys it does not know;
      a version it does not know is refused.
"""

from __future__ import annotations

import enum
import json
from typing import Any, NamedTuple

from logboom.format.errors import BadFormat
from logboom.format.ids import check_id, check_name

VERSION = 1
TEXT_LIMIT = 4096  # characters of a text from outside
ATTEMPT_LIMIT = 10_000  # of those a user names: each is a folder in the tree


class Kind(str, enum.Enum):
    """What a stream holds. The spelling is the same in spool, wire, journal and messages."""

    DRIVER = "driver"
    EVENTS = "events"
    MPI = "mpi"
    LAUNCHER = "launcher"
    IMAGE_BUILD = "image_build"
    EXECUTION = "execution"
    JOB_PREP = "job_prep"
    JOB_POST = "job_post"
    START_CMS = "start_cms"
    PREP_CMD = "prep_cmd"
    RELEASE_CMD = "release_cmd"
    FILE = "file"
    PIPE = "pipe"
    METRICS = "metrics"


class StreamAttributes(NamedTuple):
    """What a stream's writer knew when it began.

    ``process`` ties a driver to its events; ``rank`` is None for a process without one. Times
    are nanoseconds: ``started_boot_ns`` of the node's CLOCK_BOOTTIME under ``boot_id``,
    ``started_unix_ns`` of its unix clock at that same moment. ``attempt`` is set only where the
    user named it.
    """

    id: str
    kind: Kind
    run_id: str
    process: str = ""
    rank: int | None = None
    world_size: int = 1
    local_rank: int | None = None
    pid: int = 0
    name: str = ""
    launch_mark: str = ""
    attempt: int | None = None
    host: str = ""
    boot_id: str = ""
    started_boot_ns: int = 0
    started_unix_ns: int = 0
    path: str = ""

    def unix_ns(self, boot_ns: int) -> int:
        """Turn a time of this stream's node clock into its unix time, both in nanoseconds."""
        return self.started_unix_ns + (boot_ns - self.started_boot_ns)


def check_attributes(attributes: StreamAttributes) -> StreamAttributes:
    """Return ``attributes``, or raise ``BadName``/``BadFormat`` on what the tree cannot hold."""
    check_id("stream", attributes.id)
    check_name("run id", attributes.run_id)
    if attributes.process:
        check_id("process", attributes.process)
    elif attributes.kind in (Kind.DRIVER, Kind.EVENTS):
        raise BadFormat("%s stream %s names no process" % (attributes.kind.value, attributes.id))
    if attributes.name:
        check_name("name", attributes.name)
    for what in ("rank", "local_rank", "attempt"):
        value = getattr(attributes, what)
        if value is not None and not 0 <= value < 2**31:
            raise BadFormat("%s %d of stream %s is out of range" % (what, value, attributes.id))
    for what in ("launch_mark", "host", "path", "boot_id"):
        if len(getattr(attributes, what)) > TEXT_LIMIT:
            raise BadFormat(
                "%s of stream %s has more than %d characters" % (what, attributes.id, TEXT_LIMIT)
            )
    if attributes.attempt is not None and attributes.attempt >= ATTEMPT_LIMIT:
        raise BadFormat("attempt %d is out of range" % attributes.attempt)
    if not 1 <= attributes.world_size < 2**31:
        raise BadFormat(
            "world size %d of stream %s is out of range" % (attributes.world_size, attributes.id)
        )
    return attributes


def attributes_to_json(attributes: StreamAttributes) -> dict[str, Any]:
    """Return the JSON object of ``attributes``; what is unset is left out."""
    fields = attributes._asdict()
    fields["kind"] = attributes.kind.value
    kept = {key: value for key, value in fields.items() if value is not None and value != ""}
    return dict(version=VERSION, **kept)


_TYPES = {
    "id": str, "kind": str, "run_id": str, "process": str, "rank": int, "world_size": int,
    "local_rank": int, "pid": int, "name": str, "launch_mark": str, "attempt": int, "host": str,
    "boot_id": str, "started_boot_ns": int, "started_unix_ns": int, "path": str,
}  # fmt: skip


def attributes_from_json(found: Any) -> StreamAttributes:
    """Return the attributes in a JSON object. Raises ``BadFormat`` or ``BadName``."""
    if not isinstance(found, dict):
        raise BadFormat("stream attributes are not a JSON object")
    if found.get("version") != VERSION:
        raise BadFormat(
            "stream attributes of version %r" % (found.get("version"),),
            "this logboom reads version %d" % VERSION,
        )
    known: dict[str, Any] = {}
    for key, kind in _TYPES.items():
        if key in found:
            if not isinstance(found[key], kind) or isinstance(found[key], bool):
                raise BadFormat("stream attribute %s is %r" % (key, found[key]))
            known[key] = found[key]
    try:
        known["kind"] = Kind(known["kind"])
        return check_attributes(StreamAttributes(**known))
    except (KeyError, TypeError, ValueError) as error:
        raise BadFormat("stream attributes are incomplete: %s" % error) from error


def encode_attributes(attributes: StreamAttributes) -> bytes:
    """Return the content of ``stream.json``."""
    return json.dumps(attributes_to_json(attributes), indent=1).encode() + b"\n"


def decode_attributes(content: bytes) -> StreamAttributes:
    """Read ``stream.json``. Raises ``BadFormat`` or ``BadName``."""
    try:
        found = json.loads(content.decode())
    except ValueError as error:
        raise BadFormat("stream attributes are not JSON: %s" % error) from error
    return attributes_from_json(found)


class Why(str, enum.Enum):
    """Why a stream ended."""

    EOF = "eof"
    RECORDER_GONE = "recorder gone"


class End(NamedTuple):
    """The end of a stream: its length in bytes, the node's CLOCK_BOOTTIME, and why."""

    length: int
    boot_ns: int
    why: Why


def encode_end(end: End) -> bytes:
    """Return the content of ``end.json``."""
    found = {"version": VERSION, "length": end.length, "time": end.boot_ns, "why": end.why.value}
    return json.dumps(found).encode() + b"\n"


def decode_end(content: bytes) -> End:
    """Read ``end.json``. Raises ``BadFormat``."""
    try:
        found = json.loads(content.decode())
        if found["version"] != VERSION:
            raise BadFormat("end of version %r" % (found["version"],))
        return End(int(found["length"]), int(found["time"]), Why(found["why"]))
    except (ValueError, KeyError, TypeError) as error:
        raise BadFormat("end.json cannot be read: %s" % error) from error
