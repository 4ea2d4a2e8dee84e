"""Writes streams into a spool by the rules of the format, as a recorder would.

As a program (``spool_writer.py SPOOL SEED LENGTH [SECONDS]``) it writes one driver stream, in
pieces of seeded size, switching sources, holding the lock; payload by ``payload(seed)``.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import sys
import time
from pathlib import Path

from logboom.format.spans import Source, Span, encode_span
from logboom.format.spool import BLOCK_BYTES, END_JSON, RUNS, folder_name, offset_name
from logboom.format.stream import (
    End,
    Kind,
    StreamAttributes,
    Why,
    encode_attributes,
    encode_end,
)


def payload(seed: int, length: int) -> bytes:
    """Return the bytes of a test stream: seeded, compressible by half."""
    choose = random.Random(seed)
    unit = choose.randbytes(4096)
    out = bytearray()
    while len(out) < length:
        out += unit[: choose.randrange(1, 4096)] + b"%d\n" % len(out)
    return bytes(out[:length])


class Writer:
    """The writing end of one stream."""

    def __init__(
        self,
        spool: Path,
        run_id: str = "run",
        rank: int | None = 0,
        kind: Kind = Kind.DRIVER,
        started: int = 0,
        name: str = "",
        block: int = BLOCK_BYTES,
    ) -> None:
        self.attributes = StreamAttributes(
            id=os.urandom(16).hex(), kind=kind, run_id=run_id, process=os.urandom(16).hex(),
            rank=rank, world_size=8, started_unix_ns=started or time.time_ns(), name=name,
        )  # fmt: skip
        self.folder = spool / RUNS / run_id / folder_name(self.attributes)
        self.folder.mkdir(parents=True)
        self.lock_fd = os.open(self.folder / "stream.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        passing = self.folder / "stream.json.tmp"
        passing.write_bytes(encode_attributes(self.attributes))
        passing.rename(self.folder / "stream.json")
        self.length = 0
        self.block = block
        self._data_fd = self._spans_fd = -1
        self._source: Source | None = None

    @property
    def id(self) -> str:
        return self.attributes.id

    def write(self, content: bytes, source: Source = Source.STDOUT) -> None:
        """Append bytes, with a span where the source changes or a segment begins."""
        while content:
            if self._data_fd < 0 or self.length % self.block == 0:
                self._begin(source)
            elif source is not self._source:
                self._span(source)
            room = self.block - self.length % self.block
            taken = os.write(self._data_fd, content[:room])
            self.length += taken
            content = content[taken:]

    def _begin(self, source: Source) -> None:
        self._close_files()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._spans_fd = os.open(self.folder / offset_name(self.length, ".spans"), flags, 0o600)
        self._span(source)
        self._data_fd = os.open(self.folder / offset_name(self.length, ".seg"), flags, 0o600)

    def _span(self, source: Source) -> None:
        span = Span(self.length, time.clock_gettime_ns(time.CLOCK_BOOTTIME), source)
        os.write(self._spans_fd, encode_span(span))
        self._source = source

    def _close_files(self) -> None:
        for fd in (self._data_fd, self._spans_fd):
            if fd >= 0:
                os.close(fd)
        self._data_fd = self._spans_fd = -1

    def end(self, why: Why = Why.EOF) -> None:
        """Write the end and let go."""
        passing = self.folder / "end.tmp"
        passing.write_bytes(encode_end(End(self.length, 1, why)))
        passing.rename(self.folder / END_JSON)
        self.die()

    def die(self) -> None:
        """Let go without an end, as a killed writer would."""
        self._close_files()
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1


def main() -> None:
    """Write one stream, then say its id on stdout."""
    spool, seed, length = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    writer = Writer(spool, rank=seed)
    content = payload(seed, length)
    choose = random.Random(seed)
    pause = seconds / max(1, length // 50_000)
    while writer.length < length:
        size = choose.randrange(1, 100_000)
        writer.write(
            content[writer.length : writer.length + size],
            choose.choice((Source.STDOUT, Source.STDERR)),
        )
        time.sleep(pause)
    writer.end()
    print(json.dumps({"id": writer.id, "seed": seed, "length": length}))


if __name__ == "__main__":
    main()
