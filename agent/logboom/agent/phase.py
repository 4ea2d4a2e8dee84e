"""The phases of a connection, as the agent sees it, and what moves it from one to the next."""

from __future__ import annotations

import enum


class OutOfTurn(Exception):
    """An event came in a state that has no place for it; nothing was changed."""


class Phase(enum.Enum):
    """Where the connection stands."""

    RESTING = "waits to connect"
    CONNECTING = "connecting"
    GREETING = "hello sent"
    MEASURING = "the clock is measured"
    SHIPPING = "shipping"
    LEAVING = "half-closed"
    LEFT = "left"


class Step(enum.Enum):
    """What moves a connection on."""

    CONNECT = "connect"
    CONNECTED = "connected"
    WELCOMED = "welcomed"
    MEASURED = "measured"
    LEAVE = "leave"
    DISCONNECTED = "disconnected"


_CALLED = (Phase.CONNECTING, Phase.GREETING, Phase.MEASURING, Phase.SHIPPING)
_NEXT = {
    (Phase.RESTING, Step.CONNECT): Phase.CONNECTING,
    (Phase.CONNECTING, Step.CONNECTED): Phase.GREETING,
    (Phase.GREETING, Step.WELCOMED): Phase.MEASURING,
    (Phase.MEASURING, Step.MEASURED): Phase.SHIPPING,
    (Phase.SHIPPING, Step.LEAVE): Phase.LEAVING,
    **{(phase, Step.DISCONNECTED): Phase.RESTING for phase in _CALLED},
    (Phase.LEAVING, Step.DISCONNECTED): Phase.LEFT,
}


def following(phase: Phase, step: Step) -> Phase:
    """Return the next phase. Raises ``OutOfTurn`` where ``phase`` has no place for ``step``."""
    found = _NEXT.get((phase, step))
    if found is None:
        raise OutOfTurn(f"{step.value!r} while the connection stands at {phase.value!r}")
    return found
