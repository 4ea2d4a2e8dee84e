"""Settings and names of the agent: where each comes from, and what is refused."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from logboom.agent.cli import main
from logboom.agent.config import AgentSettings
from logboom.agent.lock import take_lock
from logboom.agent.node import Said, address_towards, check_address, make_node
from logboom.agent.spool import Rights, SpoolError
from logboom.format.errors import BadName, UsageError
from logboom.format.ids import is_id, is_name
from logboom.settings import load

PRIVATE = Rights(0o600, 0o700)
COLLECTOR = "127.0.0.1:4319"


@pytest.mark.parametrize("value", ["nonsense", "a:b", "a:0", "a:70000", "http://x:1", "a b:1"])
def test_a_collector_that_is_no_address_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="setting collector"):
        load(AgentSettings, {"collector": value}, {})


def node(spool: Path, said: Said) -> dict[str, object]:
    found = make_node(str(spool), PRIVATE, said, COLLECTOR, os.urandom(16))
    return {"id": found.id, "ip": found.ip, "spool_id": found.spool_id}


def test_the_node_is_named_by_flag_then_node_json_then_variable_then_host(tmp_path: Path) -> None:
    first = node(tmp_path, Said())
    assert is_name(str(first["id"]))
    assert is_id(str(first["spool_id"]))
    assert node(tmp_path, Said(other_id="of-variable")) == first
    renamed = node(tmp_path, Said(flag_id="of-flag", flag_ip="127.0.0.11"))
    assert renamed == {"id": "of-flag", "ip": "127.0.0.11", "spool_id": first["spool_id"]}
    assert node(tmp_path, Said(other_id="x", other_ip="10.9.9.9")) == renamed
    other = tmp_path / "other"
    other.mkdir()
    assert node(other, Said(other_id="of-variable"))["id"] == "of-variable"


def test_an_address_that_nobody_said_is_looked_up_again_after_a_boot(tmp_path: Path) -> None:
    node(tmp_path, Said(other_ip="10.1.1.1"))
    file = tmp_path / "node.json"
    kept = json.loads(file.read_text())
    assert kept["node_ip"] == "10.1.1.1"
    file.write_text(json.dumps(kept | {"boot_id": "another"}))
    assert node(tmp_path, Said(other_ip="10.2.2.2"))["ip"] == "10.2.2.2"


def test_a_broken_node_json_is_an_error_and_not_a_new_node(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text("{")
    with pytest.raises(SpoolError, match=r"node\.json"):
        node(tmp_path, Said())


def test_bad_names_and_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadName, match="node id"):
        node(tmp_path, Said(flag_id="../x"))
    with pytest.raises(UsageError, match="no IP address"):
        node(tmp_path, Said(flag_ip="host"))
    with pytest.raises(UsageError, match="zone"):
        check_address("fe80::1%eth0")
    assert check_address("2001:0db8:0000::0001") == "2001:db8::1"


def test_the_nodes_address_is_no_loopback_where_it_has_another() -> None:
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
    assert not address_towards(COLLECTOR).startswith("127.")


def test_the_lock_is_one_agents_and_names_it(tmp_path: Path) -> None:
    first = take_lock(str(tmp_path), PRIVATE)
    with pytest.raises(SpoolError, match=f"process {os.getpid()}"):
        take_lock(str(tmp_path), PRIVATE)
    os.close(first)
    os.close(take_lock(str(tmp_path), PRIVATE))


@pytest.mark.parametrize(
    ("words", "status", "word"),
    [
        (["--collector", "nonsense"], 2, "nonsense"),
        ([], 2, "--collector"),
        (["--collector", COLLECTOR, "--node-id", "a b"], 2, "node id"),
        (["--collector", COLLECTOR, "--node-ip", "x"], 2, "node address"),
        (["--collector", COLLECTOR, "--token-file", "/nowhere"], 2, "/nowhere"),
        (["--nonsense"], 2, "--nonsense"),
        (["--collector", COLLECTOR, "--spool", "/proc/nowhere"], 1, "/proc/nowhere"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_a_status(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    status: int,
    word: str,
) -> None:
    for name in list(os.environ):
        if name.startswith("LOGBOOM_"):
            monkeypatch.delenv(name)
    assert main(["--spool", str(tmp_path / "s"), *words]) == status
    err = capsys.readouterr().err
    assert err.startswith("logboom: ")
    assert len(err.splitlines()) == 1
    assert word in err
