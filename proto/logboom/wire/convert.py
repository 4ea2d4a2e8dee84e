"""Between messages and the values of ``logboom.format``: attributes go out and come in checked."""

from __future__ import annotations

from logboom.format.errors import BadFormat
from logboom.format.stream import Kind, StreamAttributes, check_attributes
from logboom.wire.v1 import logboom_pb2 as pb

_SAME = (
    "id", "run_id", "process", "world_size", "pid", "name", "launch_mark", "host", "boot_id",
    "started_boot_ns", "started_unix_ns", "path",
)  # fmt: skip
_OPTIONAL = ("rank", "local_rank", "attempt")


def attributes_to_message(attributes: StreamAttributes) -> pb.Attributes:
    """Return the message of ``attributes``."""
    message = pb.Attributes(kind=attributes.kind.value)
    for name in _SAME:
        setattr(message, name, getattr(attributes, name))
    for name in _OPTIONAL:
        if getattr(attributes, name) is not None:
            setattr(message, name, getattr(attributes, name))
    return message


def attributes_from_message(message: pb.Attributes) -> StreamAttributes:
    """Return the checked attributes of a message. Raises ``BadName`` or ``BadFormat``."""
    try:
        kind = Kind(message.kind)
    except ValueError as error:
        raise BadFormat(f"stream {message.id!r} of unknown kind {message.kind!r}") from error
    fields = {name: getattr(message, name) for name in _SAME}
    fields |= {name: getattr(message, name) for name in _OPTIONAL if message.HasField(name)}
    return check_attributes(StreamAttributes(kind=kind, **fields))
