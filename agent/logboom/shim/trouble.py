"""Trouble of ours: one line on stderr, and the command runs as if we were not there."""

from __future__ import annotations

import os

from logboom.format.errors import LogboomError

STDERR = 2


class Trouble(LogboomError):
    """The command cannot be recorded. Its text is for the person who started it."""


def say(text: str) -> None:
    """Write one line of ours to stderr; whether anybody reads it is not our concern."""
    line = "logboom: %s\n" % text.replace("\n", " ")
    try:
        os.write(STDERR, line.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # a closed or full stderr must not become the job's trouble
