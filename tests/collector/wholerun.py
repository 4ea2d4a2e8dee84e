"""An MPI run on two nodes, twice, over the storage double: what its agents would send."""

from __future__ import annotations

from typing import Any

from collector.agentlike import made_id, stream
from collector.crashstorage import CrashStorage
from collector.scenario import RUN_ID, append, commit, end, recover

from logboom.collector.group import Group
from logboom.collector.run import Run
from logboom.format.events import Event, encode_event
from logboom.format.stream import Kind, StreamAttributes
from logboom.format.tree import OURS

NOW = 1795422667764428389  # 2026-11-23T08:31:07.764428389Z
NODES = {"gpu-06": "10.0.0.4", "gpu-07": "fe80::5"}
FOLDER = f"runs/{RUN_ID}/"


class Sent:
    """A stream, its node and all its bytes."""

    def __init__(self, attributes: StreamAttributes, node: str, content: bytes) -> None:
        self.attributes, self.node, self.content = attributes, node, content


def sent() -> list[Sent]:
    """Return the streams: two attempts of an mpirun and two ranks; rank 1 of the first fails."""
    found = []
    for attempt in range(2):
        mark: dict[str, Any] = {
            "launch_mark": f"m{attempt}",
            "started_unix_ns": NOW + attempt * 10**10,
        }
        mpirun: dict[str, Any] = {"process": made_id("mpirun", attempt), "world_size": 1} | mark
        events = [
            Event(0, 0, "started", {"pid": 90, "command": ["mpirun"]}),
            Event(1, 9000, "exited", {"code": 1 - attempt}),
        ]
        found.append(_events(stream(Kind.EVENTS, rank=None, **mpirun), "gpu-06", events))
        found.append(Sent(stream(Kind.MPI, rank=None, **mpirun), "gpu-06", b"mpirun says\n" * 3))
        for rank, node in enumerate(NODES):
            fields: dict[str, Any] = {"process": made_id("rank", rank, attempt)} | mark
            fields |= {"world_size": 2, "pid": 70 + rank}
            how: dict[str, Any] = {"signal": 11} if (rank, attempt) == (1, 0) else {"code": 0}
            events = [
                Event(0, 1000, "started", {"pid": 183 + rank, "command": ["./a.out", "x y\n"]}),
                Event(1, 2000, "message", {"text": "two\nlines"}),
                Event(2, 3000, "lost", {"bytes": 1234567, "why": "spool full"}),
                Event(3, 4000, "exited", how),
            ]
            found.append(_events(stream(Kind.EVENTS, rank=rank, **fields), node, events))
            content = b"".join(b"rank %d line %d\n" % (rank, n) for n in range(5))
            found.append(Sent(stream(Kind.DRIVER, rank=rank, **fields), node, content))
    return found


def _events(attributes: StreamAttributes, node: str, events: list[Event]) -> Sent:
    return Sent(attributes, node, b"".join(map(encode_event, events)))


def opened(storage: CrashStorage) -> tuple[Run, Group]:
    """Open the run as after a start."""
    group = Group(storage)
    run = Run(storage, RUN_ID, group, clock=lambda: NOW)
    run.open()
    run.resume()
    return run, group


def finish(run: Run, group: Group, all_sent: list[Sent]) -> None:
    """Send all that is missing, in pieces, and end every stream, one attempt after the other."""
    middle = len(all_sent) // 2
    for some in (all_sent[:middle], all_sent[middle:]):
        for one in some:
            run.place(one.attributes, one.node, NODES[one.node], 0, 0)
        commit(group)
        for part in (1, 2):
            for one in some:
                if run.ledger.streams[one.attributes.id].ended is None:
                    found = recover(run, one.attributes)
                    upto = len(one.content) // 2 if part == 1 else len(one.content)
                    if found.length < upto:
                        append(run, found, one.content[found.length : upto])
            commit(group)
        for one in some:
            if run.ledger.streams[one.attributes.id].ended is None:
                end(run, recover(run, one.attributes), one.content)
        commit(group)


def derived(storage: CrashStorage) -> dict[str, bytes]:
    """Return the files that people read, but for the streams' own."""
    own = {"azureml-logs/70_mpi_log.txt", "azureml-logs/70_driver_log_0.txt"}
    own |= {"azureml-logs/70_driver_log_1.txt"}
    own |= {"retry_001/" + path for path in own}
    found = {}
    for path, content in storage.files().items():
        inside = path.removeprefix(FOLDER)
        if path.startswith(FOLDER) and not inside.startswith(OURS) and inside not in own:
            found[inside] = content
    return found
