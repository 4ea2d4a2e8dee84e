"""Settings of the shim: flag, then ``LOGBOOM_...``, then the default that stands here.

Law
    * A setting that is wrong is ``Trouble``: it never costs the job more than its recording.
    * Only words from which no command can be told are a ``UsageError``.
    * Variables that we do not know, and those that Kubernetes injects for a service named like
      us (``tcp://...``), are passed over.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple, Sequence

from logboom.format.errors import UsageError
from logboom.shim.trouble import Trouble

USAGE = (
    "usage: logboom-exec [--run-id R] [--attempt N] [--rank N] [--world-size N] [--local-rank N]"
    " [--name NAME] [--spool DIR] [--collector HOST:PORT] [--no-tee] -- CMD ARGS..."
)
SEE_HELP = "see logboom-exec --help"
HELP = (
    USAGE
    + """

Runs CMD as if it were called directly, and keeps every byte it writes to stdout and stderr.

  --run-id R          the run (LOGBOOM_RUN_ID); else the launcher's job; a single process without
                      either gets one made up. Say it to have restarts in one run
  --rank N            the place among the run's processes (LOGBOOM_RANK, LOGBOOM_WORLD_SIZE,
  --world-size N      LOGBOOM_LOCAL_RANK); else the launcher's: torchrun, Open MPI, MPICH, Slurm
  --local-rank N
  --attempt N         the attempt that this start belongs to (LOGBOOM_ATTEMPT); else found out
  --name NAME         the process's name (LOGBOOM_NAME); else worker_<rank>
  --spool DIR         where bytes go first (LOGBOOM_SPOOL); else /var/spool/logboom if writable,
                      else /var/tmp/logboom-<uid>
  --collector H:P     where an agent ships them (LOGBOOM_COLLECTOR); one is started where none lives
  --no-tee            accepted; for now nothing is copied to our own stdout and stderr

LOGBOOM_DISABLE=1 runs CMD and nothing else. Trouble of ours is one line on stderr, and CMD runs.
Exit status and signals are CMD's; 126 and 127 where it could not be run, 2 for wrong usage."""
)

# Supervision. A write of the job may wait 2 s at most: noticing (0.25 s), patience (1 s), killing
# and starting anew must stay below that together.
SUPERVISE_S = 0.25
PATIENCE_S = 1.0
REAP_S = 0.3  # a killed recorder that is not reaped by then is stuck in the kernel
DRAIN_STEP_S = 0.02  # how often the shim empties the pipes while nobody else can
RETRY_S = 1.0  # between recorders that die at once
HOPELESS_DEATHS = 3  # that many without a byte moved, and the shim empties the pipes between
TWIN_HEAD_START_S = 0.001  # sooner, a signal to the whole group is not there yet (13 of 700)
TWIN_ANSWER_S = 0.1
END_S = 2.0  # moving what is in the pipes when the command ends
END_WITH_FAULTS_S = 5.0  # the same where the recorder has to be replaced meanwhile
AGENT_CHECK_S = 10.0
AGENT_FIRST_CHECK_S = 3.0  # of ranks other than a node's first: it has started one by then

# The recorder.
TURN_S = 0.1  # a turn at least so often, so that the shim can tell waiting from being stuck
LINE_WAIT_S = 0.1  # how long one source may keep the other waiting for the end of its line
SPAN_S = 0.01  # a new span at most so often, while the source stays
REST_S = 0.002  # after a small move: a woken recorder a written line would halve the job's speed
ROOM_WAIT_S = 1.0  # how long bytes wait in the pipe for room on the disk
ROOM_CHECK_S = 0.1  # how often room on the disk is looked at, while bytes move
USE_CHECK_S = 2.0  # how often stream and spool are measured, while bytes move
USE_CHECK_BYTES = 4 * 1024 * 1024  # and not before so many bytes
LAST_WORDS_S = 600.0  # how long a recorder stays only to write what a full disk refused
NICE = 5

# Sizes.
PIPE_BYTES = 256 * 1024
STAGE_BYTES = 64 * 1024  # the default size of a pipe: what one move can take
STREAM_LIMIT_BYTES = 2 * 1024**3
SPOOL_LIMIT_BYTES = 8 * 1024**3
FREE_PERCENT = 5


class Settings(NamedTuple):
    """What the user said. None or empty: not said."""

    run_id: str = ""
    attempt: int | None = None
    rank: int | None = None
    world_size: int | None = None
    local_rank: int | None = None
    name: str = ""
    spool: str = ""
    collector: str = ""
    wants_tee: bool = False
    stream_limit_bytes: int = STREAM_LIMIT_BYTES
    spool_limit_bytes: int = SPOOL_LIMIT_BYTES
    free_percent: int = FREE_PERCENT


