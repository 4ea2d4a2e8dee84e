"""The data folder and the settings: each mistake one sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from logboom.collector.config import load, parse_address, read_token
from logboom.collector.datafolder import BadFolder, owned
from logboom.format.errors import UsageError


def test_a_folder_without_symbolic_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def symlink(*arguments: Any, **more: Any) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "symlink", symlink)
    with pytest.raises(BadFolder, match="symbolic links"), owned(tmp_path / "data"):
        pass


def test_an_owned_folder_names_its_holder_and_is_free_afterwards(tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(BadFolder, match=str(os.getpid())), owned(tmp_path):
        pass
    with owned(tmp_path):
        assert sorted(os.listdir(tmp_path / ".logboom")) == ["lock"]


def test_flag_goes_before_variable_before_file_before_default(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("data = 'of-file'\nlisten = 'file:3'\n[agent]\nspool = 'x'\n")
    variables = {"LOGBOOM_LISTEN": "variable:2", "LOGBOOM_UNKNOWN": "x"}
    assert load({"listen": "flag:1"}, variables, file).listen == "flag:1"
    assert load({}, variables, file).listen == "variable:2"
    assert load({}, {"LOGBOOM_LISTEN": "tcp://10.0.0.1:4319"}, file).listen == "file:3"
    assert load({"data": "d"}, {}, None).listen == "127.0.0.1:4319"
    assert load({}, {}, file).data == Path("of-file")


@pytest.mark.parametrize("text", ["color = 1", "[collector]\ncolor = 1", "[other]\nx = 1", "= ="])
def test_an_unknown_key_or_a_broken_file_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match="settings file"):
        load({"data": "d"}, {}, file)


def test_addresses_are_checked() -> None:
    assert parse_address("[::1]:4319") == ("[::1]", 4319)
    assert parse_address("host:0") == ("host", 0)
    for bad in ("host", ":1", "host:", "host:x", "::1:4319", "host:70000", "host:\u0661"):
        with pytest.raises(UsageError):
            parse_address(bad)


def test_the_token_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    assert read_token(load({"data": "d", "token_file": str(file)}, {}, None)) == "secret"
    assert read_token(load({"data": "d"}, {"LOGBOOM_TOKEN": "t"}, None)) == "t"
    file.write_text("\n")
    with pytest.raises(UsageError, match="empty"):
        read_token(load({"data": "d", "token_file": str(file)}, {}, None))
