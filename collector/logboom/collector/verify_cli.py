"""``logboom verify``: prove that a run is whole, from the tree alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from logboom.collector.config import VerifySettings
from logboom.collector.local import LocalStorage
from logboom.collector.verify import Verdict, verify_run
from logboom.format.errors import LogboomError
from logboom.format.ids import check_name
from logboom.settings import Parser, load

_WORDS = {
    Verdict.COMPLETE: "complete",
    Verdict.INCOMPLETE: "incomplete",
    Verdict.CORRUPT: "corrupt",
}


def parser() -> Parser:
    """Return the command line."""
    words = Parser(
        "logboom verify",
        "Prove that a run is whole, from the tree alone.",
        "exit status: 0 complete, 3 incomplete, 4 corrupt, 1 no such run, 2 usage",
    )
    words.add_argument("run", metavar="RUN", help="the run's id")
    help_data = VerifySettings.model_fields["data"].description
    words.add_argument("--data", metavar="DIR", help=f"{help_data}; also LOGBOOM_DATA")
    return words


def main(argv: Sequence[str] | None = None) -> int:
    """Verify a run, print what was found, and return the exit status."""
    try:
        flags = vars(parser().parse_args(argv))
        run_id = check_name("run id", flags.pop("run"))
        return int(verify(run_id, load(VerifySettings, flags).data))
    except LogboomError as error:
        print(f"logboom: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"logboom: the tree cannot be read: {error}", file=sys.stderr)
        return 1


def verify(run_id: str, data: Path) -> Verdict:
    """Print a line for each stream in trouble and one for the run; return the worst verdict."""
    if not data.is_dir():
        raise LogboomError(f"there is no data folder {data}", "name the one that a collector has")
    counts = dict.fromkeys(Verdict, 0)
    total = 0
    with LocalStorage(data, is_writable=False) as storage:
        for finding in verify_run(storage, run_id):
            counts[finding.verdict] += 1
            total += finding.length
            if finding.verdict is not Verdict.COMPLETE:
                print(f"{_WORDS[finding.verdict]}: {finding.path}: {finding.says}")
    worst = max((verdict for verdict in Verdict if counts[verdict]), default=Verdict.COMPLETE)
    whole, others = counts[Verdict.COMPLETE], sum(counts.values()) - counts[Verdict.COMPLETE]
    above = f", {_count(others, 'finding')} above" if others else ""
    streams = _count(whole, "stream")
    print(f"{_WORDS[worst]}: run {run_id}: {streams} complete{above}; {total:,} bytes")
    return worst


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


if __name__ == "__main__":
    sys.exit(main())