# setting -> (variable, is a number, has a flag)
_TABLE: dict[str, tuple[str, bool, bool]] = {
    "run_id": ("LOGBOOM_RUN_ID", False, True),
    "attempt": ("LOGBOOM_ATTEMPT", True, True),
    "rank": ("LOGBOOM_RANK", True, True),
    "world_size": ("LOGBOOM_WORLD_SIZE", True, True),
    "local_rank": ("LOGBOOM_LOCAL_RANK", True, True),
    "name": ("LOGBOOM_NAME", False, True),
    "spool": ("LOGBOOM_SPOOL", False, True),
    "collector": ("LOGBOOM_COLLECTOR", False, True),
    "stream_limit_bytes": ("LOGBOOM_STREAM_LIMIT_BYTES", True, False),
    "spool_limit_bytes": ("LOGBOOM_SPOOL_LIMIT_BYTES", True, False),
    "free_percent": ("LOGBOOM_FREE_PERCENT", True, False),
}
DISABLE = "LOGBOOM_DISABLE"
LAUNCH_MARK = "LOGBOOM_LAUNCH_MARK"
AGENT_PYTHON = "LOGBOOM_AGENT_PYTHON"
# One process's own: a torchrun below that inherited them would make every worker rank 0.
OF_ONE_PROCESS = (
    "LOGBOOM_RANK",
    "LOGBOOM_WORLD_SIZE",
    "LOGBOOM_LOCAL_RANK",
    "LOGBOOM_NAME",
    "LOGBOOM_ATTEMPT",
)
_FLAGS = {"--" + name.replace("_", "-"): name for name, row in _TABLE.items() if row[2]}


class Words(NamedTuple):
    """The command line taken apart: flags as given, and the command."""

    flags: dict[str, str]
    command: list[str]
    trouble: str
    wants_tee: bool
    wants_help: bool


def split_words(argv: Sequence[str]) -> Words:
    """Take the command line apart. Raises ``UsageError`` where no command can be told.

    A flag that we do not know is trouble, not an error, where ``--`` ends the flags: where all
    between could be a flag of ours. Any other ``--`` is one of the command's own words.
    """
    flags: dict[str, str] = {}
    trouble = ""
    wants_tee = False
    at = 0
    while at < len(argv):
        word = argv[at]
        if word == "--":
            at += 1
            break
        if trouble and not word.startswith("--"):
            raise UsageError("%s, and no -- ends our arguments" % trouble, SEE_HELP)
        if not word.startswith("-"):
            break
        if word in ("-h", "--help"):
            return Words(flags, [], "", False, True)
        flag, equals, value = word.partition("=")
        if word in ("--tee", "--no-tee"):
            wants_tee = word == "--tee"
        elif flag in _FLAGS and equals:
            flags[_FLAGS[flag]] = value
        elif flag in _FLAGS and _is_value(argv, at + 1):
            at += 1
            flags[_FLAGS[flag]] = argv[at]
        else:
            what = "needs a value" if flag in _FLAGS else "is not one we know"
            trouble = trouble or "argument %s %s" % (word, what)
            if "--" not in argv[at:]:
                raise UsageError(trouble, SEE_HELP)
            at += not equals and _is_value(argv, at + 1)
        at += 1
    command = list(argv[at:])
    if not command:
        raise UsageError("there is no command", USAGE)
    return Words(flags, command, trouble, wants_tee, False)


def _is_value(argv: Sequence[str], at: int) -> bool:
    return at < len(argv) and not argv[at].startswith("--")


def make_settings(flags: Mapping[str, str], env: Mapping[str, str], wants_tee: bool) -> Settings:
    """Return the settings of flags and environment. Raises ``Trouble`` on a wrong value."""
    values: dict[str, object] = {"wants_tee": wants_tee}
    for name, (variable, is_number, _) in _TABLE.items():
        where, text = "--" + name.replace("_", "-"), flags.get(name)
        if text is None:
            where, text = variable, env.get(variable, "")
            if not text or text.startswith("tcp://"):
                continue
        values[name] = _number(where, text) if is_number else text
    settings = Settings(**values)  # type: ignore[arg-type]
    rank, size = settings.rank, settings.world_size
    if size == 0:
        raise Trouble("a world size of 0 has no ranks", "give the number of all ranks")
    if rank is not None and size is not None and rank >= size:
        raise Trouble("rank %d is not one of %d" % (rank, size), "ranks count from 0")
    return settings


def is_address(text: str) -> bool:
    """Say whether ``text`` is HOST:PORT."""
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536


def _number(where: str, text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise Trouble("%s is %r" % (where, text[:40]), "give a whole number from 0")
    value = int(digits)
    if not where.upper().endswith("BYTES") and value >= 2**31:
        raise Trouble("%s is %d" % (where, value), "give a number below 2147483648")
    return value
