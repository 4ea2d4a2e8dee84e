"""Whether the tree has what the nodes declared: read from the tree alone, and from nothing else.

Law
    * It changes nothing, and may run beside a collector, or on a copy.
    * A stream is *complete* if its end was declared and its bytes have the declared digest,
      *incomplete* if bytes are known to be missing or its end never came, *corrupt* if its
      bytes, or the spans that prove them, are not what they were.
    * A run is no more complete than what is known to belong to it: a rank of its world that
      nothing was heard of is missing, and so is what a node says it could not keep.
    * The journal is read first: what it says has ended does not change any more. What is derived
      from it may lag for a moment, and must then say what it gives.
"""

from __future__ import annotations

import enum
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

from logboom.collector.derive import Derivation
from logboom.collector.ledger import Ended, Ledger, Placed
from logboom.collector.recovery import find_mark, read_pieces
from logboom.collector.storage import Storage
from logboom.collector.stored import file_digest
from logboom.format.errors import BadFormat, LogboomError
from logboom.format.ids import check_name
from logboom.format.journal import VERSION, Line, decode_lines
from logboom.format.spans import Mark
from logboom.format.spool import BLOCK_BYTES, block_start
from logboom.format.stream import Kind
from logboom.format.tree import JOURNAL, RUNS, SPANS, STDERR_LOG, STDOUT_LOG, spans_path

_TRIES = 3  # a living stream may grow between two looks at it
_LAG_S = 0.2  # what is derived follows its journal line within a commit
_OUTPUT = frozenset([Kind.DRIVER, Kind.MPI, Kind.LAUNCHER])  # a process has one of these,
_PARTS = ((_OUTPUT, "its output"), (frozenset([Kind.EVENTS]), "what became of it"))  # and events


class Verdict(enum.IntEnum):
    """What was found; the value is the exit status."""

    COMPLETE = 0
    INCOMPLETE = 3
    CORRUPT = 4


class NoSuchRun(LogboomError):
    """There is no such run in the tree."""


@dataclass(frozen=True)
class Finding:
    """What was found of one stream, or of what stands beside the streams."""

    path: str
    verdict: Verdict
    length: int
    says: str = ""


def verify_run(storage: Storage, run_id: str) -> Iterator[Finding]:
    """Yield a finding for every stream of a run, then what is wrong beside them.

    Raises ``BadName``, ``NoSuchRun``, ``OSError``.
    """
    folder, lines, ledger = yield from _read_journal(storage, run_id)
    yield from _streams(storage, folder, lines, ledger)
    yield from _never_heard_of(ledger)
    yield from _unknown_to(ledger, storage, folder)
    yield from _derived_trouble(storage, folder, lines)


def verify_streams(storage: Storage, run_id: str) -> Iterator[Finding]:
    """Yield a finding for every stream of a run, and nothing of the run as a whole."""
    folder, lines, ledger = yield from _read_journal(storage, run_id)
    yield from _streams(storage, folder, lines, ledger)


def _read_journal(
    storage: Storage, run_id: str
) -> Generator[Finding, None, tuple[str, list[Line], Ledger]]:
    check_name("run id", run_id)
    folder = RUNS + "/" + run_id
    path = folder + "/" + JOURNAL
    length = storage.length(path)
    if length is None and not storage.names(folder):
        raise NoSuchRun(f"there is no run {run_id!r} here")
    content = storage.read(path, 0, length) if length else b""
    lines, sound = decode_lines(content)
    if not lines:
        says = "is gone, or holds nothing: what is here cannot be proven"
        yield Finding(JOURNAL, Verdict.CORRUPT, 0, says)
    elif lines[0].get("version") != VERSION:
        raise BadFormat(
            f"the journal of run {run_id} is of version {lines[0].get('version')}",
            f"this logboom reads version {VERSION}",
        )
    if b"\n" in content[sound:]:
        says = f"broken at byte {sound} of {length}; what it said after that is missing here"
        yield Finding(JOURNAL, Verdict.CORRUPT, sound, says)
    ledger = Ledger()
    for line in lines:
        ledger.handle(line)
    return folder, lines, ledger


def _streams(storage: Storage, folder: str, lines: list[Line], ledger: Ledger) -> Iterator[Finding]:
    lost = _lost_on_nodes(lines, ledger)
    for placed in ledger.streams.values():
        try:
            finding = verify_stream(storage, folder, placed)
        except LogboomError as error:
            finding = Finding(placed.path, Verdict.CORRUPT, 0, str(error))
        if placed.attributes.kind is Kind.DRIVER and lost[placed.attributes.process]:
            finding = _with_loss(finding, lost[placed.attributes.process])
        yield finding
    if lines and not ledger.streams:
        yield Finding(JOURNAL, Verdict.INCOMPLETE, 0, "knows no streams")


