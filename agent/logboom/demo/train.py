"""A small program that looks like training: what the demo's ranks run.

Data-parallel gradient descent on a linear model, over mpi4py: every step is an allreduce. It
writes what training scripts write: a progress bar with carriage returns, a line now and then, a
warning on stderr. The ranks are uneven: the higher the rank, the slower its data.
"""

from __future__ import annotations

import random
import sys
import time
from itertools import pairwise

from mpi4py import MPI

STEPS = 300
FEATURES = 8
BATCH = 16


def main() -> None:
    """Train for a few hundred steps."""
    world = MPI.COMM_WORLD
    rank, size = world.Get_rank(), world.Get_size()
    print(f"rank {rank} of {size} on {MPI.Get_processor_name()}: {BATCH} samples a step")
    truth = [0.5 * index - 1.5 for index in range(FEATURES)]
    weights = [0.0] * FEATURES
    data = random.Random(rank)
    started = time.monotonic()
    losses: list[float] = []
    for step in range(1, STEPS + 1):
        gradient, loss = [0.0] * FEATURES, 0.0
        for _ in range(BATCH):
            sample = [data.gauss(0.0, 1.0) for _ in range(FEATURES)]
            error = sum(
                (w - t) * x for w, t, x in zip(weights, truth, sample, strict=True)
            ) + data.gauss(0.0, 0.05)
            loss += error * error / BATCH
            gradient = [g + error * x / BATCH for g, x in zip(gradient, sample, strict=True)]
        time.sleep(0.001 * rank)
        total = world.allreduce([*gradient, loss], op=_add)
        weights = [w - 0.1 * g / size for w, g in zip(weights, total, strict=False)]
        losses.append(total[-1] / size)
        done = 20 * step // STEPS
        bar = f"{'#' * done}{'.' * (20 - done)}"
        print(f"\rstep {step:3d}/{STEPS} [{bar}] loss {losses[-1]:.5f}", end="", flush=True)
        if step % 100 == 0:
            print(
                f"\nstep {step}: loss {losses[-1]:.5f}, {step / (time.monotonic() - started):.0f}/s"
            )
        if step == 150 and rank == size - 1:
            print(f"warning: rank {rank} waits for its data", file=sys.stderr, flush=True)
    assert all(late <= early * 50 for early, late in pairwise(losses)), "the loss exploded"
    print(f"rank {rank} is done: loss {losses[0]:.3f} -> {losses[-1]:.5f}")


def _add(left: list[float], right: list[float]) -> list[float]:
    return [a + b for a, b in zip(left, right, strict=True)]


if __name__ == "__main__":
    main()
