"""The exceptions of logboom: whose fault it was, and what to do now.

Every error a person can meet is a ``LogboomError``. Its text is a lower-case noun phrase or
sentence that names the thing that was wrong; ``hint`` says what to do. Only the edges of a
program (a command's ``main``, a servicer) turn it into an exit status or a status code.
"""

from __future__ import annotations


class LogboomError(Exception):
    """Something failed that a person must hear of. ``exit_status`` is what a command ends with."""

    exit_status = 1

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint

    def __str__(self) -> str:
        text = super().__str__()
        return text + "; " + self.hint if self.hint else text


class UsageError(LogboomError):
    """The command's words were wrong: the user can correct them and call again."""

    exit_status = 2


class BadName(UsageError):
    """A run id, node id or name that the tree cannot hold."""


class BadFormat(LogboomError):
    """Bytes on disk or on the wire that do not follow their format."""
