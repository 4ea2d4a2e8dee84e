"""``logboom demo``: a small MPI job, from ``mpirun`` to the tree, on this machine alone.

It starts the programs as a user would (a collector, two agents as two nodes, a plain ``mpirun``
whose ranks run under ``logboom-exec``) and shows what is then in the tree. Every command that it
runs is printed, so that each can be tried by hand.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from logboom.format.errors import LogboomError
from logboom.format.tree import RUNS

SHIM = "logboom.shim.cli"  # what the command logboom-exec is
RANKS_A_NODE = 2
NODES = (("node-a", "127.0.0.11"), ("node-b", "127.0.0.12"))
DRAIN_S = 30.0
START_S = 30.0
STOP_S = 10.0


class DemoError(LogboomError):
    """A step of the demo did not work."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns 0 only where the tree was verified complete."""
    parser = argparse.ArgumentParser(
        prog="logboom demo", description="A small MPI job, from mpirun to the tree."
    )
    parser.add_argument(
        "--dir", type=Path, default=Path("logboom-demo"), help="where data and spools go"
    )
    folder: Path = parser.parse_args(argv).dir.absolute()
    try:
        return _demo(folder)
    except LogboomError as error:
        print(f"logboom: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"logboom: the demo cannot use {folder}: {error.strerror}", file=sys.stderr)
        return 1


def _demo(folder: Path) -> int:
    mpirun = _find_mpirun()
    run_id = f"demo_{int(time.time())}"
    data = folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        _say("a collector, which writes the tree:")
        collector = ["collector", "--data", str(data), "--listen", "127.0.0.1:0"]
        log = running.enter_context(_program(collector, folder / "collector.log"))
        address = _listening(log)
        _say("an agent a node; two addresses of this machine stand for two nodes:")
        spools = []
        for node_id, node_ip in NODES:
            spool = folder / "spool" / node_id
            spool.mkdir(parents=True, exist_ok=True)
            spools.append(spool)
            words = ["agent", "--spool", str(spool), "--collector", address]
            words += ["--node-id", node_id, "--node-ip", node_ip]
            running.enter_context(_program(words, folder / f"{node_id}.log"))
        _say(f"the job, {RANKS_A_NODE * len(NODES)} ranks, each with one word before it:")
        status = _mpirun(mpirun, run_id, spools)
        if status:
            raise DemoError(f"mpirun ended with {status}", f"its words are above; logs: {folder}")
        verified = _verify(run_id, data)
    _say("the tree:")
    _show_tree(data / RUNS / run_id)
    for rank in (0, RANKS_A_NODE * len(NODES) - 1):
        _show_head(data / RUNS / run_id / "azureml-logs" / f"70_driver_log_{rank}.txt")
    _say("is every byte there, as it was written?")
    print(f"$ logboom verify {run_id} --data {shlex.quote(str(data))}")
    print(verified.stdout, end="")
    print(f"\nThe tree stays in {data / RUNS / run_id}")
    return verified.returncode


def _find_mpirun() -> str:
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise DemoError("there is no mpirun", "install one: pip install 'logboom[all]'")
    return found


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _words(words: Sequence[str]) -> list[str]:
    print(f"$ logboom {shlex.join(words)}", flush=True)
    return [sys.executable, "-m", "logboom.command", *words]


@contextmanager
def _program(words: Sequence[str], log: Path) -> Iterator[Path]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            _words(words), stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    try:
        yield log
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listening(log: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("listening on "):
                return line.removeprefix("listening on ").strip()
        time.sleep(0.02)
    raise DemoError(f"the collector does not listen after {START_S:.0f} s", f"see {log}")


def _mpirun(mpirun: str, run_id: str, spools: Sequence[Path]) -> int:
    words = [mpirun, "--oversubscribe"]
    for spool in spools:
        if spool is not spools[0]:
            words.append(":")
        words += ["-np", str(RANKS_A_NODE), sys.executable, "-m", SHIM]
        words += ["--run-id", run_id, "--spool", str(spool), "--"]
        words += [sys.executable, "-m", "logboom.demo.train"]
    shown = shlex.join(words).replace(f"{sys.executable} -m {SHIM}", "logboom-exec")
    print(f"$ {shown}", flush=True)
    allowed = {} if os.geteuid() else dict.fromkeys(_ROOT_MAY, "1")
    return subprocess.run(
        words, check=False, env=os.environ | allowed, stdin=subprocess.DEVNULL
    ).returncode


_ROOT_MAY = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")


def _verify(run_id: str, data: Path) -> subprocess.CompletedProcess[str]:
    words = ["verify", run_id, "--data", str(data)]
    deadline = time.monotonic() + DRAIN_S
    while True:
        done = subprocess.run(
            [sys.executable, "-m", "logboom.command", *words],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode == 0 or time.monotonic() > deadline:
            return done
        time.sleep(0.3)


def _show_tree(folder: Path, indent: str = "") -> None:
    if not indent:
        print(f"{folder.name}/")
    entries = sorted(folder.iterdir(), key=lambda path: path.name)
    for path in entries:
        last = path is entries[-1]
        print(f"{indent}{'└── ' if last else '├── '}{_entry(path)}")
        if path.is_dir() and not path.is_symlink() and path.name != ".logboom":
            _show_tree(path, indent + ("    " if last else "│   "))


def _entry(path: Path) -> str:
    if path.is_symlink():
        return f"{path.name} -> {os.readlink(path)}"
    if path.is_dir():
        return f"{path.name}/" + (
            "  (ours: journal, spans, events)" if path.name == ".logboom" else ""
        )
    return f"{path.name:<40} {path.stat().st_size:>9,} bytes"


def _show_head(path: Path, lines: int = 4) -> None:
    _say(f"the head of {path.name} (of each line, what a terminal would show):")
    with path.open(errors="replace", newline="\n") as log:
        for line, _ in zip(log, range(lines), strict=False):
            print(f"  {line.rstrip().rpartition(chr(13))[2]}")


if __name__ == "__main__":
    sys.exit(main())
