"""Real launchers for tests: where their ``mpirun`` is, and how to call it.

``LOGBOOM_TEST_OPENMPI_BIN`` (default: beside this interpreter) and ``LOGBOOM_TEST_MPICH_BIN``
(default: ``.venv-mpich/bin`` of the repository) name the folders. Where one is missing the test is
skipped, but not in CI (``CI=true``), where it fails.

Use: ``from launchers import mpich, openmpi  # noqa: F401``, then take the fixture.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
_AS_ROOT = (
    "OMPI_ALLOW_RUN_AS_ROOT",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
    "PRTE_ALLOW_RUN_AS_ROOT",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM",
)


@dataclass(frozen=True)
class Launcher:
    """An installed ``mpirun``."""

    name: str
    bin: Path

    @property
    def python(self) -> str:
        """The interpreter that has the mpi4py which fits this launcher."""
        own = self.bin / "python"
        return str(own) if own.exists() else sys.executable

    def words(self, ranks: int, program: Sequence[str]) -> list[str]:
        """Return the command line that runs ``program`` on ``ranks`` ranks."""
        options = ["--oversubscribe"] if self.name == "openmpi" else []
        return [str(self.bin / "mpirun"), *options, "-n", str(ranks), *program]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment to call it in: nothing of ours or of another launcher in it."""
        ours = ("LOGBOOM_", "OMPI_", "PRTE_", "PMIX_", "PMI_", "MPI_", "SLURM_", "TORCHELASTIC_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        kept.update(dict.fromkeys(_AS_ROOT, "1"))
        kept.update({"HOME": os.environ.get("HOME", "/tmp"), **(more or {})})
        return kept

    def run(
        self,
        ranks: int,
        program: Sequence[str],
        more: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``program`` to its end; stdout and stderr are kept apart."""
        return subprocess.run(
            self.words(ranks, program),
            env=self.environment(more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )


def lacking(what: str) -> NoReturn:
    """Skip the test because ``what`` is missing here; in CI, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def _find(name: str, variable: str, default: Path) -> Launcher:
    folder = Path(os.environ.get(variable, default))
    if not (folder / "mpirun").exists():
        lacking(f"no {name} in {folder}; {variable} names the folder of its mpirun")
    return Launcher(name, folder)


@pytest.fixture(scope="session")
def openmpi() -> Launcher:
    """Open MPI."""
    return _find("openmpi", "LOGBOOM_TEST_OPENMPI_BIN", Path(sys.executable).parent)


@pytest.fixture(scope="session")
def mpich() -> Launcher:
    """MPICH."""
    return _find("mpich", "LOGBOOM_TEST_MPICH_BIN", ROOT / ".venv-mpich" / "bin")
