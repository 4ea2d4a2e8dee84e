"""What a collector is told."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from logboom.settings import Settings


class CollectorSettings(Settings):
    """What is served from where. Loopback unless told: the wire has no encryption of its own."""

    TABLE: ClassVar[str] = "collector"

    data: Path = Field(description="the data folder; made if it is missing")
    listen: str = Field("127.0.0.1:4319", description="HOST:PORT; port 0 takes a free one")
    drain_timeout_s: float = Field(10.0, gt=0, description="how long a stop may take")

    @field_validator("listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parse_address(value)
        return value


class VerifySettings(Settings):
    """Where ``verify`` looks."""

    TABLE: ClassVar[str] = "collector"

    data: Path = Field(description="the data folder, or a copy of it")


def parse_address(listen: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` (``[::1]:4319`` for IPv6). Raises ``ValueError``."""
    host, colon, port = listen.rpartition(":")
    is_bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not (host and colon and port.isascii() and port.isdigit()) or is_bare_ipv6:
        raise ValueError(f"{listen!r} is not HOST:PORT; such as 127.0.0.1:4319")
    if int(port) > 65535:
        raise ValueError(f"{listen!r} has no such port; ports end at 65535")
    return host, int(port)
