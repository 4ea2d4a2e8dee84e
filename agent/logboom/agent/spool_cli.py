"""``logboom spool ls`` and ``cat``: what is on this node, readable without a collector."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any, Iterable, NamedTuple, NoReturn, Sequence

from logboom.agent.spool import (
    Place,
    SpoolError,
    Stream,
    default_place,
    find_streams,
    is_spool,
    open_stream,
)
from logboom.format.errors import LogboomError, UsageError
from logboom.format.spans import Source, Span, decode_spans, split_sources
from logboom.format.spool import REFUSED, RUNS
from logboom.format.stream import Kind, StreamAttributes, Why

_STEP_BYTES = 1 << 20
_SOURCES = {"stdout": Source.STDOUT, "stderr": Source.STDERR}
_HEADS = ("RUN", "KIND", "RANK", "ON DISK", "ACKED", "UNSENT", "STATE", "AGE", "STREAM")
_NUMBERS = (2, 3, 4, 5, 7)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "see %s --help" % self.prog)


class Row(NamedTuple):
    """One stream, as ``ls`` shows it. Sizes in bytes, times in seconds."""

    attributes: StreamAttributes
    stored_bytes: int
    acked: int
    unsent_bytes: int
    state: str
    age_s: float


def main(argv: Sequence[str] | None = None) -> int:
    """List a spool or write a stream's bytes to stdout; return the exit status."""
    try:
        arguments = _parser().parse_args(argv)
        path = os.path.abspath(arguments.dir or default_place())
        _check(path)
        status: int = arguments.does(path, arguments)
        sys.stdout.flush()
        return status
    except LogboomError as error:
        print("logboom: %s" % error, file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # The reader has seen enough; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except PermissionError as error:
        print("logboom: %s cannot be read: permission denied" % error.filename, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="logboom spool", description="What is on this node.")
    commands = parser.add_subparsers(dest="command", metavar="ls|cat")
    commands.required = True
    place = "the spool (default: where the recorders of this user put it)"
    ls = commands.add_parser("ls", help="list the streams", description="List the streams.")
    ls.add_argument("dir", metavar="DIR", nargs="?", default="", help=place)
    ls.set_defaults(does=_ls)
    cat = commands.add_parser(
        "cat",
        help="write a stream's bytes to stdout",
        description="Write a stream's bytes to stdout, exactly as they were written.",
    )
    cat.add_argument("dir", metavar="DIR", nargs="?", default="", help=place)
    cat.add_argument("--run-id", metavar="R", help="only streams of this run")
    cat.add_argument("--rank", metavar="N", type=int, help="only streams of this rank")
    cat.add_argument("--kind", metavar="K", choices=[kind.value for kind in Kind])
    cat.add_argument("--stream", metavar="ID", help="the stream's id, or how it begins")
    cat.add_argument("--source", choices=["stdout", "stderr", "all"], default="all")
    cat.set_defaults(does=_cat)
    return parser


def _check(path: str) -> None:
    if not os.path.isdir(path):
        what = "is not a folder" if os.path.lexists(path) else "does not exist"
        raise SpoolError("%s %s" % (path, what), "name the folder that --spool named")
    if not is_spool(path):
        raise SpoolError("%s is not a spool" % path, "a spool has a folder %s" % RUNS)


def _ls(path: str, arguments: Any) -> int:
    rows = []
    for place in _places(path):
        row = _row(place)
        if row is not None:
            rows.append(row)
    if not rows:
        print("the spool %s is empty: all that was written here is with a collector" % path)
        return 0
    rows.sort(key=lambda row: (row.attributes.run_id, row.attributes.kind.value, _rank_key(row)))
    _print_table([_cells(row) for row in rows])
    return 0


def _rank_key(row: Row) -> tuple[int, int]:
    rank = row.attributes.rank
    return -1 if rank is None else rank, row.attributes.started_unix_ns


def _places(path: str) -> Iterable[Place]:
    for under in (RUNS, REFUSED):
        yield from find_streams(path, under)


def _open(place: Place) -> tuple[Stream, StreamAttributes] | None:
    try:
        return open_stream(place)
    except LogboomError as error:
        print("logboom: %s is passed over: %s" % (place.path, error), file=sys.stderr)
        return None


def _row(place: Place) -> Row | None:
    opened = _open(place)
    if opened is None:
        return None
    stream, attributes = opened
    with stream:
        try:
            length, acked = stream.length(), stream.acked()
            unsent = length - min(length, max(acked, stream.lowest))
            age_s = time.time() - attributes.started_unix_ns / 1e9
            return Row(
                attributes, stream.stored_bytes(), acked, unsent, _state(stream, place), age_s
            )
        except FileNotFoundError:
            return None  # the agent has just delivered it


def _state(stream: Stream, place: Place) -> str:
    if place.under == REFUSED:
        return "refused"
    try:
        end = stream.end()
    except LogboomError:
        return "end unreadable"
    if end is not None:
        return "ended" if end.why is Why.EOF else end.why.value
    return "living" if stream.is_living() else Why.RECORDER_GONE.value


def _cells(row: Row) -> list[str]:
    attributes = row.attributes
    return [
        attributes.run_id,
        attributes.kind.value,
        "-" if attributes.rank is None else str(attributes.rank),
        f"{row.stored_bytes:,}",
        f"{row.acked:,}",
        f"{row.unsent_bytes:,}",
        row.state,
        _age(row.age_s),
        attributes.id,
    ]


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return "%d %s" % (seconds // size, unit)
    return "%d s" % max(0, seconds)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    table = [list(_HEADS)] + [list(row) for row in rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADS))]
    for row in table:
        cells = [
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        print("  ".join(cells).rstrip())


def _cat(path: str, arguments: Any) -> int:
    found = []
    for place in _places(path):
        opened = _open(place)
        if opened is None:
            continue
        if _matches(opened[1], arguments):
            found.append(opened)
        else:
            opened[0].close()
    if not found:
        raise SpoolError("no stream in %s matches" % path, "see what is there: logboom spool ls")
    drivers = [each for each in found if each[1].kind is Kind.DRIVER]
    if len(found) > 1 and len(drivers) == 1 and not arguments.kind and not arguments.stream:
        found = drivers  # of a process's streams, its words are meant
    if len(found) > 1:
        names = ["  %s  (run %s)" % (s.place.name, a.run_id) for s, a in found]
        raise UsageError(
            "%d streams in %s match" % (len(found), path),
            "name one with --run-id, --rank, --kind or --stream:\n" + "\n".join(names),
        )
    stream = found[0][0]
    with stream:
        if stream.lowest:
            print(
                "logboom: the first %d bytes are with the collector and not here any more"
                % stream.lowest,
                file=sys.stderr,
            )
        _write(stream, _SOURCES.get(arguments.source))
    return 0


def _matches(attributes: StreamAttributes, arguments: Any) -> bool:
    return (
        (arguments.run_id is None or attributes.run_id == arguments.run_id)
        and (arguments.rank is None or attributes.rank == arguments.rank)
        and (arguments.kind is None or attributes.kind.value == arguments.kind)
        and (arguments.stream is None or attributes.id.startswith(arguments.stream))
    )


def _write(stream: Stream, wanted: Source | None) -> None:
    """Write the bytes of one source (None: of all), in order, as of now."""
    out = sys.stdout.buffer
    offset, length = stream.lowest, stream.length()
    source = Source.STDOUT
    while offset < length:
        content = stream.read(offset, _STEP_BYTES, length, is_ended=True)
        if not content.raw:
            lacking = stream.lacks(offset)
            if lacking is None:
                break
            print("logboom: bytes %d to %d were lost" % lacking, file=sys.stderr)
            offset = lacking[1]
            continue
        if wanted is None:
            out.write(content.raw)
        else:
            spans = decode_spans(content.spans)[0]
            moved = [Span(0, 0, source)]  # who wrote the byte before
            moved += [span._replace(offset=span.offset - offset) for span in spans]
            for start, end, found in split_sources(moved, len(content.raw)):
                if found is wanted:
                    out.write(content.raw[start:end])
            source = spans[-1].source if spans else source
        offset = content.end
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
