"""The collector's settings: flag, then ``LOGBOOM_...``, then ``--config FILE``, then default."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from logboom.format.errors import UsageError

_PREFIX = "LOGBOOM_"
_TABLE = "collector"
_TABLES_OF_OTHERS = ("agent", "console", "query", "mpirun", "sidecar")


class CollectorConfig(BaseSettings):
    """What a collector is told. Loopback unless told: the wire has no encryption of its own."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    data: Path = Field(description="the data folder; made if it is missing")
    listen: str = Field("127.0.0.1:4319", description="HOST:PORT; port 0 takes a free one")
    token_file: Path | None = Field(None, description="a file with the token that agents bring")
    token: str = Field("", description="the token that agents bring; none: nobody is asked")
    drain_timeout_s: float = Field(10.0, gt=0, description="how long a stop may take")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the joined values only: ``load`` knows the order."""
        return (init_settings,)


def load(
    flags: dict[str, str], environment: dict[str, str], config_file: Path | None
) -> CollectorConfig:
    """Join the sources into one frozen object. Raises ``UsageError`` naming what was wrong."""
    names = CollectorConfig.model_fields
    values: dict[str, Any] = _from_file(config_file, set(names)) if config_file else {}
    for name in names:
        found = environment.get(_PREFIX + name.upper(), "")
        if found and not is_injected(found):
            values[name] = found
    values |= flags
    if "data" not in values:
        raise UsageError("no data folder is named", "say --data DIR or set LOGBOOM_DATA")
    try:
        config = CollectorConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"setting {where} is wrong: {first['msg']}") from error
    parse_address(config.listen)
    return config


def is_injected(value: str) -> bool:
    """Say whether Kubernetes set this variable for a service that has our name."""
    return value.startswith(("tcp://", "udp://", "sctp://"))


def _from_file(path: Path, known: set[str]) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"settings file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"settings file {path} is not TOML: {error}") from error
    table = found.pop(_TABLE, {})
    for name in _TABLES_OF_OTHERS:
        if isinstance(found.get(name), dict):
            del found[name]
    if not isinstance(table, dict):
        raise UsageError(f"settings file {path}: {_TABLE} is not a table")
    values = found | table
    for name in values:
        if name not in known:
            raise UsageError(
                f"settings file {path} has the unknown key {name!r}",
                "known are " + ", ".join(sorted(known)),
            )
    return values


def parse_address(listen: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` (``[::1]:4319`` for IPv6). Raises ``UsageError``."""
    host, colon, port = listen.rpartition(":")
    is_bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not (host and colon and port.isascii() and port.isdigit()) or is_bare_ipv6:
        raise UsageError(f"address {listen!r} is not HOST:PORT", "such as 127.0.0.1:4319")
    if int(port) > 65535:
        raise UsageError(f"address {listen!r} has no such port", "ports end at 65535")
    return host, int(port)


def read_token(config: CollectorConfig) -> str:
    """Return the token that agents must bring, "" where none is asked for."""
    if config.token_file is None:
        return config.token
    try:
        token = config.token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"token file {config.token_file} cannot be read: {error}") from error
    if not token:
        raise UsageError(f"token file {config.token_file} is empty")
    return token


def from_process(flags: dict[str, str], config_file: Path | None) -> CollectorConfig:
    """``load`` with this process's environment."""
    return load(flags, dict(os.environ), config_file)
