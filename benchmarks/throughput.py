"""How fast bytes go from eight ranks to synced files, beside a pipe of zstd on the same bytes.

Each round measures, one after another, on the same machine in the same minute:

    peer     cat LINES | zstd -1 | zstd -d > FILE, then fsync: what compressing, moving and
             writing these bytes costs with no promise about any of them
    ours     eight ranks under logboom-exec, an agent, a collector; until the collector has
             every stream's end on disk
    job      the same ranks, until the last has ended: under logboom-exec, and with `> file`
    paced    a rank that computes and logs 1,000 lines a second: the same pair

The figures to quote are the ratios and their medians; the machine is shared and noisy.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc

from logboom.wire.v1 import logboom_pb2 as pb
from logboom.wire.v1 import logboom_pb2_grpc as rpc

RANKS = 8
MIB = 1 << 20
WRITER = """
import os, sys
content = open(sys.argv[1], "rb").read()
for at in range(0, len(content), 8192):
    os.write(1, content[at : at + 8192])
"""
PACED = """
import sys, time
start, spent = time.monotonic(), 0.0
for step in range(int(sys.argv[1])):
    total = sum(i * i for i in range(2000))
    line = "step %6d loss %.6f lr 0.0003 grad_norm %.3f\\n"
    sys.stdout.write(line % (step, 1 / (step + 1), total))
    if step % 10 == 9:
        sys.stdout.flush()
"""
LOGBOOM = [sys.executable, "-m", "logboom.command"]
EXEC = [sys.executable, "-m", "logboom.shim.cli"]


def training_lines(rank: int, length: int) -> bytes:
    """Return ``length`` bytes of lines as a training job logs them, seeded by the rank."""
    choose = random.Random(rank)
    lines: list[str] = []
    size = step = 0
    while size < length:
        step += 1
        line = (
            f"[2026-11-24 08:{step // 60 % 60:02d}:{step % 60:02d},{choose.randrange(1000):03d}] "
            f"[rank{rank}] INFO trainer.py:{choose.choice((88, 141, 203))} step {step} "
            f"loss {choose.random():.6f} lr {3e-4 * choose.random():.3e} "
            f"grad_norm {choose.random() * 3:.4f} tokens/s {choose.randrange(9000, 11000)} "
            f"mem {choose.randrange(60, 79)}.{choose.randrange(100):02d}GiB\n"
        )
        lines.append(line)
        size += len(line)
    return "".join(lines).encode()[:length]


def peer(inputs: list[Path], folder: Path) -> float:
    """Return the seconds that the pipe of zstd takes for all inputs."""
    target = folder / "peer"
    command = f"cat {' '.join(map(str, inputs))} | zstd -q -1 | zstd -q -d > {target}"
    start = time.monotonic()
    subprocess.run(["sh", "-c", command], check=True)
    with target.open("rb") as written:
        os.fsync(written.fileno())
    took = time.monotonic() - start
    target.unlink()
    return took


def plain(words: list[list[str]], folder: Path) -> float:
    """Return the seconds of these commands at once, each with its output in a file."""
    start = time.monotonic()
    running = []
    for number, command in enumerate(words):
        with (folder / f"plain-{number}").open("wb") as output:
            running.append(subprocess.Popen(command, stdout=output))
    for process in running:
        assert process.wait() == 0
    return time.monotonic() - start


def ours(words: list[list[str]], folder: Path) -> tuple[float, float]:
    """Return the seconds until the commands ended, and until all is on the collector's disk."""
    data, spool = folder / "data", folder / "spool"
    run_id = "bench"
    spool.mkdir()
    with (folder / "collector.log").open("wb") as log:
        collector = subprocess.Popen(
            [*LOGBOOM, "collector", "--data", str(data), "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert collector.stdout is not None
    address = collector.stdout.readline().decode().removeprefix("listening on ").strip()
    with (folder / "agent.log").open("wb") as log:
        agent = subprocess.Popen(
            [*LOGBOOM, "agent", "--spool", str(spool), "--collector", address], stderr=log
        )
    time.sleep(1.5)
    try:
        start = time.monotonic()
        running = []
        for rank, command in enumerate(words):
            names = ["--run-id", run_id, "--rank", str(rank), "--world-size", str(len(words))]
            running.append(subprocess.Popen([*EXEC, *names, "--spool", str(spool), "--", *command]))
        for process in running:
            assert process.wait() == 0
        job = time.monotonic() - start
        with grpc.insecure_channel(address) as channel:
            stub = rpc.CollectorStub(channel)  # type: ignore[no-untyped-call]
            while True:
                try:
                    run = stub.GetRun(pb.GetRunRequest(run_id=run_id))
                except grpc.RpcError:
                    run = pb.Run()
                if len(run.streams) == 2 * len(words) and all(s.ended for s in run.streams):
                    break
                assert time.monotonic() - start < 300, "the collector has not got all"
                time.sleep(0.01)
        arrived = time.monotonic() - start
    finally:
        for program in (agent, collector):
            program.send_signal(signal.SIGKILL)
            program.wait()
    subprocess.run([*LOGBOOM, "verify", run_id, "--data", str(data)], check=True, stdout=2)
    return job, arrived


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=64, help="MiB a rank (default 64)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where to write (default: a temporary folder)")
    arguments = parser.parse_args()
    if shutil.which("zstd") is None:
        sys.exit("the peer is missing; install the system package zstd")
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="logboom-bench-") as name:
        folder = Path(name)
        inputs = []
        for rank in range(RANKS):
            inputs.append(folder / f"input-{rank}")
            inputs[-1].write_bytes(training_lines(rank, arguments.mib * MIB))
        flood = [[sys.executable, "-c", WRITER, str(path)] for path in inputs]
        paced = [[sys.executable, "-c", PACED, "15000"]] * 2
        total_mb = RANKS * arguments.mib * MIB / 1e6
        for number in range(arguments.rounds):
            here = folder / f"round-{number}"
            for part in ("plain", "ours", "paced"):
                (here / part).mkdir(parents=True)
            peer_s = peer(inputs, here)
            plain_s = plain(flood, here / "plain")
            job_s, arrived_s = ours(flood, here / "ours")
            paced_plain_s = plain(paced, here / "plain")
            paced_s, _ = ours(paced, here / "paced")
            rows.append(
                {
                    "peer, MB/s": total_mb / peer_s,
                    "ours, MB/s": total_mb / arrived_s,
                    "ours / peer": peer_s / arrived_s,
                    "job flooding: with us / > file": job_s / plain_s,
                    "job computing: with us / > file": paced_s / paced_plain_s,
                }
            )
            shutil.rmtree(here)
    print(f"{RANKS} ranks, {arguments.mib} MiB each, {arguments.rounds} rounds")
    print(f"{'':<34}{'min':>9}{'median':>9}{'max':>9}")
    for name in rows[0]:
        found = sorted(row[name] for row in rows)
        print(f"{name:<34}{found[0]:>9.2f}{statistics.median(found):>9.2f}{found[-1]:>9.2f}")


if __name__ == "__main__":
    main()
