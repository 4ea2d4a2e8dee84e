"""``logboom verify``: prove that a run is whole, from the tree alone."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from logboom.collector.config import is_injected
from logboom.collector.local import LocalStorage
from logboom.collector.verify import Verdict, verify_run
from logboom.format.errors import LogboomError, UsageError

_WORDS = {
    Verdict.COMPLETE: "complete",
    Verdict.INCOMPLETE: "incomplete",
    Verdict.CORRUPT: "corrupt",
}


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    words = argparse.ArgumentParser(
        prog="logboom verify",
        description=__doc__,
        epilog="exit status: 0 complete, 3 incomplete, 4 corrupt, 1 no such run, 2 usage",
    )
    words.add_argument("run", metavar="RUN", help="the run's id")
    words.add_argument("--data", metavar="DIR", type=Path, help="the data folder, or a copy of it")
    return words


def main(argv: Sequence[str] | None = None) -> int:
    """Verify a run, print what was found, and return the exit status."""
    found = parser().parse_args(argv)
    try:
        return int(verify(found.run, found.data))
    except LogboomError as error:
        print(f"logboom: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"logboom: the tree cannot be read: {error}", file=sys.stderr)
        return 1


def verify(run_id: str, data: Path | None) -> Verdict:
    """Print a line for each stream in trouble and one for the run; return the worst verdict."""
    if data is None:
        named = os.environ.get("LOGBOOM_DATA", "")
        if not named or is_injected(named):
            raise UsageError("no data folder is named", "say --data DIR or set LOGBOOM_DATA")
        data = Path(named)
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
    parts = [f"{counts[v]} {_WORDS[v]}" for v in Verdict if counts[v]] or ["no streams"]
    print(f"{_WORDS[worst]}: run {run_id}: {', '.join(parts)}; {total} bytes")
    return worst


if __name__ == "__main__":
    sys.exit(main())
