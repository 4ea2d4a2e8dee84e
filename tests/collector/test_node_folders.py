"""Node folders: which nodes count, when they appear, what is in them. And their names."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from collector.agentlike import made_id, stream
from collector.crashstorage import CrashStorage
from collector.journallines import event, launcher, placed, process
from collector.wholerun import derived, finish, opened, sent

from logboom.collector.derive import Derivation
from logboom.collector.local import LocalStorage
from logboom.format.journal import Line
from logboom.format.stream import Kind
from logboom.format.tree import link_target, node_folder

A, B = "10.0.0.5/", "10.0.0.6/"


def laid(lines: list[Line]) -> tuple[dict[str, list[bytes]], dict[str, str]]:
    """Return the files and the links that follow."""
    derivation = Derivation()
    files: dict[str, list[bytes]] = {}
    links: dict[str, str] = {}
    for line in lines:
        for path, content in derivation.handle(line):
            files.setdefault(path, []).append(content)
        links |= {link.path: link.target for link in derivation.take_links()}
    return files, links


def in_folders(lines: list[Line]) -> list[str]:
    files, links = laid(lines)
    return sorted(p for p in (*files, *links) if "10.0.0." in p)


@pytest.mark.parametrize(
    ("ip", "folder"),
    [
        ("10.0.0.5", "10.0.0.5/"),
        ("fe80:0:0::5", "fe80--5/"),
        ("fe80::5%../../etc", "fe80--5/"),
        ("::ffff:10.0.0.5", "10.0.0.5/"),
        ("", ""),
        ("../x", ""),
        ("10.0.0.5/..", ""),
    ],
)
def test_an_address_becomes_a_folder_and_nothing_else_does(ip: str, folder: str) -> None:
    assert node_folder(ip) == folder


def test_a_link_leads_up_as_often_as_it_lies_deep() -> None:
    assert link_target("azureml-logs/a.txt", 1) == "../../azureml-logs/a.txt"
    assert (
        link_target("logs/azureml/sidecar/n/x.txt", 1)
        == "../../../../../logs/azureml/sidecar/n/x.txt"
    )


def test_one_node_has_no_folder() -> None:
    events, lines = process(0)
    _, more = process(1)
    assert in_folders([*lines, *more, event(events, "started", pid=1)]) == []


def test_with_the_second_node_all_of_the_first_is_there_too() -> None:
    one, first = process(0)
    other, second = process(1, node="node-b")
    lines = [*first, event(one, "started", pid=5)]
    assert in_folders(lines) == []
    lines += [*second, event(other, "started", pid=6), event(one, "exited", 1, code=0)]
    files, links = laid(lines)
    assert links == {
        A + "azureml-logs/70_driver_log_0.txt": "../../azureml-logs/70_driver_log_0.txt",
        A + "logs/azureml/0_5_azureml.log": "../../../logs/azureml/0_5_azureml.log",
        B + "azureml-logs/70_driver_log_1.txt": "../../azureml-logs/70_driver_log_1.txt",
        B + "logs/azureml/1_6_azureml.log": "../../../logs/azureml/1_6_azureml.log",
    }
    for name in ("azureml-logs/process_info.json", "azureml-logs/process_status.json"):
        for folder, worker in ((A, b'"worker_0"'), (B, b'"worker_1"')):
            assert files[folder + name] == [line for line in files[name] if worker in line]


def test_whether_the_second_node_is_heard_of_early_or_late_its_folders_are_the_same() -> None:
    one, first = process(0)
    other, second = process(1, node="node-b")
    told = [event(one, "started", pid=5), event(other, "started", pid=6)]
    early, links = laid([*first, *second, *told])
    late, later_links = laid([*first, told[0], *second, told[1]])
    assert links == later_links
    for path in filter(lambda path: path.startswith((A, B)), early.keys() | late.keys()):
        assert early[path] == late[path]


def test_the_host_of_mpirun_alone_and_an_agent_alone_do_not_count() -> None:
    _, _, mpirun = launcher(node="node-b")
    execution = stream(Kind.EXECUTION, rank=None, process="", id=made_id(55))
    lines = [*mpirun, placed(execution, path="azureml-logs/55_x.txt", node="node-b")]
    _, first = process(0)
    assert in_folders([*lines, *first]) == []
    third = process(1, node="node-c")[1]
    found = in_folders([*lines, *first, *third])
    assert found
    assert not [path for path in found if path.startswith(B)]


@pytest.mark.parametrize("kind", [Kind.JOB_PREP, Kind.JOB_POST, Kind.START_CMS, Kind.PREP_CMD])
def test_preparation_release_and_sidecar_count(kind: Kind) -> None:
    _, lines = process(0)
    other = stream(kind, rank=None, process="", id=made_id(kind))
    found = in_folders([*lines, placed(other, path="logs/x.txt", node="node-b")])
    assert B + "logs/x.txt" in found
    assert A + "azureml-logs/70_driver_log_0.txt" in found


def test_what_is_one_a_run_is_in_no_nodes_folder() -> None:
    _, lines = process(0)
    _, more = process(1, node="node-b")
    build = stream(Kind.IMAGE_BUILD, rank=None, process="", id=made_id("build"))
    _, _, mpirun = launcher()
    pipe = stream(Kind.PIPE, rank=None, process="", id=made_id("pipe"), name="dmon")
    others = [placed(build, path="azureml-logs/20_x.txt"), placed(pipe, path="logs/dmon.txt")]
    found = in_folders([*lines, *more, *mpirun, *others])
    assert A + "logs/dmon.txt" in found
    assert not [path for path in found if "20_" in path or "mpi" in path or "execution" in path]


def test_each_attempt_counts_by_itself() -> None:
    _, lines = process(0)
    _, again = process(0, attempt=1, node="node-b")
    assert in_folders([*lines, *again]) == []
    _, more = process(1, attempt=1)
    found = in_folders([*lines, *again, *more])
    assert found
    assert all(path.startswith("retry_001/10.0.0.") for path in found)


def test_two_nodes_of_one_address_share_the_folder() -> None:
    one, lines = process(0)
    other, more = process(1, node="node-b")
    for line in more:
        line["node_ip"] = "10.0.0.5"
    over = {"what": "attempt_ended", "attempt": 0, "state": "Failed", "reason": "", "unix_ns": 0}
    told = [event(one, "started", pid=5), event(other, "started", pid=6), over]
    files, links = laid([*lines, *more, *told])
    assert {path[: len(A)] for path in links} == {A}
    status = [json.loads(x)["process_name"] for x in files[A + "azureml-logs/process_status.json"]]
    assert status == ["worker_0", "worker_1", "*"]


def test_a_node_that_counts_after_the_attempts_end_has_its_line_first() -> None:
    _, lines = process(0)
    over = {"what": "attempt_ended", "attempt": 0, "state": "Failed", "reason": "", "unix_ns": 0}
    late, more = process(1, node="node-b")
    files, _ = laid([*lines, over, *more, event(late, "started", pid=6)])
    for folder, names in ((A, ["*"]), (B, ["*", "worker_1"])):
        found = files[folder + "azureml-logs/process_status.json"]
        assert [json.loads(line)["process_name"] for line in found] == names


def test_a_thousand_nodes_are_laid_out_in_a_time_that_only_a_hang_exceeds() -> None:
    lines: list[Line] = []
    for rank in range(1000):
        events, begun = process(rank, node=f"n{rank}", size=1000)
        for line in begun:
            line["node_ip"] = f"10.1.{rank // 250}.{rank % 250}"
        lines += [*begun, event(events, "started", pid=5), event(events, "exited", 1, code=0)]
    start = time.monotonic()
    files, links = laid(lines)
    took = time.monotonic() - start
    print(f"1,000 nodes: {took:.2f} s")
    assert len(links) == 2000
    assert len([path for path in files if path.startswith("10.1.")]) == 2000
    assert took < 20


def test_the_tree_of_two_nodes_is_that_of_layout() -> None:
    storage = CrashStorage()
    finish(*opened(storage), sent())
    found = {path.removeprefix("runs/r/") for path in (*derived(storage), *storage.links())}
    per_run = {"latest"}
    per_attempt = set()
    for rank, ip in enumerate(("10.0.0.4/", "fe80--5/")):
        control = f"logs/azureml/{rank}_{183 + rank}_azureml.log"
        per_attempt |= {control, ip + control, f"{ip}azureml-logs/70_driver_log_{rank}.txt"}
        for name in ("process_info.json", "process_status.json"):
            per_attempt |= {"azureml-logs/" + name, f"{ip}azureml-logs/{name}"}
    per_attempt.add("logs/azureml/executionlogs.txt")
    assert found == per_run | {a + path for a in ("", "retry_001/") for path in per_attempt}


def test_a_link_is_made_in_place_of_a_file_that_somebody_put_there(tmp_path: Path) -> None:
    (tmp_path / "link").write_text("a file")
    with LocalStorage(tmp_path) as storage:
        storage.link("link", "target")
    assert os.readlink(tmp_path / "link") == "target"
