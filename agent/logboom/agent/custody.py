"""Custody: what an agent changes in a stream's folder, and nobody else.

Law
    * A segment goes when all of it is acknowledged and a later one exists; the newest never. The
      hash of its block is on disk before.
    * Whoever takes a dead writer's lock cuts a broken last span record, never a data byte, and
      writes the end.
    * A stream that is delivered is renamed into ``gone/`` first, then removed; one that the
      collector never takes is renamed into ``refused/``. A rename is the whole decision: killed
      before it nothing happened, killed after it the rest is only tidying.
    * Whatever was removed meanwhile, by another agent perhaps, is no error.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import shutil
import time
from itertools import pairwise

from logboom.agent.spool import Place, Rights, Stream
from logboom.format.spans import RECORD_BYTES, decode_record
from logboom.format.spool import (
    ACKED,
    BLOCK_BYTES,
    END_JSON,
    GONE,
    HASH,
    REFUSED,
    RUNS,
    SEGMENT,
    SPANS,
    STREAM_LOCK,
    block_start,
    offset_name,
)
from logboom.format.stream import End, Why, encode_end
from logboom.wire.digest import block_hash, stream_digest

_log = logging.getLogger("logboom.agent")


def write_whole(
    folder_fd: int, name: str, content: bytes, rights: Rights, is_durable: bool = True
) -> None:
    """Write a small file: it is there with all of its content, or as it was before."""
    passing = f"{name}.{os.getpid()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(passing, flags, rights.file_mode, dir_fd=folder_fd)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, rights.file_mode)
            file.write(content)
            file.flush()
            if is_durable:
                os.fsync(fd)
    except BaseException:
        os.unlink(passing, dir_fd=folder_fd)
        raise
    os.rename(passing, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


def hash_of_block(stream: Stream, start: int, length: int) -> bytes | None:
    """Return the hash of the block at ``start`` of a stream of ``length`` bytes; None if unknown.

    From its hash file if there is one, else from the bytes; a hole counts as zeros.
    """
    try:
        return bytes.fromhex(stream.content(offset_name(start, HASH)).decode())
    except (FileNotFoundError, ValueError):
        pass
    end = min(start + BLOCK_BYTES, length)
    if start < stream.lowest or not stream.starts:
        return None
    inside = [s for s in stream.starts if start <= s < end]
    if inside == [start] and stream.segment_end(start) >= end:
        fd = os.open(offset_name(start, SEGMENT), os.O_RDONLY | os.O_NOFOLLOW, dir_fd=stream.fd)
        try:
            with mmap.mmap(fd, end - start, prot=mmap.PROT_READ) as mapped:
                return block_hash(memoryview(mapped))
        finally:
            os.close(fd)
    block = bytearray(end - start)
    at = start
    while at < end:
        content = stream.read(at, end - at, length, is_ended=True)
        block[at - start : content.end - start] = content.raw
        lacking = stream.lacks(content.end)
        at = content.end if lacking is None else lacking[1]
        if lacking is None and not content.raw:
            break
    return block_hash(bytes(block))


def digest_of(place: Place, length: int) -> bytes:
    """Return the stream's digest, or nothing where blocks went without leaving their hash."""
    with Stream(place) as stream:
        stream.refresh()
        hashes = [hash_of_block(stream, start, length) for start in range(0, length, BLOCK_BYTES)]
    known = [found for found in hashes if found is not None]
    return stream_digest(known) if len(known) == len(hashes) else b""


def trim(place: Place, offset: int, rights: Rights) -> None:
    """Forget what is acknowledged up to ``offset``, by the law."""
    try:
        with Stream(place) as stream:
            stream.refresh()
            for start, following in pairwise(stream.starts):
                if following > offset:
                    break
                _keep_hash(stream, start, following, rights)
                for suffix in (SEGMENT, SPANS):
                    _remove(stream, offset_name(start, suffix))
    except FileNotFoundError:
        pass


def _remove(stream: Stream, name: str) -> None:
    try:
        os.unlink(name, dir_fd=stream.fd)
    except FileNotFoundError:
        pass  # another agent was first, or a full disk made it something else


