"""The outside oracle: what a rank must have written, and whether the tree holds just that.

The payload is a pure function of (seed, rank, source, offset): whoever has those can say what
any byte must be, without having seen it written. The checker reads the tree only: data files and
the spans beside them. It imports the span format, nothing else of ours.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

from logboom.format.spans import RECORD_BYTES, Source, Span, What, decode_record, split_sources
from logboom.format.tree import spans_path

# Bytes that break tools: every value, NUL, lone \r, \v, U+2028, broken UTF-8 and UTF-8 cut short.
_HOSTILE = [
    bytes(range(256)),
    b"\x00" * 7,
    b"progress 1%\rprogress 2%\r",
    b"\x0b\x0c\x1c\x85",
    "line\u2028separator\u2029".encode(),
    b"\xff\xfe\xc0\x80\xed\xa0\x80",
    "ü€𝄞"[0:1].encode()[:1],
    "𝄞".encode()[:3],
    b"\n",
    b"\r\n",
    b"a plain line of a training log, step 17 loss 0.4321\n",
]
_CHUNK = 64 * 1024


def payload(seed: int, rank: int, source: Source, length: int) -> bytes:
    """Return the first ``length`` bytes that this rank writes to this source.

    Hostile bytes in seeded order; one stretch of 10 MB without a newline (where there is room);
    the last byte is no newline.
    """
    out = bytearray()
    chunk = 0
    while len(out) < length:
        out += _chunk(seed, rank, source, chunk)
        chunk += 1
    del out[length:]
    long_start, long_end = length // 4, length // 4 + 10_000_000
    if long_end < length:
        out[long_start:long_end] = out[long_start:long_end].replace(b"\n", b"N")
    if out and out[-1:] == b"\n":
        out[-1:] = b"."
    return bytes(out)


def _chunk(seed: int, rank: int, source: Source, number: int) -> bytes:
    choose = random.Random(f"{seed}/{rank}/{int(source)}/{number}")
    out = bytearray()
    while len(out) < _CHUNK:
        kind = choose.randrange(len(_HOSTILE) + 2)
        if kind < len(_HOSTILE):
            out += _HOSTILE[kind]
        elif kind == len(_HOSTILE):
            out += choose.randbytes(choose.randrange(1, 400))
        else:
            out += b"%s %d step %d\n" % (source.name.encode(), rank, choose.randrange(10**9))
    return bytes(out[:_CHUNK])


@dataclass(frozen=True)
class Found:
    """What the tree holds of one process: its bytes by source, and the whole file's length."""

    stdout: bytes
    stderr: bytes
    lost: bytes
    length: int


def read_spans(run: Path, path: str) -> list[Span]:
    """Return the spans of the stream at ``path`` in the run's folder, in order."""
    content = (run / spans_path(path)).read_bytes()
    spans = []
    for at in range(0, len(content) - RECORD_BYTES + 1, RECORD_BYTES):
        record = decode_record(content, at)
        if record is not None and record[0] is What.SPAN:
            spans.append(Span(record[2], record[3], Source(record[1])))
    return spans


def take_apart(run: Path, path: str) -> Found:
    """Read a driver log and split it by its spans."""
    content = (run / path).read_bytes()
    parts: dict[Source, bytearray] = {source: bytearray() for source in Source}
    for start, end, source in split_sources(read_spans(run, path), len(content)):
        parts[source] += content[start:end]
    return Found(
        bytes(parts[Source.STDOUT]),
        bytes(parts[Source.STDERR]),
        bytes(parts[Source.LOST]),
        len(content),
    )


def sha256(content: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def differences(found: bytes, expected: bytes) -> str:
    """Say in one line how ``found`` differs from ``expected``, or "" where it does not."""
    if found == expected:
        return ""
    limit = min(len(found), len(expected))
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if found[:middle] == expected[:middle]:
            low = middle
        else:
            high = middle - 1
    return (
        f"found {len(found)} bytes, expected {len(expected)}; first difference at {low}: "
        f"{found[low : low + 24]!r} for {expected[low : low + 24]!r}"
    )
