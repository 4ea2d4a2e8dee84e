"""Fixtures for all tests: the real launchers."""

from __future__ import annotations

from launchers import mpich, openmpi

__all__ = ["mpich", "openmpi"]
