"""Whether the tree has what the nodes declared: read from the tree alone, and from nothing else.

Law
    * It changes nothing, and may run beside a collector, or on a copy.
    * A stream is *complete* if its end was declared and its bytes have the declared digest,
      *incomplete* if bytes are known to be missing or its end never came, *corrupt* if its
      bytes, or the spans that prove them, are not what they were.
    * The journal is read first: what it says has ended does not change any more.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from logboom.collector.ledger import Ended, Ledger, Placed
from logboom.collector.recovery import find_mark, read_pieces
from logboom.collector.storage import Storage
from logboom.collector.stored import file_digest
from logboom.format.errors import LogboomError
from logboom.format.ids import check_name
from logboom.format.journal import decode_lines
from logboom.format.spans import Mark
from logboom.format.spool import BLOCK_BYTES, block_start
from logboom.format.stream import Kind
from logboom.format.tree import JOURNAL, RUNS, spans_path

_TRIES = 3  # a living stream may grow between two looks at it


class Verdict(enum.IntEnum):
    """What was found; the value is the exit status."""

    COMPLETE = 0
    INCOMPLETE = 3
    CORRUPT = 4


class NoSuchRun(LogboomError):
    """There is no such run in the tree."""


@dataclass(frozen=True)
class Finding:
    """What was found of one stream (or of the journal)."""

    path: str
    verdict: Verdict
    length: int
    says: str = ""


def verify_run(storage: Storage, run_id: str) -> Iterator[Finding]:
    """Yield a finding for every stream of a run. Raises ``BadName``, ``NoSuchRun``, ``OSError``."""
    check_name("run id", run_id)
    folder = RUNS + "/" + run_id
    path = folder + "/" + JOURNAL
    length = storage.length(path)
    if length is None:
        raise NoSuchRun(f"there is no run {run_id!r} here")
    content = storage.read(path, 0, length)
    lines, sound = decode_lines(content)
    if b"\n" in content[sound:]:
        says = f"broken at byte {sound} of {length}; what it said after that is missing here"
        yield Finding(JOURNAL, Verdict.CORRUPT, sound, says)
    ledger = Ledger()
    for line in lines:
        ledger.handle(line)
    for placed in ledger.streams.values():
        try:
            yield verify_stream(storage, folder, placed)
        except LogboomError as error:
            yield Finding(placed.path, Verdict.CORRUPT, 0, str(error))


def verify_stream(storage: Storage, folder: str, placed: Placed) -> Finding:
    """Return what was found of one stream."""
    data, spans = f"{folder}/{placed.path}", f"{folder}/{spans_path(placed.path)}"
    here = storage.length(data)
    if placed.ended is None:
        return _verify_living(storage, data, spans, placed)
    ended = placed.ended
    trouble = _file_trouble(here, ended, placed.attributes.kind)
    trouble += _piece_trouble(storage, data, spans, min(here or 0, ended.length), ended.length)
    if not placed.lost and not trouble:
        digest = file_digest(storage, data, ended.declared)
        if digest.hex() != ended.digest:
            trouble.append(
                "its digest is not the one that the node declared, and every piece is as it "
                "arrived: it was other on the node"
            )
    if trouble:
        return Finding(placed.path, Verdict.CORRUPT, here or 0, "; ".join(trouble))
    if placed.lost:
        return Finding(placed.path, Verdict.INCOMPLETE, ended.length, _holes(placed))
    return Finding(placed.path, Verdict.COMPLETE, ended.length)


def _verify_living(storage: Storage, data: str, spans: str, placed: Placed) -> Finding:
    trouble: list[str] = []
    for _ in range(_TRIES):
        here = storage.length(data) or 0
        mark = find_mark(storage, spans)
        if not storage.length(spans):
            mark = Mark(0, 0)
        trouble = []
        if mark.data_length > here:
            trouble.append(f"it has {here} bytes, and {mark.data_length} were durable")
        end = 0
        for piece in read_pieces(storage, data, spans):
            if piece.is_sound:
                end = piece.end
            elif piece.end <= mark.data_length:
                trouble.append(_wrong(piece.start, piece.end))
            else:
                break
        if end < mark.data_length <= here and not trouble:
            trouble.append(f"its spans are broken after byte {end}")
        if not trouble:
            break
    if trouble:
        return Finding(placed.path, Verdict.CORRUPT, here, "; ".join(trouble))
    says = f"not ended yet, {end} bytes durable"
    if placed.refused:
        says = f"refused: {placed.refused}; {end} bytes are here"
    if placed.lost:
        says += "; " + _holes(placed)
    return Finding(placed.path, Verdict.INCOMPLETE, end, says)


def _file_trouble(here: int | None, ended: Ended, kind: Kind) -> list[str]:
    if here is None:
        if ended.length or kind is Kind.DRIVER:
            return [f"the file is missing, {ended.length} bytes"]
        return []
    if here < ended.length:
        return [f"bytes {here} to {ended.length} are missing: the file was cut"]
    if here > ended.length:
        return [f"the file has {here - ended.length} bytes more than the {ended.length} that came"]
    return []


def _piece_trouble(storage: Storage, data: str, spans: str, here: int, length: int) -> list[str]:
    """Return which pieces are not as they arrived; ``here`` of ``length`` bytes can be read."""
    trouble = []
    end = record_end = 0
    for piece in read_pieces(storage, data, spans):
        if not piece.is_sound and piece.end <= here:
            trouble.append(_wrong(piece.start, piece.end))
        end, record_end = piece.end, piece.record_end
    if end != length:
        trouble.append(f"its spans are broken at byte {record_end}: they prove {end} of {length}")
    elif record_end != (storage.length(spans) or 0):
        trouble.append(f"its spans have more than they should after byte {record_end}")
    if len(trouble) > 4:
        trouble = [*trouble[:3], f"and {len(trouble) - 3} pieces more"]
    return trouble


def _wrong(start: int, end: int) -> str:
    block = block_start(start) // BLOCK_BYTES
    return f"bytes {start} to {end} (in 16 MiB block {block}) are not as they arrived"


def _holes(placed: Placed) -> str:
    return "; ".join(f"bytes {start} to {end}: {why}" for start, end, why in placed.lost)
