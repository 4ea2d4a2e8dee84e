"""What an agent is told."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from logboom.agent.spool import default_place
from logboom.settings import Settings


class AgentSettings(Settings):
    """What the user said, and what holds where nothing was said."""

    TABLE: ClassVar[str] = "agent"

    spool: str = Field(
        default_factory=default_place,
        description="the folder of streams; by default where the recorders of this user put it",
    )
    collector: str = Field(
        "", description="HOST:PORT of the collector; there is none that would be right"
    )
    node_id: str = Field("", description="the node's name; by default its host name")
    node_ip: str = Field(
        "", description="the node's address; by default the one that reaches the collector"
    )
    until_drained: bool = Field(
        False, description="end when all is delivered; an agent of a node stays"
    )
    leave_when_idle: bool = Field(
        False, description="end when nobody needs us; only an agent that a shim started"
    )

    @field_validator("collector")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return check_address(value) if value else value


def check_address(value: str) -> str:
    """Return HOST:PORT unchanged. Raises ``ValueError``."""
    host, colon, port = value.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536
    if not colon or not host or not is_port or "/" in host or any(c.isspace() for c in host):
        raise ValueError(f"{value!r} is not HOST:PORT; such as collector-0:4319")
    return value
