"""Journal lines made by hand, for tests of what follows from them."""

from __future__ import annotations

from typing import Any

from collector.agentlike import made_id, stream

from logboom.format.journal import Line
from logboom.format.stream import Kind, StreamAttributes, attributes_to_json

NODES = {"node-a": "10.0.0.5", "node-b": "10.0.0.6"}


def placed(
    attributes: StreamAttributes,
    attempt: int = 0,
    path: str = "p",
    node: str = "node-a",
    **more: Any,
) -> Line:
    fields = {
        "what": "placed",
        "attributes": attributes_to_json(attributes),
        "attempt": attempt,
        "path": path,
        "node_id": node,
        "node_ip": NODES.get(node, "10.0.0.9"),
        "clock_offset_ns": 7,
        "clock_error_ns": 0,
        "unix_ns": 10**18,
    }
    return fields | more


def event(source: StreamAttributes, name: str, number: int = 0, **fields: Any) -> Line:
    found = {"n": number, "t": number, "event": name, **fields}
    return {"what": "event", "source": source.id, "offset": number, "event": found}


def ended(attributes: StreamAttributes, **more: Any) -> Line:
    fields = {
        "what": "ended",
        "stream": attributes.id,
        "length": 1,
        "boot_ns": 3,
        "unix_ns": 10**18,
    }
    return fields | more


def process(
    rank: int | None,
    attempt: int = 0,
    node: str = "node-a",
    size: int = 2,
    again: object = "",
    **more: Any,
) -> tuple[StreamAttributes, list[Line]]:
    """Return a process's events stream, and the lines of its placing."""
    fields: dict[str, Any] = {
        "process": made_id("process", rank, attempt, again),
        "world_size": size,
    }
    events = stream(Kind.EVENTS, rank=rank, **(fields | more))
    driver = stream(Kind.DRIVER, rank=rank, **(fields | more))
    folder = f"retry_{attempt:03d}/" if attempt else ""
    tail = f"_{rank}" if rank is not None and size > 1 else ""
    log = f"{folder}azureml-logs/70_driver_log{tail}.txt"
    events_path = f".logboom/events/{driver.process}.jsonl"
    return events, [
        placed(events, attempt, events_path, node),
        placed(driver, attempt, log, node),
    ]


def launcher(
    attempt: int = 0, node: str = "node-a"
) -> tuple[StreamAttributes, StreamAttributes, list[Line]]:
    """Return an mpirun's events and words, and the lines of their placing."""
    fields: dict[str, Any] = {"process": made_id("mpirun", attempt), "world_size": 1}
    events = stream(Kind.EVENTS, rank=None, **fields)
    words = stream(Kind.MPI, rank=None, **fields)
    folder = f"retry_{attempt:03d}/" if attempt else ""
    events_path = f".logboom/events/{words.process}.jsonl"
    return (
        events,
        words,
        [
            placed(events, attempt, events_path, node),
            placed(words, attempt, folder + "azureml-logs/70_mpi_log.txt", node),
        ],
    )
