"""Names: run, rank, world size, local rank, launch mark, from flags and launchers' variables.

Law
    * The innermost launcher counts: torchrun, Open MPI, Hydra, Slurm (not its batch step), in
      this order; a flag or ``LOGBOOM_...`` goes before them all, each for itself.
    * The *launch mark* says which ranks were started together, and only the launcher that
      started this process says it. Under torchrun there is none, whoever started torchrun: it
      starts its workers anew without telling.
    * The run id must come out the same on every node, so it is made up only for a world of one.
    * What a launcher says is passed over where it makes no sense; what the user says is trouble.
"""

from __future__ import annotations

from typing import Callable, Mapping, NamedTuple

from logboom.format.ids import check_name, make_name
from logboom.shim.settings import LAUNCH_MARK, Settings
from logboom.shim.trouble import Trouble


class Names(NamedTuple):
    """Who this process is among the processes of its run."""

    run_id: str
    rank: int | None
    world_size: int
    local_rank: int | None
    local_size: int  # how many ranks share this node, as far as anybody says
    launch_mark: str


class Place(NamedTuple):
    """A process's place in its world, as a launcher says it."""

    launcher: str
    rank: int
    world_size: int
    local_rank: int | None
    local_size: int | None


# launcher -> variables of rank, world size, local rank, local size
_VARIABLES = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    "openmpi": (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "hydra": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", ""),
}
_SLURM_SPECIAL_STEP = 0xFFFFFFF0  # batch, extern and interactive steps are numbered from here


def find_place(env: Mapping[str, str]) -> Place | None:
    """Return the place that the innermost launcher gives this process, or None without one."""
    for launcher, (rank, size, local_rank, local_size) in _VARIABLES.items():
        if launcher == "torchrun" and "TORCHELASTIC_RUN_ID" not in env:
            continue
        if launcher == "slurm" and not _is_slurm_step(env):
            continue
        r, n = _number(env, rank), _number(env, size)
        if r is not None and n is not None and r < n:
            return Place(launcher, r, n, _number(env, local_rank), _number(env, local_size))
    return None


def make_names(settings: Settings, env: Mapping[str, str], make_run_id: Callable[[], str]) -> Names:
    """Return who this process is. Raises ``Trouble`` or ``BadName``.

    ``make_run_id`` is called where a run id has to be made up.
    """
    place = find_place(env)
    rank, size, local_rank = settings.rank, settings.world_size, settings.local_rank
    if place is not None and rank is None:
        rank = place.rank
    if size is None:
        size = place.world_size if place is not None else 1
        if rank is not None and rank >= size:
            size = rank + 1  # a rank without a size: the smallest world that has it
    if rank is not None and rank >= size:
        raise Trouble("rank %d is not one of %d" % (rank, size), "give --rank and --world-size")
    if local_rank is None and place is not None:
        local_rank = place.local_rank
    run_id = find_run_id(settings, env)
    if not run_id:
        if size > 1:
            raise Trouble(
                "nothing says which run this rank of %d belongs to" % size,
                "give --run-id or LOGBOOM_RUN_ID, the same on every node",
            )
        run_id = make_run_id()
    local_size = size if place is None or not place.local_size else place.local_size
    return Names(run_id, rank, size, local_rank, local_size, find_launch_mark(place, env))


def find_run_id(settings: Settings, env: Mapping[str, str]) -> str:
    """Return the run id that was given or follows from the launcher, or "". Raises ``BadName``."""
    if settings.run_id:
        return check_name("run id", settings.run_id)
    job = env.get("SLURM_ARRAY_JOB_ID") or env.get("SLURM_JOB_ID", "")
    if job:
        task = env.get("SLURM_ARRAY_TASK_ID", "")
        return make_name("slurm-%s%s" % (job, "_" + task if task else ""))
    for variable in (
        "TORCHELASTIC_RUN_ID", "PMIX_NAMESPACE", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID",
    ):  # fmt: skip
        value = env.get(variable, "")
        if value and not (variable == "TORCHELASTIC_RUN_ID" and value == "none"):
            return make_name(value)
    return ""


def find_launch_mark(place: Place | None, env: Mapping[str, str]) -> str:
    """Return what is the same for all ranks that were started together, or ""."""
    launcher = "" if place is None else place.launcher
    if launcher == "torchrun" or "TORCHELASTIC_RUN_ID" in env:
        return ""
    if env.get(LAUNCH_MARK):
        return printable(env[LAUNCH_MARK])[:200]
    if launcher == "slurm":
        job, step = env.get("SLURM_JOB_ID", ""), env.get("SLURM_STEP_ID", "")
        return printable("slurm-%s.%s.%s" % (job, step, env.get("SLURM_RESTART_COUNT") or "0"))
    if launcher == "hydra":
        return ""  # it says nothing, and a PMIX_NAMESPACE here is some outer launcher's
    return printable(env.get("PMIX_NAMESPACE", ""))[:200]


def printable(text: str) -> str:
    """Return a word of the system's as text that can be stored, whatever bytes it was."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _is_slurm_step(env: Mapping[str, str]) -> bool:
    step = _number(env, "SLURM_STEP_ID")
    return step is not None and step < _SLURM_SPECIAL_STEP


def _number(env: Mapping[str, str], variable: str) -> int | None:
    text = env.get(variable, "")
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**31:
        return int(text)
    return None
