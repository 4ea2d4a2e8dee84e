"""Settings: where each comes from, what is refused, and what is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from logboom.agent.config import AgentSettings
from logboom.collector.config import CollectorSettings
from logboom.format.errors import UsageError
from logboom.settings import load, read_token, variables


def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('collector = "file:1"\nnode_id = "of-file"\n[agent]\nnode_ip = "10.0.0.1"\n')
    environment = {"LOGBOOM_COLLECTOR": "variable:2", "LOGBOOM_NODE_ID": "of-variable"}
    found = load(AgentSettings, {"collector": "flag:3"}, environment, str(file))
    assert (found.collector, found.node_id, found.node_ip) == ("flag:3", "of-variable", "10.0.0.1")
    assert found.until_drained is False
    assert load(AgentSettings, {}, {}, str(file)).collector == "file:1"


def test_one_file_serves_every_program(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[collector]\nlisten = '10.0.0.1:1'\ndata = '/x'\n[agent]\nspool = '/s'\n")
    collector = load(CollectorSettings, {}, {}, str(file))
    assert (collector.listen, collector.data) == ("10.0.0.1:1", Path("/x"))
    assert load(AgentSettings, {}, {}, str(file)).spool == "/s"
    assert load(CollectorSettings, {"data": "d"}, {}).listen == "127.0.0.1:4319"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[collector]\nlisen = 'a:1'\n", "'lisen'"),
        ("colour = 1", "'colour'"),
        ("[other]\nx = 1", "'other'"),
        ("= =", "not TOML"),
        ("drain_timeout_s = -1", "drain_timeout_s"),
        ("listen = 'nonsense'", "nonsense"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, text: str, word: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=word):
        load(CollectorSettings, {"data": "d"}, {}, str(file))
    with pytest.raises(UsageError, match="cannot be read"):
        load(CollectorSettings, {"data": "d"}, {}, str(tmp_path / "nowhere"))


def test_unknown_variables_and_those_of_kubernetes_are_passed_over() -> None:
    environment = {
        "LOGBOOM_COLLECTOR": "tcp://10.3.0.7:4319",
        "LOGBOOM_COLLECTOR_PORT": "tcp://10.3.0.7:4319",
        "LOGBOOM_SERVICE_HOST": "10.3.0.7",
        "LOGBOOM_NOVELTY": "1",
        "LOGBOOM_NODE_ID": "",
        "LOGBOOM_TOKEN": "secret",
    }
    assert variables(AgentSettings, environment) == {"token": "secret"}
    assert load(AgentSettings, {}, environment).collector == ""


def test_settings_do_not_change_and_do_not_show_the_token(tmp_path: Path) -> None:
    settings = load(AgentSettings, {"token": "secret"}, {})
    assert "secret" not in repr(settings)
    with pytest.raises(Exception, match="frozen"):
        settings.token = "other"
    file = tmp_path / "token"
    file.write_text("of-file\n")
    assert read_token(load(AgentSettings, {"token_file": str(file)}, {})) == "of-file"
    assert read_token(settings) == "secret"
    assert read_token(load(AgentSettings, {"token": "secret\n"}, {})) == "secret"
    for token in ("se\ncret", "gehäim"):
        with pytest.raises(UsageError, match="printable ASCII"):
            read_token(load(AgentSettings, {"token": token}, {}))
    file.write_text("")
    with pytest.raises(UsageError, match="empty"):
        read_token(load(AgentSettings, {"token_file": str(file)}, {}))
