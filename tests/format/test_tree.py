"""The canonical tree: every kind's place, and paths that try to leave it."""

from __future__ import annotations

import pytest

from logboom.format.errors import BadName
from logboom.format.stream import Kind, StreamAttributes
from logboom.format.tree import (
    attempt_folder,
    flat_path,
    numbered,
    process_name,
    spans_path,
    stream_path,
)

ID, PROCESS = "a" * 32, "b" * 32


def stream(kind: Kind, **more: object) -> StreamAttributes:
    return StreamAttributes(ID, kind, "run", process=PROCESS, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attributes", "path"),
    [
        (stream(Kind.DRIVER), "azureml-logs/70_driver_log.txt"),
        (stream(Kind.DRIVER, rank=0), "azureml-logs/70_driver_log.txt"),
        (stream(Kind.DRIVER, rank=0, world_size=2), "azureml-logs/70_driver_log_0.txt"),
        (stream(Kind.DRIVER, rank=11, world_size=12), "azureml-logs/70_driver_log_11.txt"),
        (stream(Kind.EVENTS), f".logboom/events/{PROCESS}.jsonl"),
        (stream(Kind.METRICS), f".logboom/metrics/{PROCESS}.jsonl"),
        (stream(Kind.MPI), "azureml-logs/70_mpi_log.txt"),
        (stream(Kind.LAUNCHER), "logs/azureml/launcher-gpu-07.txt"),
        (stream(Kind.IMAGE_BUILD), "azureml-logs/20_image_build_log.txt"),
        (stream(Kind.EXECUTION), "azureml-logs/55_azureml-execution-gpu-07.txt"),
        (stream(Kind.JOB_PREP), "azureml-logs/65_job_prep-gpu-07.txt"),
        (stream(Kind.JOB_POST), "azureml-logs/75_job_post-gpu-07.txt"),
        (stream(Kind.START_CMS), "logs/azureml/sidecar/gpu-07/start_cms.txt"),
        (stream(Kind.PREP_CMD), "logs/azureml/sidecar/gpu-07/prep_cmd.txt"),
        (stream(Kind.RELEASE_CMD), "logs/azureml/sidecar/gpu-07/release_cmd.txt"),
        (stream(Kind.PIPE, name="dmon"), "logs/dmon.txt"),
        (stream(Kind.FILE, path="train/x.log"), "logs/train/x.log"),
        (stream(Kind.FILE, path="x.log", rank=3, world_size=4), "logs/rank_3/x.log"),
        (stream(Kind.FILE, path="azureml/x.log"), "logs/_azureml/x.log"),
        (stream(Kind.FILE, path="rank_1/x"), "logs/_rank_1/x"),
    ],
)
def test_each_kind_has_its_place(attributes: StreamAttributes, path: str) -> None:
    assert stream_path(attributes, "gpu-07") == path


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "a//b", "../a", "a/../b", "a/.", "a\nb", "a\0", "x" * 256, "a/" * 32 + "a"],
)
def test_a_followed_path_cannot_leave_its_folder(path: str) -> None:
    with pytest.raises(BadName):
        stream_path(stream(Kind.FILE, path=path), "n")


@pytest.mark.parametrize("name", ["azureml", "rank_0"])
def test_a_pipe_cannot_take_the_tree_s_own_folders(name: str) -> None:
    with pytest.raises(BadName):
        stream_path(stream(Kind.PIPE, name=name), "n")


def test_attempts_numbers_and_spans() -> None:
    assert [attempt_folder(n) for n in (0, 1, 12)] == ["", "retry_001/", "retry_012/"]
    assert numbered("a-logs/20_image_build_log.txt", 1) == "a-logs/20_image_build_log_1.txt"
    assert numbered("logs/x.y/plain", 2) == "logs/x.y/plain_2"
    assert numbered("logs/.hidden", 1) == "logs/.hidden_1"
    assert spans_path("retry_001/a/b.txt") == ".logboom/spans/retry_001/a/b.txt"
    assert process_name(stream(Kind.DRIVER)) == "worker_0"
    assert process_name(stream(Kind.DRIVER, rank=3)) == "worker_3"
    assert process_name(stream(Kind.DRIVER, rank=3, name="eval")) == "eval"


@pytest.mark.parametrize(
    ("path", "flat"),
    [
        ("10.0.0.5/azureml-logs/a.txt", "azureml-logs/a.txt"),
        ("retry_001/fe80--5/logs/a.txt", "retry_001/logs/a.txt"),
        ("azureml-logs/a.txt", "azureml-logs/a.txt"),
        ("retry_001/logs/a.txt", "retry_001/logs/a.txt"),
        ("logs/10.0.0.5/a.txt", "logs/10.0.0.5/a.txt"),
        ("retry_001", "retry_001"),
        ("", ""),
    ],
)
def test_a_path_in_a_nodes_folder_is_resolved_by_rule(path: str, flat: str) -> None:
    assert flat_path(path) == flat
