"""``logboom-exec``: run a command and record what it writes.

Law
    * Whatever fails before the command was started costs one line, and the command runs as if we
      were not there. That holds for our own imports too (a module of the job's that has the name
      of one of Python's, a Python without ctypes), so all but two stand where they can fail.
"""

from __future__ import annotations

import os
import sys

_FAILURES = (Exception, SystemExit)  # the last one is what a module may do when it is imported


def main(argv: list[str] | None = None) -> int:
    """Run ``logboom-exec``. Returns only for words of ours; else it ends as the command ended."""
    given = sys.argv[1:] if argv is None else argv
    _leave_interrupts()
    try:
        from logboom.format.errors import UsageError
        from logboom.shim import settings
    except _FAILURES as error:
        _say("cannot record: %r; the command runs unrecorded" % error)
        return _run_plainly(_guess_command(given))
    try:
        words = settings.split_words(given)
    except UsageError as error:
        _say(str(error))
        return error.exit_status
    if words.wants_help:
        print(settings.HELP)
        return 0
    if os.environ.get(settings.DISABLE, "0") in ("", "0"):
        try:
            from logboom.shim.recording import record

            record(words)
        except _FAILURES as error:
            _say("%s; the command runs unrecorded" % _text(error))
    return _run_plainly(words.command)


def _leave_interrupts() -> None:
    """Before anything slow, have an interrupt end us as it would end the command, silently."""
    try:
        import signal

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except _FAILURES:
        pass


def _run_plainly(command: list[str]) -> int:
    if not command:
        return 2  # only guessed: else that is an error of usage
    try:
        from logboom.shim import execution

        execution.restore_signals()
        env = execution.inherited_environment()
        failure = execution.execute(command, env)
        execution.complain(2, command, failure)
        return execution.exit_status_of(failure)
    except _FAILURES:
        pass  # then with nothing of ours at all
    try:
        os.execvp(command[0], command)
    except (OSError, ValueError) as error:
        _say("%s: %s" % (command[0], error))
        return 127 if isinstance(error, FileNotFoundError) else 126


def _guess_command(words: list[str]) -> list[str]:
    """Return the command where nothing is there to tell our flags, of which most take a value."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        if words[at] == "--":
            return words[at + 1 :]
        has_value = "=" not in words[at] and words[at] not in ("--tee", "--no-tee")
        at += 2 if has_value else 1
    return words[at:]


def _text(error: BaseException) -> str:
    from logboom.format.errors import LogboomError

    if isinstance(error, LogboomError):
        return str(error)
    return "cannot record: %s" % (error if isinstance(error, OSError) else repr(error))


def _say(text: str) -> None:
    line = "logboom: %s\n" % text.replace("\n", " ")
    try:
        os.write(2, line.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # a closed or full stderr must not become the job's trouble


if __name__ == "__main__":
    sys.exit(main())
