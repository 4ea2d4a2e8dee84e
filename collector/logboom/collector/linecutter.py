"""One source of one stream, cut into the lines of an overall log. Pure.

Law
    * A line is ``<UTC, ISO 8601, milliseconds>Z [<rank>] <the line's bytes>``; its time is that of
      its first byte, corrected. Of pieces that ``\\r`` divides, the last is the line.
    * A line longer than 64 KiB goes out in parts, and so does one that nobody finishes: each ends
      in `` ⏎``. Words of ours about lost bytes (source ``lost``) go where the source's go.
    * What comes out depends on the bytes, spans and ``part`` calls alone, not on how the bytes
      were divided: what was cut once is cut so again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from logboom.collector.textform import iso_milliseconds
from logboom.format.spans import Source, Span

LINE_LIMIT_BYTES = 64 << 10
PART = " ⏎".encode()


class LineCutter:
    """Takes a stream's bytes in order from ``cursor`` on; gives the lines of ``source``.

    ``at``: the stream's bytes were taken up to there; ``cursor``: the offset after the last that
    came out.
    """

    def __init__(
        self, source: Source, rank: int, unix_ns: Callable[[int], int], cursor: int = 0
    ) -> None:
        self.at = cursor
        self.cursor = cursor
        self._sources = (source, Source.LOST)
        self._rank = rank
        self._unix_ns = unix_ns
        self._open = bytearray()  # a line's bytes that did not come out yet
        self._marks: list[tuple[int, int, int]] = []  # their (index, offset, boot_ns), in ranges

    @property
    def is_within_a_line(self) -> bool:
        """Say whether there are bytes that did not come out."""
        return bool(self._open)

    def take(self, content: bytes, spans: Sequence[Span]) -> bytes:
        """Take the bytes at ``at``; ``spans`` say whose they are. Return what comes out."""
        out: list[bytes] = []
        start, end = self.at, self.at + len(content)
        begins = [max(span.offset, start) for span in spans]
        if not spans or begins[0] > start:
            stop = begins[0] if spans else end
            self._range(content[: stop - start], start, 0, Source.STDOUT, out)
        for number, span in enumerate(spans):
            begin = begins[number]
            stop = begins[number + 1] if number + 1 < len(spans) else end
            if begin < stop:
                piece = content[begin - start : stop - start]
                self._range(piece, begin, span.boot_ns, span.source, out)
        self.at = end
        return b"".join(out)

    def part(self) -> bytes:
        """Let the open line's bytes out as a part; nothing where there are none."""
        if not self._open:
            return b""
        return self._let_out(len(self._open), is_part=True)

    def _range(
        self, content: bytes, offset: int, boot_ns: int, source: Source, out: list[bytes]
    ) -> None:
        if source not in self._sources or not content:
            return
        if self._open:
            first = content.find(b"\n") + 1
            size = first or len(content)
            self._marks.append((len(self._open), offset, boot_ns))
            self._open += content[:size]
            self._let_out_long(out)
            if not first:
                return
            out.append(self._let_out(len(self._open), is_part=False))
            content, offset = content[size:], offset + size
        whole = content.rfind(b"\n") + 1
        if whole:
            lines = content[: whole - 1].split(b"\n")
            if max(map(len, lines)) > LINE_LIMIT_BYTES:
                self._long_lines(lines, offset, boot_ns, out)
            else:
                prefix = self._prefix(boot_ns)
                if b"\r" in content:
                    lines = list(map(_last_piece, lines))
                out.append(prefix + (b"\n" + prefix).join(lines) + b"\n")
                self.cursor = offset + whole
        if whole < len(content):
            self._marks.append((0, offset + whole, boot_ns))
            self._open += content[whole:]
            self._let_out_long(out)

    def _long_lines(self, lines: list[bytes], offset: int, boot_ns: int, out: list[bytes]) -> None:
        for line in lines:
            self._marks.append((0, offset, boot_ns))
            self._open += line + b"\n"
            self._let_out_long(out)
            out.append(self._let_out(len(self._open), is_part=False))
            offset += len(line) + 1

    def _let_out_long(self, out: list[bytes]) -> None:
        while len(self._open) - self._open.endswith(b"\n") > LINE_LIMIT_BYTES:
            out.append(self._let_out(LINE_LIMIT_BYTES, is_part=True))

    def _let_out(self, size: int, is_part: bool) -> bytes:
        index, offset, boot_ns = self._marks[0]
        prefix = self._prefix(boot_ns)
        line = bytes(self._open[:size])
        del self._open[:size]
        rest: list[tuple[int, int, int]] = []
        for number, (index, offset, boot_ns) in enumerate(self._marks):
            is_last = number + 1 == len(self._marks)
            stop = self._marks[number + 1][0] if not is_last else size + len(self._open)
            if index < size:
                self.cursor = offset + min(stop, size) - index
            if stop > size:
                skipped = max(size - index, 0)
                rest.append((index + skipped - size, offset + skipped, boot_ns))
        self._marks = rest
        if is_part:
            return prefix + _last_piece(line) + PART + b"\n"
        return prefix + _last_piece(line[:-1]) + b"\n"

    def _prefix(self, boot_ns: int) -> bytes:
        return b"%s [%d] " % (iso_milliseconds(self._unix_ns(boot_ns)).encode(), self._rank)


def _last_piece(line: bytes) -> bytes:
    return line.rstrip(b"\r").rpartition(b"\r")[2]
