"""The data folder and the settings: each mistake one sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from logboom.collector.config import parse_address
from logboom.collector.datafolder import BadFolder, owned


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


def test_addresses_are_checked() -> None:
    assert parse_address("[::1]:4319") == ("[::1]", 4319)
    assert parse_address("host:0") == ("host", 0)
    for bad in ("host", ":1", "host:", "host:x", "::1:4319", "host:70000", "host:\u0661"):
        with pytest.raises(ValueError, match=r"HOST:PORT|port"):
            parse_address(bad)


@pytest.mark.parametrize("name", [".logboom", ".logboom/lock"])
def test_a_link_in_place_of_the_lock_is_refused_and_not_followed(tmp_path: Path, name: str) -> None:
    root, outside = tmp_path / "data", tmp_path / "outside"
    (root / name).parent.mkdir(parents=True)
    if name == ".logboom":
        outside.mkdir()
    else:
        outside.write_text("precious")
    (root / name).symlink_to(outside)
    with pytest.raises(BadFolder, match="is a link"), owned(root):
        pass
    if name == ".logboom":
        assert os.listdir(outside) == []
    else:
        assert outside.read_text() == "precious"
