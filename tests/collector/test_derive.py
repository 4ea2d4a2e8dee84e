"""What follows from a journal, and where streams lie, as pure functions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from collector.agentlike import made_id, stream
from collector.journallines import event, placed

from logboom.collector.census import status_of_exit
from logboom.collector.derive import Derivation
from logboom.collector.ledger import Ledger, PathTaken
from logboom.collector.textform import timestamp
from logboom.format.journal import Line
from logboom.format.stream import Kind, StreamAttributes


def told(lines: list[Line]) -> list[tuple[str, dict[str, Any]]]:
    derivation = Derivation()
    appended = [pair for line in lines for pair in derivation.handle(line)]
    return [(path, json.loads(content)) for path, content in appended if path.endswith(".json")]


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1795422667764428389, "2026-11-23T08:31:07.764428389Z"),
        (-5, "1970-01-01T00:00:00.000000000Z"),
        (10**40, "9999-12-31T23:59:59.999999999Z"),
    ],
)
def test_timestamps_have_nine_digits_whatever_the_time(unix_ns: int, text: str) -> None:
    assert timestamp(unix_ns) == text


@pytest.mark.parametrize(
    ("event_fields", "status"),
    [
        ({"code": 0}, "Completed"),
        ({"code": 1}, "Failed"),
        ({"code": 143}, "Failed"),
        *[({"signal": number}, "Failed") for number in (4, 6, 7, 8, 11, 31)],
        *[({"signal": number}, "Terminated") for number in (1, 2, 9, 15)],
        ({"unknown": "the shim is gone"}, "Terminated"),
        ({}, "Terminated"),
        ({"signal": []}, "Terminated"),
        ({"code": "0"}, "Terminated"),
    ],
)
def test_every_exit_has_its_status(event_fields: dict[str, Any], status: str) -> None:
    assert status_of_exit(event_fields) == status


def test_a_status_line_comes_before_the_info_line_and_both_after_the_driver() -> None:
    driver, events = stream(), stream(Kind.EVENTS)
    lines = [placed(events), event(events, "started", 1, pid=9), placed(driver, path="log")]
    assert told(lines[:2]) == []
    found = told(lines)
    assert [path for path, _ in found] == [
        "azureml-logs/process_status.json",
        "azureml-logs/process_info.json",
    ]
    assert found[1][1]["pid_in_container"] == 9


def test_a_driver_without_events_has_neither_status_nor_info() -> None:
    assert told([placed(stream())]) == []


def test_events_that_end_without_exited_mean_terminated() -> None:
    driver, events = stream(), stream(Kind.EVENTS)
    end = {"what": "ended", "stream": events.id, "length": 1, "boot_ns": 3}
    found = told([placed(driver), placed(events), event(events, "started", 1), end])
    assert [entry["status"] for _, entry in found if "status" in entry] == ["Started", "Terminated"]
    assert found[-1][1]["timestamp"].endswith(".000000010Z")  # 3 of the node, 7 of its clock


def test_a_launcher_is_in_no_process_file() -> None:
    mpi = stream(Kind.MPI, rank=None, process=made_id("mpi"))
    events = stream(Kind.EVENTS, rank=None, process=made_id("mpi"))
    lines = [placed(events), event(events, "started", 1), placed(mpi)]
    assert told([*lines, event(events, "exited", 2, code=0)]) == []


def test_closing_terminates_every_attempt_that_has_not_ended() -> None:
    lines: list[Line] = [placed(stream(rank=n), attempt) for n, attempt in enumerate((0, 1, 2))]
    over = {"what": "attempt_ended", "attempt": 1, "state": "Failed", "reason": "", "unix_ns": 4}
    found = told([*lines, over, {"what": "closed", "reason": "", "unix_ns": 5}])
    assert [path for path, _ in found] == [
        folder + "azureml-logs/process_status.json" for folder in ("retry_001/", "", "retry_002/")
    ]
    assert {(entry["process_name"], entry["status"]) for _, entry in found} == {("*", "Terminated")}


def place(ledger: Ledger, attributes: StreamAttributes) -> str:
    attempt, path = ledger.decide(attributes, "n", attributes.started_unix_ns)
    ledger.handle(placed(attributes, attempt, path))
    return path


def test_a_taken_path_gets_the_next_number_before_its_suffix() -> None:
    ledger = Ledger()
    builds = [stream(Kind.IMAGE_BUILD, rank=None, id=made_id(n), process="") for n in range(3)]
    assert [place(ledger, build) for build in builds] == [
        f"azureml-logs/20_image_build_log{number}.txt" for number in ("", "_1", "_2")
    ]


def test_a_path_through_another_streams_file_is_refused() -> None:
    ledger = Ledger()
    place(ledger, stream(Kind.FILE, id=made_id(1), path="a", process=""))
    with pytest.raises(PathTaken):
        place(ledger, stream(Kind.FILE, id=made_id(2), path="a/b", process=""))
    assert place(ledger, stream(Kind.FILE, id=made_id(3), path="c/d", process="")).endswith("c/d")
    assert place(ledger, stream(Kind.FILE, id=made_id(4), path="c", process="")).endswith("c_1")


def test_a_process_has_one_attempt_whichever_of_its_streams_is_first() -> None:
    ledger = Ledger()
    place(ledger, stream())
    again: dict[str, Any] = {"process": made_id("again"), "started_unix_ns": 10**18 + 1}
    place(ledger, stream(Kind.EVENTS, **again))
    assert place(ledger, stream(**again)).startswith("retry_001/")
    third: dict[str, Any] = {"process": made_id("third"), "started_unix_ns": 10**18 + 2}
    assert place(ledger, stream(**third)).startswith("retry_002/")


@pytest.mark.parametrize("size", [1, 4])
def test_a_launcher_whose_events_come_first_takes_no_ranks_place(size: int) -> None:
    ledger = Ledger()
    mpirun: dict[str, Any] = {"rank": None, "world_size": 1, "process": made_id("mpirun")}
    for kind in (Kind.EVENTS, Kind.MPI):
        assert not place(ledger, stream(kind, **mpirun)).startswith("retry_")
    assert place(ledger, stream(world_size=size)).startswith("azureml-logs/")
