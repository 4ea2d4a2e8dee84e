"""Settings of the programs that serve: flag, then ``LOGBOOM_...``, then ``--config``, then default.

Law
    * One frozen object a program, checked once. Each default stands once, at its field, with its
      reason.
    * An unknown key in the file is an error; so is a known one with a wrong value, wherever it
      came from. Keys stand at the top of the file or in the program's own table; the tables of
      the other programs are passed over.
    * Unknown variables are passed over, and so is what Kubernetes injects for a service that is
      named like us (``tcp://...``).

The shim has settings of its own: it runs where there is no reader of TOML, and no pydantic.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from logboom.format.errors import UsageError

PREFIX = "LOGBOOM_"
TABLES = ("agent", "collector", "console", "query", "mpirun", "sidecar")
_INJECTED = ("tcp://", "udp://", "sctp://")


class Parser(argparse.ArgumentParser):
    """A parser that says what was wrong as all of logboom does."""

    def __init__(self, prog: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise ``UsageError``."""
        raise UsageError(message, f"see {self.prog} --help")


class Settings(BaseSettings):
    """What every program is told. ``TABLE`` is its table in the file."""

    TABLE: ClassVar[str]
    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    token: str = Field(
        "", repr=False, description="who does not bring it is not served; empty: nobody is asked"
    )
    token_file: str = Field(
        "", description="a file with the token, so that it stands in no process list"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what ``load`` has joined: it knows the order, and what to pass over."""
        return (init_settings,)


S = TypeVar("S", bound=Settings)


def load(
    kind: type[S],
    flags: Mapping[str, Any],
    environment: Mapping[str, str] = os.environ,
    config: str = "",
) -> S:
    """Return the settings of a program. ``flags``: only those given. Raises ``UsageError``."""
    values = read_file(kind, config) if config else {}
    values |= variables(kind, environment)
    values |= flags
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"no {name} is named", f"give {flag} or {PREFIX}{name.upper()}"
            ) from error
        text = str(first["msg"]).removeprefix("Value error, ")
        given = repr(str(first["input"]))
        raise UsageError(
            f"setting {name}: {text}", "" if given in text else f"got {given}"
        ) from error


def variables(kind: type[Settings], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that the environment holds."""
    found = {}
    for name in kind.model_fields:
        value = environment.get(PREFIX + name.upper(), "")
        if value and not value.startswith(_INJECTED):
            found[name] = value
    return found


def read_file(kind: type[Settings], path: str) -> dict[str, Any]:
    """Return the settings in a TOML file. Raises ``UsageError``."""
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"configuration {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"configuration {path} is not TOML: {error}") from error
    tables = {name: content.pop(name) for name in TABLES if isinstance(content.get(name), dict)}
    found: dict[str, Any] = content | tables.get(kind.TABLE, {})
    for key in found:
        if key not in kind.model_fields:
            known = ", ".join(sorted(kind.model_fields))
            raise UsageError(f"configuration {path} has an unknown key {key!r}", f"known: {known}")
    return found


def read_token(settings: Settings) -> str:
    """Return the token, from its file if one is named. Raises ``UsageError``."""
    token, where = settings.token.strip(), f"{PREFIX}TOKEN"
    if settings.token_file:
        where = f"token file {settings.token_file}"
        try:
            with open(settings.token_file, encoding="utf-8") as file:
                token = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{where} cannot be read: {error}") from error
        if not token:
            raise UsageError(f"{where} is empty")
    if not (token.isascii() and (token.isprintable() or not token)):
        raise UsageError(f"{where} holds what no header can carry", "use printable ASCII")
    return token