def _unknown_to(ledger: Ledger, storage: Storage, folder: str) -> Iterator[Finding]:
    """Yield the files with spans, and so once streams, that the journal does not name."""
    pending = [SPANS]
    while pending:
        path = pending.pop()
        try:
            names = storage.names(f"{folder}/{path}")
        except LogboomError:
            names = []  # no folder
        pending += [f"{path}/{name}" for name in names]
        of = path[len(SPANS) + 1 :]
        is_overall = of.endswith((STDOUT_LOG, STDERR_LOG))  # cursors lie there, not spans
        if of and not names and of not in ledger.by_path and not is_overall:
            yield Finding(of, Verdict.INCOMPLETE, 0, "the journal does not know this stream")


def _lost_on_nodes(lines: list[Line], ledger: Ledger) -> Counter[str]:
    """Return how many bytes each process's node said that it could not keep."""
    lost: Counter[str] = Counter()
    for line in lines:
        if line["what"] == "event" and line["event"].get("event") == "lost":
            count = line["event"].get("bytes")
            if type(count) is int:
                lost[ledger.streams[line["source"]].attributes.process] += count
    return lost


def _with_loss(finding: Finding, lost: int) -> Finding:
    says = f"{lost:,} bytes were lost on the node; markers stand in the file where they are missing"
    if finding.says:
        says = f"{finding.says}; {says}"
    return replace(finding, verdict=max(finding.verdict, Verdict.INCOMPLETE), says=says)


def _never_heard_of(ledger: Ledger) -> Iterator[Finding]:
    """Yield what must be there, for what is there says so, and is not."""
    kinds: dict[str, set[Kind]] = {}
    ranks: dict[int, set[int]] = {}
    sizes: dict[int, int] = {}
    for placed in ledger.streams.values():
        attributes = placed.attributes
        if attributes.process:
            kinds.setdefault(attributes.process, set()).add(attributes.kind)
        if attributes.kind is Kind.DRIVER and attributes.rank is not None:
            ranks.setdefault(placed.attempt, set()).add(attributes.rank)
            sizes[placed.attempt] = max(sizes.get(placed.attempt, 0), attributes.world_size)
    for process, found in kinds.items():
        is_process = any(found & part for part, _ in _PARTS)
        for part, what in _PARTS:
            if is_process and not found & part:
                yield Finding(f"process {process}", Verdict.INCOMPLETE, 0, f"{what} never came")
    for attempt, there in sorted(ranks.items()):
        missing = sorted(set(range(sizes[attempt])) - there)
        if missing:
            says = f"nothing was heard of {_ranks(missing)} of {sizes[attempt]}"
            yield Finding(f"attempt {attempt}", Verdict.INCOMPLETE, 0, says)


def _ranks(numbers: list[int]) -> str:
    """Write sorted numbers as ``rank 3`` or ``ranks 2-5, 7``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    words = [str(first) if first == last else f"{first}-{last}" for first, last in parts]
    return ("rank " if len(numbers) == 1 else "ranks ") + ", ".join(words)


def _derived_trouble(storage: Storage, folder: str, lines: list[Line]) -> Iterator[Finding]:
    """Yield the files that are not what the journal gives."""
    expected: dict[str, bytearray] = {}
    derivation = Derivation()
    for line in lines:
        for path, content in derivation.handle(line):
            expected.setdefault(path, bytearray()).extend(content)
    for path, wanted in expected.items():
        for _ in range(_TRIES):
            length = storage.length(f"{folder}/{path}")
            here = b"" if length is None else storage.read(f"{folder}/{path}", 0, len(wanted))
            if here == wanted:
                break
            time.sleep(_LAG_S)
        else:
            says = (
                "is not what the journal gives; it is written anew when a collector opens the run"
            )
            yield Finding(path, Verdict.CORRUPT, 0, says)


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
        if not ended.digest:
            says = "its node could not say its digest any more; every piece is as it arrived"
            return Finding(placed.path, Verdict.INCOMPLETE, ended.length, says)
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
    return f"bytes {start:,} to {end:,} (in 16 MiB block {block}) are not as they arrived"


def _holes(placed: Placed) -> str:
    return "; ".join(f"bytes {start} to {end}: {why}" for start, end, why in placed.lost)
