"""The command ``logboom``: a table of names to modules, each imported only when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple, Sequence


class Command(NamedTuple):
    """Where a command's ``main(argv) -> exit status`` is, the extra it needs, and what it does."""

    module: str
    extra: str
    does: str


COMMANDS = {
    "exec": Command("logboom.shim.cli", "", "run a command and keep all it writes"),
    "spool": Command("logboom.agent.spool_cli", "", "list or read what is on this node, unsent"),
    "agent": Command("logboom.agent.cli", "agent", "ship this node's spool to a collector"),
    "collector": Command("logboom.collector.cli", "collector", "receive streams, keep the tree"),
    "verify": Command("logboom.collector.verify_cli", "collector", "prove that a run is whole"),
    "end": Command("logboom.agent.end_cli", "agent", "close a run by hand"),
    "demo": Command("logboom.demo.cli", "all", "a small MPI job, from mpirun to the tree"),
}
_NEEDED_BY_EXTRAS = (3, 11)


def _usage() -> str:
    rows = ["  %-10s %s" % (name, command.does) for name, command in COMMANDS.items()]
    return "usage: logboom COMMAND ...\n\n%s\n\n`logboom COMMAND --help` says more." % "\n".join(
        rows
    )


def _missing(name: str, command: Command, what: str) -> int:
    print(
        "logboom: %s needs %s; install it: pip install 'logboom[%s]'" % (name, what, command.extra),
        file=sys.stderr,
    )
    return 1


def own_version() -> str:
    """Return this distribution's version."""
    try:
        from importlib.metadata import version

        return version("logboom")
    except Exception:  # not installed, as in a checkout on PYTHONPATH
        return "unknown"


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``logboom COMMAND ARGS`` and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    if words[0] == "--version":
        print("logboom " + own_version())
        return 0
    name, rest = words[0], words[1:]
    command = COMMANDS.get(name)
    if command is None:
        print("logboom: there is no command %r\n\n%s" % (name, _usage()), file=sys.stderr)
        return 2
    if command.extra and sys.version_info < _NEEDED_BY_EXTRAS:
        return _missing(name, command, "Python 3.11 and the extra '%s'" % command.extra)
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        if not command.extra or (error.name or "").partition(".")[0] == "logboom":
            raise
        return _missing(name, command, "the module %r" % error.name)
    status: int = module.main(rest)
    return status


if __name__ == "__main__":
    sys.exit(main())
