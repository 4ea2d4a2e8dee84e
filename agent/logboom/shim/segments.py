"""Segments: a stream's bytes and spans, appended by its one writer.

Law
    * A span is written before its bytes. A writer's first act is a span: it does not know whether
      its predecessor's last one tells of bytes.
    * A segment's spans file, with a span at the segment's start, is there before the segment.
    * Opening cuts a broken last span record, never a data byte.
    * A segment is not opened O_APPEND: ``splice`` would refuse it.
    * Segments begin at whole blocks. The exception is the first after somebody removed the newest
      one, or the folder: it begins where the stream is.
"""

from __future__ import annotations

import errno
import os

from logboom.format.spans import RECORD_BYTES, Source, Span, encode_span
from logboom.format.spool import BLOCK_BYTES, SEGMENT, SPANS, offset_name, parse_offset_name
from logboom.shim import kernel
from logboom.shim.folder import Folder
from logboom.shim.settings import SPAN_S

_SPAN_NS = int(SPAN_S * 1e9)


class Segments:
    """The writing end of a stream. ``length`` is the stream's, in bytes."""

    def __init__(self, folder: Folder, known_length: int) -> None:
        """``known_length``: what is known of the stream; the folder may hold more."""
        self.folder = folder
        self.length = known_length
        self._data_fd = -1
        self._spans_fd = -1
        self._spans_length = 0
        self._start = 0
        self._span: Span | None = None
        if folder.has_vanished():
            folder.make_again()  # or take the one that a predecessor made
        self._go_on()

    def prepare(self, source: Source, boot_ns: int) -> int:
        """Have room for bytes of ``source`` and their span written; return how many may come."""
        if self._data_fd < 0 or (self.length % BLOCK_BYTES == 0 and self._is_used()):
            self._begin(Span(self.length, boot_ns, source))
        elif (
            self._span is None
            or self._span.source is not source
            or boot_ns - self._span.boot_ns >= _SPAN_NS
        ):
            self._write_span(Span(self.length, boot_ns, source))
        return BLOCK_BYTES - self.length % BLOCK_BYTES

    def splice(self, pipe: int, length: int) -> int:
        """Move up to ``length`` bytes from a pipe; ``prepare`` came before. Returns how many."""
        moved = kernel.splice_to_file(pipe, self._data_fd, self.length - self._start, length)
        self.length += moved
        return moved

    def write(self, content: bytes) -> int:
        """Append bytes; ``prepare`` came before. Returns how many."""
        written = os.pwrite(self._data_fd, content, self.length - self._start)
        self.length += written
        return written

    def ends_within_line(self) -> bool:
        """Say whether the stream's last byte, if there is one, is other than a newline."""
        at = self.length - self._start - 1 if self._data_fd >= 0 else -1
        return at >= 0 and os.pread(self._data_fd, 1, at) != b"\n"

    def newest(self) -> bytes:
        """Return the content of the newest segment, none if there is none."""
        if self._data_fd < 0:
            return b""
        return os.pread(self._data_fd, self.length - self._start, 0)

    def keep_place(self) -> str:
        """Where somebody removed folder or newest segment, go on in a new one; say it, or ""."""
        if self.folder.has_vanished():
            self._close()
            self.folder.make_again()
            self._go_on()
            return "folder"
        if self._data_fd >= 0 and os.fstat(self._data_fd).st_nlink == 0:
            self._close()
            return "newest segment"
        return ""

    def _go_on(self) -> None:
        """Find the stream's end in the folder."""
        starts = self.folder.offsets(lambda name: parse_offset_name(name, SEGMENT))
        if starts:
            self._open(starts[-1], 0)
            length = starts[-1] + os.fstat(self._data_fd).st_size
            if length >= self.length:
                self.length = length
            else:
                self._close()  # it is not the newest: that one was removed

    def _is_used(self) -> bool:
        return self.length > self._start

    def _begin(self, span: Span) -> None:
        self._close()
        self._open_spans(span.offset)
        self._write_span(span)
        self._open(span.offset, os.O_CREAT | os.O_EXCL)  # bytes that are there stay

    def _open_spans(self, start: int) -> None:
        fd = self.folder.open(offset_name(start, SPANS), os.O_RDWR | os.O_CREAT)
        size = os.fstat(fd).st_size
        self._spans_length = size - size % RECORD_BYTES
        if size != self._spans_length:
            os.ftruncate(fd, self._spans_length)
        self._spans_fd = fd

    def _open(self, start: int, flags: int) -> None:
        if self._spans_fd < 0:
            self._open_spans(start)
        self._data_fd = self.folder.open(offset_name(start, SEGMENT), os.O_RDWR | flags)
        self._start = start

    def _write_span(self, span: Span) -> None:
        record = encode_span(span)
        if os.pwrite(self._spans_fd, record, self._spans_length) != RECORD_BYTES:
            # The next attempt goes over what is there: it is no record yet.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._spans_length += RECORD_BYTES
        self._span = span

    def _close(self) -> None:
        for fd in (self._data_fd, self._spans_fd):
            if fd >= 0:
                os.close(fd)
        self._data_fd = self._spans_fd = -1
        self._span = None
