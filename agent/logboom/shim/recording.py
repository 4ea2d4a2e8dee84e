"""Recording: who a process is, where its record goes, and all that takes, from words to shim."""

from __future__ import annotations

import os
import time
from typing import Mapping, NoReturn

from logboom.format.ids import check_name, make_run_id
from logboom.format.stream import Kind, StreamAttributes, check_attributes
from logboom.shim.descriptors import fill_standard
from logboom.shim.execution import inherited_environment
from logboom.shim.folder import Folder
from logboom.shim.names import Names, make_names, printable
from logboom.shim.place import open_spool
from logboom.shim.recorder import boot_ns
from logboom.shim.room import Limits, full_disk
from logboom.shim.settings import (
    AGENT_FIRST_CHECK_S,
    OF_ONE_PROCESS,
    SEE_HELP,
    Settings,
    Words,
    is_address,
    make_settings,
)
from logboom.shim.shim import Shim, make_equipment, pipe_size
from logboom.shim.starter import Starter
from logboom.shim.trouble import Trouble, say


def record(words: Words) -> NoReturn:
    """Run the command recorded, and end as it ended; or raise, with nothing started."""
    given = inherited_environment()
    is_there = fill_standard()  # before anything of ours is opened
    if words.trouble:
        raise Trouble(words.trouble, SEE_HELP)
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
    try:
        equipment = make_equipment(spool, *folders, limits, size, is_there)
        starter = Starter(spool, _collector(settings), given)
        env = _environment(given, names, driver.process, spool.path)
        # A node's first rank starts the agent; the others look when it has had time to.
        is_first = names.local_rank in (None, 0)
        shim = Shim(equipment, words.command, env, starter)
        shim.run(0.0 if is_first else AGENT_FIRST_CHECK_S)
    except BaseException:
        for folder in folders:
            folder.unmake()
        raise


def _collector(settings: Settings) -> str:
    if settings.collector and not is_address(settings.collector):
        say("collector %r is not HOST:PORT; nothing is shipped for now" % settings.collector[:80])
        return ""
    return settings.collector


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
        host=printable(os.uname().nodename),
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
