"""The tree of two nodes: real shims and agents, and a collector killed again and again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from processes import HANG_S, ROOT, Program, collector, environment, free_port, run, wait_until

pytestmark = pytest.mark.system
RANKS, LINES = 4, 400
NODES = (("node-a", "127.0.0.11"), ("node-b", "127.0.0.12"))
PROGRAM = """
import os, sys, time
rank = int(sys.argv[1])
for n in range(%d):
    print(f"rank {rank} line {n}", flush=True)
    if n %% 10 == 0:
        print(f"rank {rank} error {n}", file=sys.stderr, flush=True)
    time.sleep(0.01)
if rank == 3:
    os.kill(os.getpid(), 11)
""" % (LINES,)


def start_rank(rank: int, spool: Path) -> subprocess.Popen[bytes]:
    """Start one rank under the shim, as a launcher would."""
    words = [sys.executable, "-m", "logboom.shim.cli", "--run-id", "tree", "--spool", str(spool)]
    words += ["--rank", str(rank), "--world-size", str(RANKS), "--"]
    env = environment()
    return subprocess.Popen(
        [*words, sys.executable, "-c", PROGRAM, str(rank)],
        env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def has_caught_up(folder: Path) -> bool:
    """Say whether the overall logs have as many lines as the ranks wrote."""
    counts = [
        (folder / f"logs/azureml/{name}logs.txt").read_bytes().count(b"\n")
        for name in ("stdout", "stderr")
    ]
    return sum(counts) >= RANKS * (LINES + LINES // 10)


def make_tree(tmp_path: Path) -> Path:
    """Run the job, killing the collector all the while; return the run's folder, closed by hand."""
    data, kills = tmp_path / "data", 0
    with collector(data, free_port()) as server:
        agents, jobs = [], []
        try:
            for number, (node_id, node_ip) in enumerate(NODES):
                spool = tmp_path / node_id
                spool.mkdir()
                words: list[str | Path] = ["agent", "--spool", spool]
                words += ["--collector", server.env["ADDRESS"]]
                words += ["--node-id", node_id, "--node-ip", node_ip]
                agents.append(Program(words, tmp_path / f"{node_id}.log", environment()))
                agents[-1].start()
                jobs += [start_rank(rank, spool) for rank in (2 * number, 2 * number + 1)]
            deadline = time.monotonic() + HANG_S
            while any(job.poll() is None for job in jobs) and time.monotonic() < deadline:
                time.sleep(0.4)
                server.kill()
                server.start("listening on")
                kills += 1
            assert [job.wait(HANG_S) for job in jobs] == [0, 0, 0, -signal.SIGSEGV]
            assert kills >= 5, "the fault did not bite"
            verify = ("verify", "tree", "--data", data)
            wait_until("all is there", lambda: run(*verify).returncode == 0)
            wait_until("the overall logs have caught up", lambda: has_caught_up(data / "runs/tree"))
            ended = run("end", "tree", "--collector", server.env["ADDRESS"])
            assert ended.returncode == 0, ended.stderr
        finally:
            for job in jobs:
                job.kill()
                job.wait()
            for agent in agents:
                agent.kill()
        server.kill(signal.SIGTERM)
        assert "Traceback" not in server.log.read_text()
    return data / "runs/tree"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"))


