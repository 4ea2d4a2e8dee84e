"""The shape of the distribution: what every other promise about installing stands on."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from logboom.command import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent


def test_the_import_root_is_a_namespace() -> None:
    assert not list(ROOT.glob("*/logboom/__init__.py"))


def test_the_base_has_no_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == []
    assert project["requires-python"] == ">=3.8"
    assert set(project["optional-dependencies"]) == {"agent", "collector", "console", "mpi", "all"}


def test_packages_hold_no_code_in_their_init() -> None:
    for part in ("proto", "agent", "collector"):
        for init in (ROOT / part).rglob("__init__.py"):
            body = ast.parse(init.read_text()).body
            assert all(isinstance(node, ast.Expr) for node in body), init


def test_generated_code_is_that_of_the_proto(tmp_path: Path) -> None:
    source = "logboom/wire/v1/logboom.proto"
    words = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *words, source],
        check=True,
    )
    for made in (tmp_path / source).parent.iterdir():
        assert made.read_text() == (ROOT / "proto" / source).with_name(made.name).read_text()


def test_a_lock_names_no_registry() -> None:
    for lock in (ROOT / "locks").iterdir():
        assert "://" not in lock.read_text(), lock


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_without_its_extra_says_which(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = COMMANDS[name]
    if not command.extra:
        return
    monkeypatch.setattr("sys.version_info", (3, 8, 18))
    assert main([name]) == 1
    said = capsys.readouterr().err
    assert f"'logboom[{command.extra}]'" in said
    assert said.count("\n") == 1


def test_a_missing_module_of_an_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'grpc'", name="grpc")

    monkeypatch.setattr("importlib.import_module", fail)
    assert main(["agent"]) == 1
    assert "needs the module 'grpc'" in capsys.readouterr().err


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bogus"]) == 2
    assert "'bogus'" in capsys.readouterr().err
