"""How times and texts stand in the lines of derived files. Pure.

Times are nanoseconds of unix time; one that a form cannot hold is written at the nearest end.
"""

from __future__ import annotations

import datetime

_LAST_SECOND = 253402300799  # of the year 9999


def _split(unix_ns: int) -> tuple[datetime.datetime, int]:
    second, ns = divmod(min(max(unix_ns, 0), _LAST_SECOND * 10**9 + 999_999_999), 10**9)
    return datetime.datetime.fromtimestamp(second, datetime.UTC), ns


def timestamp(unix_ns: int) -> str:
    """Return a time as RFC 3339, UTC, nine digits (``2026-11-23T08:31:07.764428389Z``)."""
    moment, ns = _split(unix_ns)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + ".%09dZ" % ns


def iso_milliseconds(unix_ns: int) -> str:
    """Return a time as in the overall logs (``2026-11-23T08:31:07.764Z``)."""
    moment, ns = _split(unix_ns)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + ".%03dZ" % (ns // 10**6)


def asctime(unix_ns: int) -> str:
    """Return a time as Python's logging writes it, in UTC (``2026-11-23 08:31:07,764``)."""
    moment, ns = _split(unix_ns)
    return moment.strftime("%Y-%m-%d %H:%M:%S") + ",%03d" % (ns // 10**6)


def to_second(unix_ns: int) -> str:
    """Return a time as in executionlogs.txt (``2026-11-23 08:31:07Z``)."""
    return _split(unix_ns)[0].strftime("%Y-%m-%d %H:%M:%SZ")


def one_line(text: object, limit: int = 0) -> str:
    """Return a text, whoever wrote it, as one line: what is not printable is escaped.

    With ``limit``, more characters than that are replaced by ``...``.
    """
    found = text if isinstance(text, str) else repr(text)
    if limit and len(found) > limit:
        found = found[:limit] + "..."
    if found.isprintable():
        return found
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in found)
