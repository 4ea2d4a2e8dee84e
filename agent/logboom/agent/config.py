"""Settings of the agent: flag, then ``LOGBOOM_...``, then ``--config`` (TOML), then default.

Law
    * One frozen object, checked once. Each default stands once, here, with its reason.
    * An unknown key in the file is an error; so is a known one with a wrong value, wherever it
      came from. Unknown variables are passed over, and so is what Kubernetes injects for a
      service that is named like us (``tcp://...``).
    * In the file, keys stand at the top or in ``[agent]``; other tables are other programs'.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from logboom.agent.spool import default_place
from logboom.format.errors import UsageError

PREFIX = "LOGBOOM_"
TABLE = "agent"
_INJECTED = ("tcp://", "udp://", "sctp://")


class Settings(BaseSettings):
    """What the user said, and what holds where nothing was said."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX)

    spool: str = Field(
        default_factory=default_place,
        description="the folder of streams; by default where the recorders of this user put it",
    )
    collector: str = Field(
        default="", description="HOST:PORT of the collector; there is none that would be right"
    )
    node_id: str = Field(default="", description="the node's name; by default its host name")
    node_ip: str = Field(
        default="",
        description="the node's address; by default the one that reaches the collector",
    )
    token: str = Field(
        default="",
        repr=False,
        description="what the collector asks for; empty, because one given none asks for none",
    )
    token_file: str = Field(
        default="", description="a file with the token, so that it stands in no process list"
    )
    until_drained: bool = Field(
        default=False, description="end when all is delivered; an agent of a node stays"
    )
    leave_when_idle: bool = Field(
        default=False, description="end when nobody needs us; only an agent that a shim started"
    )

    @field_validator("collector")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return check_address(value) if value else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the sources that ``load`` has put in their order, and no others."""
        given: list[dict[str, Any]] = init_settings().get("sources", [])
        return tuple(InitSettingsSource(settings_cls, source) for source in given)


def check_address(value: str) -> str:
    """Return HOST:PORT unchanged. Raises ``ValueError``."""
    host, colon, port = value.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536
    if not colon or not host or not is_port or "/" in host or any(c.isspace() for c in host):
        raise ValueError(f"{value!r} is not HOST:PORT; such as collector-0:4319")
    return value


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that the environment holds."""
    found = {}
    for name in Settings.model_fields:
        value = environment.get(PREFIX + name.upper(), "")
        if value and not value.startswith(_INJECTED):
            found[name] = value
    return found


def read_file(path: str) -> dict[str, Any]:
    """Return the settings in a TOML file. Raises ``UsageError``."""
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"configuration {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"configuration {path} is no TOML: {error}") from error
    found = {key: value for key, value in content.items() if not isinstance(value, dict)}
    found.update(content.get(TABLE, {}))
    for key in found:
        if key not in Settings.model_fields:
            known = ", ".join(Settings.model_fields)
            raise UsageError(
                f"configuration {path} has an unknown key {key!r}", f"it takes {known}"
            )
    return found


def load(
    flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ, config: str = ""
) -> Settings:
    """Return the settings. ``flags``: those given only. Raises ``UsageError``."""
    sources: list[dict[str, Any]] = [dict(flags), dict(variables(environment))]
    if config:
        sources.append(read_file(config))
    try:
        return Settings(sources=sources)  # type: ignore[call-arg]
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        text = str(first["msg"]).removeprefix("Value error, ")
        raise UsageError(f"setting {name}: {text}") from error


def read_token(settings: Settings) -> str:
    """Return the token, from its file if one is named. Raises ``UsageError``."""
    if not settings.token_file:
        return settings.token
    try:
        with open(settings.token_file, encoding="utf-8") as file:
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"token file {settings.token_file} cannot be read: {error}") from error
    if not token:
        raise UsageError(f"token file {settings.token_file} is empty")
    return token