def _keep_hash(stream: Stream, start: int, following: int, rights: Rights) -> None:
    if block_start(following) != following or block_start(start) != start:
        return  # a writer whose folder vanished began anew within a block: its hash is unknown
    found = hash_of_block(stream, start, following)
    if found is None:
        return
    name, content = offset_name(start, HASH), found.hex().encode() + b"\n"
    try:
        write_whole(stream.fd, name, content, rights)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _become(stream, offset_name(start, SPANS), name, content)


def _become(stream: Stream, name: str, wanted: str, content: bytes) -> None:
    """Turn a file that is about to go into another one: on a full disk there is no other room."""
    fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=stream.fd)
    try:
        os.pwrite(fd, content, 0)
        os.ftruncate(fd, len(content))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(name, wanted, src_dir_fd=stream.fd, dst_dir_fd=stream.fd)


def leave_hint(stream: Stream, offset: int, rights: Rights) -> None:
    """Note in the folder how far the collector has the stream."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(ACKED, flags, rights.file_mode, dir_fd=stream.fd)
        try:
            if os.fstat(fd).st_size == 0:
                os.fchmod(fd, rights.file_mode)
            os.pwrite(fd, b"%020d\n" % offset, 0)
        finally:
            os.close(fd)
    except OSError:
        pass  # it is a hint: the folder may be gone, or the disk full


def bury(stream: Stream, rights: Rights) -> End | None:
    """Write the end of a stream whose writers are dead; None while they live.

    The end that the writers left, if they did, is returned as it is.
    """
    fd = os.open(STREAM_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, dir_fd=stream.fd)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        found = stream.end()
        if found is None:
            stream.refresh()
            _cut_broken_span(stream)
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            found = End(stream.length(), now_ns, Why.RECORDER_GONE)
            try:
                # Not synced: after a power cut the lock is free again, and it is written again.
                write_whole(stream.fd, END_JSON, encode_end(found), rights, is_durable=False)
            except FileNotFoundError:
                raise
            except OSError as error:
                # A full disk gets room by shipping, so it ends all the same.
                _log.warning("%s has no end.json yet: %s", stream.place.path, error)
        return found
    finally:
        os.close(fd)


def _cut_broken_span(stream: Stream) -> None:
    if not stream.starts:
        return
    name = offset_name(stream.starts[-1], SPANS)
    try:
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=stream.fd)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(fd).st_size
        whole = size - size % RECORD_BYTES
        if whole and decode_record(os.pread(fd, RECORD_BYTES, whole - RECORD_BYTES)) is None:
            whole -= RECORD_BYTES
        if whole != size:
            os.ftruncate(fd, whole)
    finally:
        os.close(fd)


def retire(place: Place, rights: Rights) -> None:
    """Remove a stream that the collector has whole."""
    gone = os.path.join(place.spool, GONE)
    _make_folder(gone, rights)
    target = os.path.join(gone, place.name)
    if _rename(place, target):
        shutil.rmtree(target, ignore_errors=True)


def refuse(place: Place, rights: Rights) -> None:
    """Move a stream that the collector never takes out of the way."""
    for folder in (REFUSED, os.path.join(REFUSED, place.run_id)):
        _make_folder(os.path.join(place.spool, folder), rights)
    _rename(place, os.path.join(place.spool, REFUSED, place.run_id, place.name))


def _rename(place: Place, target: str) -> bool:
    try:
        os.rename(place.path, target)
    except FileNotFoundError:
        return False
    try:
        os.rmdir(os.path.join(place.spool, RUNS, place.run_id))
    except OSError:
        pass  # not empty: others of its run are there
    return True


def sweep(spool: str, rights: Rights) -> None:
    """Have ``gone/`` before the disk is full, and remove what a killed agent left there."""
    gone = os.path.join(spool, GONE)
    try:
        _make_folder(gone, rights)
    except OSError:
        return  # a full disk already: it is made when something goes there
    for name in os.listdir(gone):
        shutil.rmtree(os.path.join(gone, name), ignore_errors=True)


def _make_folder(path: str, rights: Rights) -> None:
    try:
        os.mkdir(path, rights.folder_mode)
        os.chmod(path, rights.folder_mode)
    except FileExistsError:
        pass
