"""Control logs and executionlogs.txt: each line by its form, from journal lines alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from collector.agentlike import made_id, stream
from collector.journallines import ended, event, launcher, process

from logboom.collector.derive import Derivation
from logboom.format.journal import Line
from logboom.format.stream import Kind
from logboom.format.tree import EXECUTION_LOG

AT = "2001-09-09 01:46:40"  # unix second 10**9


def told(lines: list[Line]) -> dict[str, list[str]]:
    """Return the lines of each file."""
    derivation = Derivation()
    found: dict[str, list[str]] = {}
    for line in lines:
        for path, content in derivation.handle(line):
            assert content.endswith(b"\n")
            assert content.count(b"\n") == 1
            found.setdefault(path, []).append(content.decode()[:-1])
    return found


def sentences(lines: list[Line], folder: str = "") -> list[str]:
    """Return the sentences of executionlogs.txt, each of whose lines has the form of LAYOUT."""
    found = told(lines).get(folder + EXECUTION_LOG, [])
    form = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ\] (.+)")
    matches = [form.fullmatch(line) for line in found]
    assert all(matches), found
    return [match[1] for match in matches if match]


def test_a_control_log_is_named_by_rank_and_process_and_says_start_and_stop() -> None:
    events, lines = process(1)
    lines.append(event(events, "started", 5, pid=183, command=["python", "train.py"]))
    lines.append(event(events, "message", 6, text="no room"))
    lines.append(event(events, "lost", 7, bytes=1234567, why="spool full"))
    lines.append(event(events, "sample", 8, value=1))
    lines.append(event(events, "exited", 2_000_000_000, signal=11))
    assert told(lines)["logs/azureml/1_183_azureml.log"] == [
        f"{AT},000|logboom.process|INFO|[START] process 183: python train.py",
        f"{AT},000|logboom.recorder|WARNING|no room",
        f"{AT},000|logboom.recorder|ERROR|1,234,567 bytes lost: spool full",
        "2001-09-09 01:46:42,000|logboom.process|ERROR|[STOP] ended by signal 11 (SIGSEGV)",
    ]


@pytest.mark.parametrize("rank", [None, 0])
def test_the_control_log_of_a_world_of_one_has_no_rank(rank: int | None) -> None:
    events, lines = process(rank, size=1)
    lines += [event(events, "started", pid=110), event(events, "exited", 1, code=0)]
    assert told(lines)["logs/azureml/110_azureml.log"] == [
        f"{AT},000|logboom.process|INFO|[START] process 110",
        f"{AT},000|logboom.process|INFO|[STOP] exited with code 0",
    ]


def test_the_control_log_lies_in_its_attempt_and_a_launcher_has_none() -> None:
    events, lines = process(0, attempt=1)
    mpirun_events, _, mpirun = launcher()
    found = told(
        [*mpirun, event(mpirun_events, "started", pid=1), *lines, event(events, "started", pid=2)]
    )
    logs = [path for path in found if path.endswith("_azureml.log")]
    assert logs == ["retry_001/logs/azureml/0_2_azureml.log"]


@pytest.mark.parametrize("pid", [-1, 0, 2**31, 10**300, True, "x", None, [1]])
def test_a_hostile_process_id_does_not_become_a_path(pid: Any) -> None:
    events, lines = process(0)
    found = told([*lines, event(events, "started", pid=pid)])
    assert "logs/azureml/0_7_azureml.log" in found


def test_hostile_texts_stay_within_their_line() -> None:
    events, lines = process(0)
    for number, text in enumerate(["a\nb|c\r\x1b[2J\u2028\ud800é", 5, None, ["x"]]):
        lines.append(event(events, "message", number, text=text))
    lines.append(event(events, "lost", 9, bytes="many", why={"a": "\n"}))
    found = told(lines)["logs/azureml/0_7_azureml.log"]
    assert found[0].endswith("|a\\nb|c\\r\\x1b[2J\\u2028\\ud800é")
    assert len(found) == 5


def test_what_happens_to_a_run_is_told_in_order() -> None:
    mpirun_events, words, mpirun = launcher()
    lines: list[Line] = [{"what": "begun", "run_id": "r", "unix_ns": 10**18}, *mpirun]
    one, first = process(0)
    other, second = process(1, node="node-b")
    lines += [*first, *second]
    lines += [event(one, "started", pid=5), event(other, "started", pid=6)]
    lines += [event(one, "exited", 1, code=0), event(other, "exited", 1, code=3)]
    lines += [event(mpirun_events, "exited", 1, code=3), ended(words)]
    lines.append(
        {
            "what": "attempt_ended",
            "attempt": 0,
            "state": "Failed",
            "reason": "why",
            "unix_ns": 10**18,
        }
    )
    assert sentences(lines) == [
        "run r began",
        "node node-a (10.0.0.5) was heard of",
        "node node-b (10.0.0.6) was heard of",
        "worker_0 started on node-a as process 5",
        "worker_1 started on node-b as process 6",
        "worker_1 on node-b exited with code 3",
        "attempt 0 ended: Failed: why; 1 of 2 with 0",
    ]
    assert told(lines)[EXECUTION_LOG][0] == f"[{AT}Z] run r began"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"signal": 9}, "was ended by signal 9 (SIGKILL)"),
        ({"signal": 63}, "was ended by signal 63"),
        ({"unknown": "the shim is gone"}, "ended, nobody knows how: the shim is gone"),
        ({"code": 255}, "exited with code 255"),
    ],
)
def test_every_other_end_than_with_0_is_told(fields: dict[str, Any], words: str) -> None:
    events, lines = process(0)
    assert (
        sentences([*lines, event(events, "exited", **fields)])[-1] == f"worker_0 on node-a {words}"
    )


def test_events_that_end_without_exited_are_told() -> None:
    events, lines = process(0)
    lines += [event(events, "started", pid=1), ended(events)]
    assert sentences(lines)[-1] == "worker_0 on node-a ended, nobody knows how"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"what": "lost", "start": 3, "end": 9, "why": "gone"}, "bytes 3 to 9 of LOG: gone"),
        ({"what": "refused", "why": "conflict: at 3"}, "no more of LOG is taken: conflict: at 3"),
        (
            {"what": "ended", "length": 9, "declared": 3},
            "LOG ended at 9 bytes, and its node declared 3",
        ),
        (
            {"what": "ended", "length": 9, "corrupt": True},
            "LOG is corrupt here: its digest is not the one that its node declared",
        ),
        ({"what": "ended", "length": 9, "why": "recorder gone"}, "LOG ended because its recorder was gone"),  # noqa: E501
        ({"what": "closed", "reason": "by\nhand"}, "the run was closed by hand: by\\nhand"),
        (
            {"what": "not_responding", "attempt": 0},
            "attempt 0 is not responding: none of its agents spoke for 5 min",
        ),
        ({"what": "responding", "attempt": 0}, "attempt 0 is responding again"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_told(line: Line, sentence: str) -> None:
    _, lines = process(0)
    driver = stream(Kind.DRIVER, rank=0, process=made_id("process", 0, 0, ""), world_size=2)
    assert line["what"] in ("closed", "not_responding", "responding") or driver.id
    found = sentences([*lines, {"stream": driver.id, "unix_ns": 10**18} | line])
    assert found[-1] == sentence.replace("LOG", "azureml-logs/70_driver_log_0.txt")


def test_an_attempt_says_why_it_began_in_its_own_log_and_the_runs() -> None:
    _, first = process(0)
    _, again = process(0, attempt=1)
    why = "worker_0 had started before, in attempt 0"
    assert sentences([*first, *again])[-1] == f"attempt 1 began in retry_001/: {why}"
    assert sentences([*first, *again], "retry_001/")[0] == f"attempt 1 began: {why}"
    _, marked = process(0, launch_mark="m")
    _, other = process(1, attempt=1, launch_mark="n")
    assert sentences([*marked, *other], "retry_001/")[0].endswith("worker_1 is of another launch")
    over = {"what": "attempt_ended", "attempt": 0, "state": "Failed", "reason": "", "unix_ns": 0}
    _, late = process(1, attempt=1)
    assert sentences([*first, over, *late], "retry_001/")[0].endswith(
        "worker_1 started after attempt 0 had ended"
    )


def test_a_displaced_user_named_attempt_is_told_once() -> None:
    _, first = process(0, attempt=2, launch_mark="")
    _, displaced = process(0, attempt=3, again="x")
    for line in displaced:
        line["attributes"]["attempt"] = 2
    found = sentences([*first, *displaced], "retry_003/")
    assert [says for says in found if "was to be" in says] == [
        "worker_0 on node-a was to be in attempt 2, where its place is taken: it is in attempt 3"
    ]