def entries(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_nodes_folder_has_links_to_its_own_and_files_of_its_processes(
    tree: Path, tmp_path: Path
) -> None:
    for number, (node_id, node_ip) in enumerate(NODES):
        folder, ranks = tree / node_ip, (2 * number, 2 * number + 1)
        links = {p.relative_to(folder) for p in folder.rglob("*") if p.is_symlink()}
        for rank in ranks:
            log = Path(f"azureml-logs/70_driver_log_{rank}.txt")
            assert os.readlink(folder / log) == f"../../azureml-logs/70_driver_log_{rank}.txt"
            assert (folder / log).read_bytes() == (tree / log).read_bytes()
        for link in links:
            assert (folder / link).exists(), f"{link} leads nowhere"
        assert len(links) == 4, "two driver logs and two control logs"
        files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {
            *map(str, links)
        }
        assert files == {"azureml-logs/process_info.json", "azureml-logs/process_status.json"}
        infos = entries(folder / "azureml-logs/process_info.json")
        assert sorted(str(info["process_name"]) for info in infos) == [f"worker_{r}" for r in ranks]
        assert {(info["node_id"], info["private_ip"]) for info in infos} == {(node_id, node_ip)}
        for info in infos:
            assert (folder / str(info["log"])).exists()
        with tarfile.open(tmp_path / "node.tar", "w", dereference=True) as tar:
            tar.add(folder, node_ip)
            assert all(member.isfile() or member.isdir() for member in tar.getmembers())


def test_every_status_is_there_once_and_the_attempts_end_last(tree: Path) -> None:
    for folder, ranks in (
        (tree, range(4)), (tree / NODES[0][1], (0, 1)), (tree / NODES[1][1], (2, 3)),
    ):  # fmt: skip
        found = entries(folder / "azureml-logs/process_status.json")
        assert (found[-1]["process_name"], found[-1]["status"]) == ("*", "Terminated")
        assert len(found) == 2 * len(ranks) + 1
        for rank in ranks:
            of_rank = [e["status"] for e in found if e["process_name"] == f"worker_{rank}"]
            assert of_rank == ["Started", "Failed" if rank == 3 else "Completed"]


def test_every_process_has_its_control_log(tree: Path) -> None:
    pids = {
        i["process_name"]: i["pid_in_container"]
        for i in entries(tree / "azureml-logs/process_info.json")
    }
    for rank in range(RANKS):
        pid = pids[f"worker_{rank}"]
        lines = (tree / f"logs/azureml/{rank}_{pid}_azureml.log").read_text().splitlines()
        form = re.compile(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\|[a-z.]+\|(INFO|WARNING|ERROR)\|.+"
        )
        assert all(form.fullmatch(line) for line in lines), lines
        assert f"|INFO|[START] process {pid}: " in lines[0]
        end = (
            "ERROR|[STOP] ended by signal 11 (SIGSEGV)"
            if rank == 3
            else "INFO|[STOP] exited with code 0"
        )
        assert lines[-1].endswith(end)
        assert len(lines) == 2


def test_the_execution_log_tells_each_thing_once(tree: Path) -> None:
    lines = (tree / "logs/azureml/executionlogs.txt").read_text().splitlines()
    said = [line.partition("] ")[2] for line in lines]
    assert said[0] == "run tree began"
    assert said[-1].startswith("the run was closed by hand")
    assert sorted(s for s in said if "heard of" in s) == [
        f"node {node_id} ({node_ip}) was heard of" for node_id, node_ip in NODES
    ]
    for rank in range(RANKS):
        assert len([s for s in said if s.startswith(f"worker_{rank} started on ")]) == 1
    assert [s for s in said if "signal" in s] == [
        "worker_3 on node-b was ended by signal 11 (SIGSEGV)"
    ]
    assert len(said) == 1 + 2 + RANKS + 1 + 1


def test_the_overall_logs_have_every_line_of_every_rank_once(tree: Path) -> None:
    form = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) \[(\d)\] (.*)")
    for name, word, step in (("stdout", b"line", 1), ("stderr", b"error", 10)):
        lines = (tree / f"logs/azureml/{name}logs.txt").read_bytes().splitlines()
        found = [form.fullmatch(line) for line in lines]
        assert all(found)
        for rank in range(RANKS):
            times = [match[1] for match in found if match and match[2] == b"%d" % rank]
            of_rank = [match[3] for match in found if match and match[2] == b"%d" % rank]
            assert of_rank == [b"rank %d %s %d" % (rank, word, n) for n in range(0, LINES, step)]
            assert times == sorted(times)
        assert len(lines) == RANKS * LINES // step


def test_what_is_derived_comes_again_byte_for_byte_after_it_was_removed(
    tree: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "data/runs/tree"
    shutil.copytree(tree, copy, symlinks=True)
    before = contents(copy)
    streams = {path for path in before if "70_driver_log" in path and "127.0.0." not in path}
    for path in before.keys() - streams:
        if not path.startswith(".logboom"):
            (copy / path).unlink()
    with collector(tmp_path / "data"):
        wait_until("all of it is there again", lambda: contents(copy).keys() >= before.keys())
        wait_until("the bytes are the same", lambda: contents(copy) == before)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file's bytes and every link's target."""
    return {
        str(path.relative_to(folder)): (
            os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        )
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }
