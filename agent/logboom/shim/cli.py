"""``logboom-exec``: run a command and record what it writes."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Before anything slow: without us, an interrupt at this moment would end the command's
    # process by SIGINT, not with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import sys
import time
from typing import Mapping, Sequence

from logboom.format.errors import LogboomError, UsageError
from logboom.format.ids import check_name, make_run_id
from logboom.format.stream import Kind, StreamAttributes, check_attributes
from logboom.shim.descriptors import fill_standard
from logboom.shim.execution import (
    complain,
    execute,
    exit_status_of,
    inherited_environment,
    restore_signals,
)
from logboom.shim.folder import Folder
from logboom.shim.names import Names, make_names
from logboom.shim.place import open_spool
from logboom.shim.recorder import boot_ns
from logboom.shim.room import Limits, full_disk
from logboom.shim.settings import (
    AGENT_FIRST_CHECK_S,
    DISABLE,
    OF_ONE_PROCESS,
    USAGE,
    Settings,
    Words,
    make_settings,
    split_words,
)
from logboom.shim.shim import Shim, make_equipment, pipe_size
from logboom.shim.starter import Starter
from logboom.shim.trouble import Trouble, say


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``logboom-exec``. Returns only for words of ours; else it ends as the command ended."""
    try:
        words = split_words(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        say(str(error))
        return error.exit_status
    if words.wants_help:
        print(USAGE)
        return 0
    given = inherited_environment()
    if os.environ.get(DISABLE, "0") not in ("", "0"):
        return _run_plainly(words.command, given)
    try:
        _record(words, given)
    except LogboomError as error:
        say("%s; the command runs unrecorded" % error)
    except OSError as error:
        say("cannot record: %s; the command runs unrecorded" % error)
    return _run_plainly(words.command, given)


def _run_plainly(command: list[str], env: Mapping[bytes, bytes]) -> int:
    restore_signals(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    failure = execute(command, env)
    complain(2, command, failure)
    return exit_status_of(failure)


def _record(words: Words, given: Mapping[bytes, bytes]) -> None:
    """Run the command recorded; returns never, or raises with nothing started."""
    is_there = fill_standard()  # before anything of ours is opened
    if words.trouble:
        raise Trouble(words.trouble, USAGE)
    settings = make_settings(words.flags, os.environ, words.wants_tee)
    if settings.wants_tee:
        say("--tee is not there yet; what the command writes goes to the spool only")
    names = make_names(
        settings,
        os.environ,
        lambda: make_run_id(settings.name or "run", int(time.time()), os.urandom(4)),
    )
    if settings.name:
        check_name("name", settings.name)
    driver = check_attributes(_attributes(settings, names))
    events = driver._replace(id=os.urandom(16).hex(), kind=Kind.EVENTS)
    spool = open_spool(settings.spool)
    why = full_disk(spool.fd, settings.free_percent)
    if why:
        raise Trouble(why, "make room in %s" % spool.path)
    limits = Limits(settings.stream_limit_bytes, settings.spool_limit_bytes, settings.free_percent)
    size = pipe_size(_pipe_budget(), os.sysconf("SC_PAGE_SIZE"), names.local_size)
    folders = Folder(spool, driver), Folder(spool, events)
    equipment = make_equipment(spool, *folders, limits, size, is_there)
    starter = Starter(spool, settings.collector, given)
    env = _environment(given, names, driver.process, spool.path)
    # A node's first rank starts the agent; the others look when it has had time to.
    is_first = names.local_rank in (None, 0)
    Shim(equipment, words.command, env, starter).run(0.0 if is_first else AGENT_FIRST_CHECK_S)


def _attributes(settings: Settings, names: Names) -> StreamAttributes:
    return StreamAttributes(
        id=os.urandom(16).hex(),
        kind=Kind.DRIVER,
        run_id=names.run_id,
        process=os.urandom(16).hex(),
        rank=names.rank,
        world_size=names.world_size,
        local_rank=names.local_rank,
        name=settings.name,
        launch_mark=names.launch_mark,
        attempt=settings.attempt,
        host=os.uname().nodename,
        boot_id=_read_line("/proc/sys/kernel/random/boot_id"),
        started_boot_ns=boot_ns(),
        started_unix_ns=time.time_ns(),
    )


def _environment(
    given: Mapping[bytes, bytes], names: Names, process: str, spool: str
) -> dict[bytes, bytes]:
    env = {key: value for key, value in given.items() if os.fsdecode(key) not in OF_ONE_PROCESS}
    ours = {
        "LOGBOOM_RUN_ID": names.run_id,
        "LOGBOOM_PROCESS_ID": process,
        "LOGBOOM_PROCESS_RANK": names.rank,
        "LOGBOOM_PROCESS_WORLD_SIZE": names.world_size,
        "LOGBOOM_PROCESS_LOCAL_RANK": names.local_rank,
        "LOGBOOM_PROCESS_SPOOL": spool,
    }
    for name, value in ours.items():
        env.pop(name.encode(), None)
        if value is not None:
            env[name.encode()] = os.fsencode(str(value))
    return env


def _pipe_budget() -> int:
    if os.geteuid() == 0:
        return 0  # root has none
    text = _read_line("/proc/sys/fs/pipe-user-pages-soft")
    return int(text) if text.isdigit() else 16384


def _read_line(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.readline().strip()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
