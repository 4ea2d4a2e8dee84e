"""What the command finds is what it would have found without us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shim.shim_processes import PYTHON, SHIM, environment, shim_words
from shim.shim_spools import the_driver, the_events, wait_for, wait_for_ends

pytestmark = pytest.mark.system

# Tells everything about itself that a launcher could have given it, as one line of JSON in a file.
TELL = """
import json, os, resource, signal, sys
with open("/proc/self/status") as file:
    status = dict(line.split(":", 1) for line in file)
umask = os.umask(0)
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
told = {
    "signals": [status[key] for key in ("SigBlk", "SigIgn")],
    "fds": [fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")],
    "env": {k: v for k, v in os.environ.items() if k not in ("_", "SHLVL", "LC_CTYPE")},
    "cwd": os.getcwd(), "umask": umask, "group": os.getpgrp(), "session": os.getsid(0),
    "limits": [resource.getrlimit(n) for n in range(16)],
    "binding": sorted(os.sched_getaffinity(0)), "nice": os.nice(0),
    "stdin": os.readlink("/proc/self/fd/0") if os.path.exists("/proc/self/fd/0") else None,
}
with open(sys.argv[1], "w") as file:
    json.dump(told, file)
"""


def _tell(tmp_path: Path, words: list[str], shell: str, *, env: dict[str, str]) -> Any:
    report = tmp_path / "report"
    script = f'{shell} exec "$@"'
    subprocess.run(
        ["bash", "-c", script, "bash", *words, PYTHON, "-I", "-S", "-c", TELL, str(report)],
        env=env,
        process_group=os.getpgrp(),
        timeout=60,
        check=True,
        close_fds=False,
    )
    return json.loads(report.read_text())


@pytest.mark.parametrize(
    "shell",
    [
        "",
        "exec 7</dev/zero 12>/dev/null;",
        "exec 0<&-;",
        "exec 1>&-;",
        "exec 0<&- 1>&- 2>&-;",
        "trap '' INT HUP TERM;",
        "umask 027; ulimit -n 200; ulimit -f 100000; cd /;",
    ],
)
def test_the_command_inherits_what_it_would_without_us(tmp_path: Path, shell: str) -> None:
    env = environment()
    without = _tell(tmp_path, ["env"], shell, env=env)
    within = _tell(tmp_path, shim_words(tmp_path / "spool"), shell, env=env)
    ours = {key: within["env"].pop(key) for key in list(within["env"]) if "LOGBOOM" in key}
    assert within == without
    names = ("RUN_ID", "PROCESS_ID", "PROCESS_WORLD_SIZE", "PROCESS_SPOOL")
    assert set(ours) == {f"LOGBOOM_{name}" for name in names}
    wait_for_ends(tmp_path / "spool")


def test_pythons_own_locale_variable_is_taken_out_again(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run([*shim_words(spool), "env"], env=env, timeout=60, check=True)
    wait_for_ends(spool)
    assert b"LC_CTYPE" not in the_driver(spool).data


def test_a_process_below_does_not_inherit_its_rank_as_a_flag(tmp_path: Path) -> None:
    flags = {
        "LOGBOOM_SPOOL": str(tmp_path), "LOGBOOM_RUN_ID": "below", "LOGBOOM_RANK": "2",
        "LOGBOOM_WORLD_SIZE": "3", "LOGBOOM_LOCAL_RANK": "1", "LOGBOOM_NAME": "n",
        "LOGBOOM_ATTEMPT": "4",
    }  # fmt: skip
    subprocess.run([*SHIM, "--", "env"], env=environment(flags), timeout=60, check=True)
    wait_for_ends(tmp_path)
    driver = the_driver(tmp_path)
    found = dict(
        line.split("=", 1) for line in driver.data.decode().splitlines() if line[:7] == "LOGBOOM"
    )
    assert found == {
        "LOGBOOM_SPOOL": str(tmp_path),
        "LOGBOOM_RUN_ID": "below",
        "LOGBOOM_PROCESS_ID": driver.attributes.process,
        "LOGBOOM_PROCESS_RANK": "2",
        "LOGBOOM_PROCESS_WORLD_SIZE": "3",
        "LOGBOOM_PROCESS_LOCAL_RANK": "1",
        "LOGBOOM_PROCESS_SPOOL": str(tmp_path),
    }
    known = driver.attributes
    assert (known.rank, known.world_size, known.local_rank) == (2, 3, 1)
    assert (known.name, known.attempt, known.run_id) == ("n", 4, "below")
    events = the_events(tmp_path)
    assert events.attributes.process == known.process
    assert events.attributes.pid == known.pid == events.events[0]["pid"]
    assert events.events[0]["command"] == ["env"]


def test_what_a_closed_stdout_never_had_is_not_recorded(tmp_path: Path) -> None:
    script = 'exec 1>&-; exec "$@"'
    words = [*shim_words(tmp_path), "sh", "-c", "echo lost 2>/dev/null; echo err >&2"]
    subprocess.run(["sh", "-c", script, "sh", *words], env=environment(), timeout=60, check=True)
    wait_for_ends(tmp_path)
    assert the_driver(tmp_path).data == b"err\n"


def test_an_agent_is_started_free_of_everything_of_the_job(tmp_path: Path) -> None:
    told = tmp_path / "told"
    agent = tmp_path / "agent"
    agent.write_text(
        "#!/bin/sh\n"
        f"exec 9> {told}.tmp\n"
        'echo "$@" >&9; ls /proc/self/fd 9>&- | wc -l >&9\n'
        "{ ps -o pgid=,sid= -p $$; echo $$; pwd; } >&9\n"
        f"mv {told}.tmp {told}\n"
    )
    agent.chmod(0o755)
    spool = tmp_path / "spool"
    more = {"LOGBOOM_AGENT_PYTHON": str(agent), "LOGBOOM_COLLECTOR": "127.0.0.1:9"}
    done = subprocess.run(
        [*shim_words(spool), "sleep", "0.5"],
        env=environment(more),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    wait_for(told.exists)
    words, fds, ids, pid, cwd = told.read_text().splitlines()
    assert words == (
        f"-m logboom.command agent --spool {spool} --collector 127.0.0.1:9 --leave-when-idle"
    )
    assert int(fds) == 4  # 0, 1, 2 and that of the listing itself
    group, session = ids.split()
    assert group == session != str(os.getsid(0))
    assert cwd == "/"
    assert pid != session, "forked twice: no session leader, it can never get a terminal"


def test_no_agent_is_started_where_one_lives(tmp_path: Path) -> None:
    spool, told = tmp_path / "spool", tmp_path / "told"
    spool.mkdir(0o700)
    agent = tmp_path / "agent"
    agent.write_text(f"#!/bin/sh\ntouch {told}\n")
    agent.chmod(0o755)
    more = {"LOGBOOM_AGENT_PYTHON": str(agent), "LOGBOOM_COLLECTOR": "127.0.0.1:9"}
    words = ["flock", str(spool / "agent.lock"), *shim_words(spool), "sleep", "0.5"]
    subprocess.run(words, env=environment(more), timeout=60, check=True)
    assert not told.exists()
    subprocess.run([*shim_words(spool), "true"], env=environment(more), timeout=60, check=True)
    wait_for(told.exists)


def test_an_agent_that_cannot_be_started_is_no_trouble_of_the_job(tmp_path: Path) -> None:
    more = {"LOGBOOM_AGENT_PYTHON": "/no/such/python", "LOGBOOM_COLLECTOR": "127.0.0.1:9"}
    done = subprocess.run(
        [*shim_words(tmp_path), "sh", "-c", "exit 7"],
        env=environment(more),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")
