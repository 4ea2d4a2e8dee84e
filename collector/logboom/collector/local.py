"""Storage in a folder of this machine.

Law
    * No link is ever followed: every path is opened part by part, relative to the folder before.
    * A bounded number of descriptors is held. One that is closed before its file was synced
      could take a write error with it: then the next sync is a ``syncfs``, which reports the
      errors of the whole file system since the last (Linux 5.8 and up).
    * Up to 32 files are synced one by one, more by one ``syncfs``: 10,000 files cost 1.5 s one by
      one and 0.1 s together, but ``syncfs`` also waits for what others have written.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from logboom.collector.storage import LinkInTheWay

ONE_BY_ONE = 32
_SYNC_THREADS = 4  # a journaling file system joins syncs that wait for it at once
_libc = ctypes.CDLL(None, use_errno=True)


class _Held:
    """A descriptor, and who uses it now."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.users = 0
        self.is_dirty = False


class LocalStorage:
    """``Storage`` below the folder ``root``. ``is_writable`` False never changes anything."""

    def __init__(self, root: Path, descriptor_limit: int = 1024, is_writable: bool = True) -> None:
        self.root = root
        self._limit = descriptor_limit
        self._is_writable = is_writable
        self._root_descriptor = -1
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._changes = 0
        self._new_in: dict[str, int] = {}  # folder: the change that made its newest name
        self._closed_dirty = 0  # the last change after which a dirty descriptor was closed
        self._failures = 0
        self._lock = threading.Lock()
        self._syncfs_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_SYNC_THREADS, "sync")
        self._has_syncfs = _kernel() >= (5, 8) and hasattr(_libc, "syncfs")

    def __enter__(self) -> LocalStorage:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._root_descriptor = os.open(self.root, flags)
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()
        with self._lock:
            for held in self._held.values():
                os.close(held.descriptor)
            self._held.clear()
        os.close(self._root_descriptor)

    def length(self, path: str) -> int | None:
        try:
            with self._open(path, create=False) as held:
                return os.fstat(held.descriptor).st_size
        except FileNotFoundError:
            return None

    def read(self, path: str, start: int, size: int) -> bytes:
        with self._open(path, create=False) as held:
            content = os.pread(held.descriptor, size, start)
            while content and len(content) < size:
                more = os.pread(held.descriptor, size - len(content), start + len(content))
                if not more:
                    break
                content += more
            return content

    def write(self, path: str, offset: int, content: bytes | memoryview) -> None:
        with self._open(path, create=True) as held:
            held.is_dirty = True
            written = os.pwrite(held.descriptor, content, offset)
            while written < len(content):
                rest = memoryview(content)[written:]
                written += os.pwrite(held.descriptor, rest, offset + written)

    def set_length(self, path: str, length: int) -> None:
        with self._open(path, create=True) as held:
            held.is_dirty = True
            os.ftruncate(held.descriptor, length)

    def sync(self, paths: Collection[str]) -> None:
        with self._lock:
            folders, closed_dirty, failures = dict(self._new_in), self._closed_dirty, self._failures
        if self._has_syncfs and (closed_dirty or len(paths) + len(folders) > ONE_BY_ONE):
            self._sync_all(failures)
        else:
            self._sync_each(paths, folders)
        with self._lock:  # what changed meanwhile stays for the next
            for folder, change in folders.items():
                if self._new_in.get(folder) == change:
                    del self._new_in[folder]
            if self._closed_dirty == closed_dirty:
                self._closed_dirty = 0

    def replace(self, path: str, content: bytes) -> None:
        folder_path, _, name = path.rpartition("/")
        temporary = ".%s.new" % name
        with self._folder(folder_path, create=True) as folder:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(temporary, flags, 0o666, dir_fd=folder)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            with self._lock:  # a held descriptor would go on showing the file that was
                held = self._held.pop(path, None)
            if held is not None and not held.users:
                os.close(held.descriptor)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        self.sync(())

    def link(self, path: str, target: str) -> None:
        folder_path, _, name = path.rpartition("/")
        with self._folder(folder_path, create=True) as folder:
            try:
                if os.readlink(name, dir_fd=folder) == target:
                    return
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: a file lies there, in our place
                    raise
            temporary = ".%s.new" % name
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            os.symlink(target, temporary, dir_fd=folder)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        self._has_new_name(folder_path)

    def names(self, folder: str) -> list[str]:
        try:
            with self._folder(folder, create=False) as descriptor:
                return sorted(os.listdir(descriptor))
        except FileNotFoundError:
            return []

    @contextmanager
    def _open(self, path: str, create: bool) -> Iterator[_Held]:
        with self._lock:
            held = self._held.get(path)
            if held is not None:
                self._held.move_to_end(path)
                held.users += 1
        if held is None:
            held = self._hold(path, create)
        try:
            yield held
        finally:
            with self._lock:
                held.users -= 1
                if not held.users and self._held.get(path) is not held:
                    os.close(held.descriptor)

    def _hold(self, path: str, create: bool) -> _Held:
        opened = _Held(self._open_file(path, create))
        with self._lock:
            held = self._held.setdefault(path, opened)
            held.users += 1
            if held is not opened:
                os.close(opened.descriptor)
            if len(self._held) > self._limit:
                self._let_go()
            return held

    def _let_go(self) -> None:
        """Close the descriptors that were not used for longest, down to nine tenths."""
        for path in [p for p, held in self._held.items() if not held.users]:
            if len(self._held) <= self._limit * 9 // 10:
                return
            held = self._held.pop(path)
            if held.is_dirty:
                self._changes += 1
                self._closed_dirty = self._changes
            os.close(held.descriptor)

    def _open_file(self, path: str, create: bool) -> int:
        folder_path, _, name = path.rpartition("/")
        flags = os.O_RDWR if self._is_writable else os.O_RDONLY
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with self._folder(folder_path, create) as folder:
            try:
                descriptor = os.open(name, flags, dir_fd=folder)
            except FileNotFoundError:
                if not create:
                    raise
                descriptor = os.open(name, flags | os.O_CREAT, 0o666, dir_fd=folder)
                self._has_new_name(folder_path)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                    raise self._in_the_way(path) from error
                raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._in_the_way(path)
        return descriptor

    @contextmanager
    def _folder(self, path: str, create: bool) -> Iterator[int]:
        """Open a folder part by part, following no link."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
        folder = os.dup(self._root_descriptor)
        try:
            above = ""
            for part in path.split("/") if path else ():
                try:
                    inner = os.open(part, flags, dir_fd=folder)
                except FileNotFoundError:
                    if not create:
                        raise
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=folder)
                    self._has_new_name(above)
                    inner = os.open(part, flags, dir_fd=folder)
                except OSError as error:
                    if error.errno in (errno.ELOOP, errno.ENOTDIR):
                        raise self._in_the_way(path) from error
                    raise
                os.close(folder)
                folder = inner
                above = above + "/" + part if above else part
            yield folder
        finally:
            os.close(folder)

    def _has_new_name(self, folder: str) -> None:
        with self._lock:
            self._changes += 1
            self._new_in[folder] = self._changes

    def _in_the_way(self, path: str) -> LinkInTheWay:
        return LinkInTheWay(
            f"{self.root}/{path} leads through a link, or something else that is no plain file",
            "remove what is there",
        )

    def _sync_each(self, paths: Collection[str], folders: Collection[str]) -> None:
        if len(paths) > 2:
            for done in [self._pool.submit(self._sync_file, path) for path in paths]:
                done.result()
        else:
            for path in paths:
                self._sync_file(path)
        for path in folders:
            with (  # a folder that is gone, or is none any more, has no names to keep
                suppress(FileNotFoundError, LinkInTheWay),
                self._folder(path, create=False) as folder,
            ):
                os.fsync(folder)

    def _sync_file(self, path: str) -> None:
        try:
            with self._open(path, create=False) as held:
                held.is_dirty = False
                try:
                    os.fdatasync(held.descriptor)
                except OSError:
                    held.is_dirty = True
                    raise
        except FileNotFoundError:
            pass

    def _sync_all(self, failures: int) -> None:
        """Sync the file system. An error is reported once a descriptor: tell it to all who wait."""
        with self._syncfs_lock:
            with self._lock:
                dirty = [held for held in self._held.values() if held.is_dirty]
                for held in dirty:
                    held.is_dirty = False
            status = _libc.syncfs(self._root_descriptor)
            number = ctypes.get_errno() if status else errno.EIO
            with self._lock:
                self._failures += status != 0
                if self._failures == failures:
                    return
                for held in dirty:
                    held.is_dirty = True
        raise OSError(number, os.strerror(number), str(self.root))


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)
