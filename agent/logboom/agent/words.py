"""What the session hears (events, past participles) and what it says (actions, imperatives).

Offsets are bytes of a stream, ranges half-open. ``number`` is a stream's number in the current
connection, ``stream`` its id. Times are seconds of one steady clock unless the name says else.
"""

from __future__ import annotations

from dataclasses import dataclass

from logboom.format.stream import End, StreamAttributes


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed: the session looks at its deadlines."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A call stands; whether a collector is at the other end is not known yet."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The call ended. ``is_final``: the peer is no collector of ours, or will never take us."""

    reason: str
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The collector took the connection."""

    version: int
    node_id: str
    store_id: str
    batch_limit_bytes: int
    window_bytes: int
    min_gap_s: float


@dataclass(frozen=True, slots=True)
class Ponged:
    """An answer to a ping: the collector's unix time, and the node's when the answer came."""

    sequence: int
    unix_ns: int
    node_unix_ns: int


@dataclass(frozen=True, slots=True)
class Found:
    """A stream is in the spool, with ``length`` bytes so far."""

    stream: str
    attributes: StreamAttributes
    length: int


@dataclass(frozen=True, slots=True)
class Grew:
    """The stream has ``length`` bytes now."""

    stream: str
    length: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The stream is complete: ``end.length`` is what the spool has up to its last byte."""

    stream: str
    end: End


@dataclass(frozen=True, slots=True)
class Vanished:
    """The stream's folder is gone from ``runs/``."""

    stream: str


@dataclass(frozen=True, slots=True)
class Lacked:
    """The spool does not have these bytes of the stream and never will."""

    stream: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Shortened:
    """Of the piece just asked for, only the bytes up to ``end`` went into the batch."""

    stream: str
    end: int


@dataclass(frozen=True, slots=True)
class Sent:
    """The batch has been handed to the network."""


@dataclass(frozen=True, slots=True)
class Looked:
    """The whole spool was looked through, and all found was reported. ``unreadable``: streams
    that cannot be shipped because this version cannot read what they say of themselves."""

    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """The collector has the stream up to ``durable_offset``; ``has_ended``: its end too."""

    number: int
    durable_offset: int
    has_ended: bool


@dataclass(frozen=True, slots=True)
class Acked:
    """The stream is on the collector's disk up to ``durable_offset``."""

    number: int
    durable_offset: int
    has_ended: bool


@dataclass(frozen=True, slots=True)
class Paced:
    """The collector asks for batches at least this far apart."""

    min_gap_s: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """We sent past what the collector has: it wants the bytes from ``offset`` on."""

    number: int
    offset: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The collector does not take a stream (0: the connection), for now or never."""

    number: int
    reason: str
    may_retry: bool


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody wants us to leave: what is there goes out first, until ``deadline``."""

    deadline: float


FromSpool = Found | Grew | Ended | Vanished | Lacked | Shortened | Looked
FromPeer = Welcomed | Ponged | Opened | Acked | Paced | Resumed | Refused
Event = FromSpool | FromPeer | Ticked | Connected | Disconnected | Sent | Stopped


@dataclass(frozen=True, slots=True)
class Connect:
    """Make a call to the collector."""


@dataclass(frozen=True, slots=True)
class SendHello:
    """Say who we are."""


@dataclass(frozen=True, slots=True)
class SendPing:
    """Ask for the collector's time."""

    sequence: int


@dataclass(frozen=True, slots=True)
class SendOpen:
    """Open a stream. It begins at ``at_least``, or where the spool's bytes begin if later."""

    number: int
    stream: str
    at_least: int
    clock_offset_ns: int
    clock_error_ns: int


@dataclass(frozen=True, slots=True)
class Part:
    """A range of a stream that goes into a batch."""

    number: int
    stream: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SendBatch:
    """Read these ranges and send them; ``Shortened`` or ``Lacked`` for what could not be read."""

    parts: list[Part]


@dataclass(frozen=True, slots=True)
class SendEnd:
    """Send the stream's end, with its digest."""

    number: int
    stream: str
    end: End


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Say that nothing more comes."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Drop the call; nothing of it counts. ``Disconnected`` is not answered to this."""


@dataclass(frozen=True, slots=True)
class Trim:
    """Bytes before ``offset`` are the collector's: the spool may forget them."""

    stream: str
    offset: int


@dataclass(frozen=True, slots=True)
class Retire:
    """The collector has the whole stream: the folder may go."""

    stream: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The collector never takes this stream: it goes to ``refused/``."""

    stream: str
    reason: str


@dataclass(frozen=True, slots=True)
class Look:
    """Look through the whole spool now, and answer with ``Looked``."""


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the operator. ``level`` is a name of ``logging``."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Leave:
    """End the agent with this exit status; ``text`` says why if it is not plain."""

    exit_status: int
    text: str = ""


Action = (
    Connect | SendHello | SendPing | SendOpen | SendBatch | SendEnd | HalfClose | Disconnect
    | Trim | Retire | Refuse | Look | Report | Leave
)  # fmt: skip
