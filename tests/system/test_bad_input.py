"""Bad input: one clear sentence each, a status of its own, and nothing lost."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from processes import HANG_S, collector, environment, run

pytestmark = pytest.mark.system


def one_sentence(said: str, *words: str) -> None:
    """Assert that it is one line of ours that names what was wrong, and no traceback."""
    lines = [line for line in said.splitlines() if line.startswith("logboom: ")]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    for word in words:
        assert word in lines[0], said


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--run-id", "../../etc"], "run id"),
        (["--name", "a b"], "name"),
        (["--rank", "minus"], "rank"),
        (["--rank", "-1"], "rank"),
        (["--attempt", "x"], "attempt"),
    ],
)
def test_exec_says_what_was_wrong_and_runs_the_command(
    tmp_path: Path, flags: list[str], word: str
) -> None:
    shim = [sys.executable, "-m", "logboom.shim.cli", "--spool", str(tmp_path / "spool")]
    done = subprocess.run(
        [*shim, *flags, "--", "sh", "-c", "echo out; exit 7"],
        check=False, env=environment(), capture_output=True, text=True, timeout=HANG_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (7, "out\n")
    one_sentence(done.stderr, word)


def test_exec_names_a_collector_that_is_no_address_and_records_all_the_same(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    shim = [sys.executable, "-m", "logboom.shim.cli", "--spool", str(spool), "--run-id", "r"]
    done = subprocess.run(
        [*shim, "--collector", "nonsense", "--", "sh", "-c", "echo out; exit 7"],
        check=False, env=environment(), capture_output=True, text=True, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == 7
    one_sentence(done.stderr, "nonsense")
    assert run("spool", "cat", spool, "--kind", "driver").stdout == "out\n"


def test_exec_refuses_a_spool_that_is_a_link_and_runs_the_command(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    shim = [sys.executable, "-m", "logboom.shim.cli", "--spool", str(tmp_path / "link")]
    done = subprocess.run(
        [*shim, "--run-id", "r", "--", "sh", "-c", "echo out; exit 7"],
        check=False, env=environment(), capture_output=True, text=True, timeout=HANG_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (7, "out\n")
    one_sentence(done.stderr, "link")
    assert not list((tmp_path / "real").iterdir())


def test_an_agent_refuses_a_spool_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    done = run("agent", "--spool", tmp_path / "link", "--collector", "127.0.0.1:1")
    assert done.returncode in (1, 2)
    one_sentence(done.stderr, "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make somebody else's folder")
def test_an_agent_refuses_a_spool_of_somebody_else(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o700)
    os.chown(spool, 12345, 12345)
    done = run("agent", "--spool", spool, "--collector", "127.0.0.1:1")
    assert done.returncode in (1, 2)
    one_sentence(done.stderr, str(spool))


@pytest.mark.parametrize("node_id", ["../x", "con", "a b"])
def test_an_agent_refuses_a_bad_node_id(tmp_path: Path, node_id: str) -> None:
    (tmp_path / "s").mkdir()
    done = run(
        "agent", "--spool", tmp_path / "s", "--collector", "127.0.0.1:1", "--node-id", node_id
    )
    assert done.returncode == 2
    one_sentence(done.stderr, "node id")


def test_an_agent_says_when_the_peer_is_no_collector(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"127.0.0.1:{server.server_address[1]}"
        shim = [sys.executable, "-m", "logboom.shim.cli", "--spool", str(tmp_path / "s")]
        words = [*shim, "--run-id", "r", "--", "echo", "kept"]
        subprocess.run(words, check=True, env=environment(), timeout=HANG_S)
        done = run("agent", "--spool", tmp_path / "s", "--collector", address, "--until-drained")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert done.returncode == 1
    assert address in done.stderr
    assert "Traceback" not in done.stderr
    assert "kept" in run("spool", "cat", tmp_path / "s", "--kind", "driver").stdout


def test_a_second_agent_on_a_spool_names_the_first(tmp_path: Path) -> None:
    spool = tmp_path / "s"
    spool.mkdir()
    words = ["agent", "--spool", str(spool), "--collector", "127.0.0.1:1"]
    first = subprocess.Popen(
        [sys.executable, "-m", "logboom.command", *words],
        env=environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert first.stderr is not None
        first.stderr.readline()
        done = run(*words)
    finally:
        first.kill()
        first.communicate()
    assert done.returncode == 1
    one_sentence(done.stderr, str(first.pid))


def test_a_collector_refuses_a_folder_that_is_owned_and_says_by_whom(tmp_path: Path) -> None:
    with collector(tmp_path / "data") as server:
        assert server.process is not None
        done = run("collector", "--data", tmp_path / "data", "--listen", "127.0.0.1:0")
        assert done.returncode == 1
        one_sentence(done.stderr, str(server.process.pid), str(tmp_path / "data"))


def test_a_collector_says_when_its_address_is_in_use(tmp_path: Path) -> None:
    with collector(tmp_path / "data") as server:
        address = server.env["ADDRESS"]
        done = run("collector", "--data", tmp_path / "other", "--listen", address)
        assert done.returncode == 1
        one_sentence(done.stderr, address)


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:notaport", "127.0.0.1:99999"])
def test_a_collector_refuses_an_address_that_is_none(tmp_path: Path, listen: str) -> None:
    done = run("collector", "--data", tmp_path / "data", "--listen", listen)
    assert done.returncode == 2
    one_sentence(done.stderr, listen)


def test_a_collector_says_when_its_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", "/proc/logboom"):
        done = run("collector", "--data", folder, "--listen", "127.0.0.1:0")
        assert done.returncode == 1
        one_sentence(done.stderr, str(folder))


def test_verify_of_an_unknown_run_is_a_sentence(tmp_path: Path) -> None:
    with collector(tmp_path / "data"):
        done = run("verify", "nosuchrun", "--data", tmp_path / "data")
        assert done.returncode == 1
        one_sentence(done.stderr, "nosuchrun")
        bad = run("verify", "../x", "--data", tmp_path / "data")
        assert bad.returncode == 2
        one_sentence(bad.stderr, "run id")
    nowhere = run("verify", "r", "--data", tmp_path / "nowhere")
    assert nowhere.returncode == 1
    one_sentence(nowhere.stderr, "nowhere")
