"""A rank of the tests: writes the oracle's payload to both streams in turn and times its writes.

``rank_writer.py SEED LENGTH [SECONDS]``: LENGTH bytes to each of stdout and stderr, in blocks of
seeded sizes, spread over SECONDS where given. The longest write() of all is left in the folder
$LONGEST_DIR (where set), one file a rank: the oracle reads the tree, the test reads that.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from logboom.format.spans import Source
from oracle import payload


def rank_of_this_process() -> int:
    """Return the rank that the launcher gave, or 0."""
    for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "TEST_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def write_all(fd: int, content: memoryview) -> float:
    """Write ``content`` and return the longest time one write() took, in seconds."""
    longest = 0.0
    while len(content):
        start = time.monotonic()
        written = os.write(fd, content)
        longest = max(longest, time.monotonic() - start)
        content = content[written:]
    return longest


def main() -> None:
    """Write what the oracle says this rank writes."""
    seed, length = int(sys.argv[1]), int(sys.argv[2])
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    rank = rank_of_this_process()
    left = {
        1: memoryview(payload(seed, rank, Source.STDOUT, length)),
        2: memoryview(payload(seed, rank, Source.STDERR, length)),
    }
    choose = random.Random(f"sizes/{seed}/{rank}")
    longest, start, done = 0.0, time.monotonic(), 0
    while any(len(rest) for rest in left.values()):
        for fd, rest in left.items():
            size = choose.choice((1, 7, 100, 4096, 65536, 65537, 300_000))
            longest = max(longest, write_all(fd, rest[:size]))
            left[fd] = rest[size:]
            done += min(size, len(rest))
        if seconds:
            ahead = seconds * done / (2 * length) - (time.monotonic() - start)
            if ahead > 0:
                time.sleep(ahead)
    if folder := os.environ.get("LONGEST_DIR"):
        (Path(folder) / f"rank-{rank}").write_text(f"{longest:.6f}\n")


if __name__ == "__main__":
    main()
