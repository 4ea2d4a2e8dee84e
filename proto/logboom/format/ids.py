"""Ids and names: the only texts from outside that become part of a path.

Law
    * A *name* (run id, node id, stream name) is ``[A-Za-z0-9][A-Za-z0-9._-]{0,127}``, does not
      end in ``.``, does not hold ``..``, and is none that Windows reserves, with or without a
      suffix (``con``, ``nul.txt``).
    * An *id* (stream, process, spool, store) is 128 random bits as 32 lower-case hex digits.
    * Nothing else becomes a path. Whoever takes a name from the network, from an environment
      or from a flag passes it through ``check_name`` first.
"""

from __future__ import annotations

import re

from logboom.format.errors import BadName

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul"]
    + ["com%d" % n for n in range(10)]
    + ["lpt%d" % n for n in range(10)]
)
NAME_RULE = (
    "it takes 1 to 128 of A-Z a-z 0-9 . _ -, beginning with a letter or digit, "
    "without '..', not ending in '.', and none that Windows reserves (con, nul, ...)"
)


def is_name(value: str) -> bool:
    """Say whether ``value`` may stand in a path of the tree."""
    return (
        _NAME.fullmatch(value) is not None
        and ".." not in value
        and not value.endswith(".")
        and value.split(".", 1)[0].lower() not in _RESERVED
    )


def check_name(what: str, value: str) -> str:
    """Return ``value``, or raise ``BadName`` saying which ``what`` (such as "run id") it was."""
    if not is_name(value):
        shown = value if len(value) <= 80 else value[:77] + "..."
        raise BadName("%s %r is not one we can store" % (what, shown), NAME_RULE)
    return value


def make_name(text: str) -> str:
    """Make a name of any text (a host name, a launcher's job id): other characters become ``-``.

    The result always passes ``check_name``; a text that is a name already comes back unchanged.
    """
    if is_name(text):
        return text
    name = re.sub(r"\.{2,}", ".", _NOT_IN_A_NAME.sub("-", text)).lstrip("._-")[:128].rstrip(".")
    if not is_name(name):
        name = ("x-" + name)[:128].rstrip(".")
    return name


def is_id(value: str) -> bool:
    """Say whether ``value`` is an id: 32 lower-case hex digits."""
    return _ID.fullmatch(value) is not None


def check_id(what: str, value: str) -> str:
    """Return ``value``, or raise ``BadName``."""
    if not is_id(value):
        raise BadName("%s %r is not an id" % (what, value[:80]), "an id is 32 hex digits, 0-9a-f")
    return value


def make_run_id(experiment: str, unix_s: int, random: bytes) -> str:
    """Make up a run id: ``<experiment>_<unix seconds>_<8 hex>`` (LAYOUT). ``random``: 4 bytes."""
    return "%s_%d_%s" % (make_name(experiment)[:100], unix_s, random[:4].hex())
