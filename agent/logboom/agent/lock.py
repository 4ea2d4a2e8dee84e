"""The agent's lock: of several agents of one spool, the one that has it stays."""

from __future__ import annotations

import fcntl
import os
import time

from logboom.agent.spool import Rights, SpoolError
from logboom.format.spool import AGENT_LOCK

PATIENCE_S = 1.0  # shims probe the lock, each for microseconds: one of those is no agent
_STEP_S = 0.02


def take_lock(spool: str, rights: Rights) -> int:
    """Return the descriptor that holds the lock. Raises ``SpoolError`` naming who has it."""
    path = os.path.join(spool, AGENT_LOCK)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, rights.file_mode)
    except OSError as error:
        raise SpoolError(f"{path} cannot be opened: {error.strerror}") from error
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = _holder(os.pread(fd, 200, 0))
                os.close(fd)
                raise SpoolError(
                    f"an agent lives in spool {spool} already: {holder}",
                    "that one ships all of it; stop it to start another",
                ) from None
            time.sleep(_STEP_S)
    if os.fstat(fd).st_uid == os.geteuid():
        os.fchmod(fd, rights.file_mode)
    write_holder(fd, "", "")
    return fd


def write_holder(fd: int, node_id: str, collector: str) -> None:
    """Write into the lock's file who has it."""
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()} {node_id} {collector}\n".encode(), 0)
    except OSError:
        pass  # a full disk: the lock holds all the same


def _holder(content: bytes) -> str:
    words = content.decode(errors="replace").split()
    if not words:
        return "process unknown"
    parts = [f"process {words[0]}"]
    if len(words) > 1:
        parts.append(f"node {words[1]}")
    if len(words) > 2:
        parts.append(f"which ships to {words[2]}")
    return ", ".join(parts)
