"""Settings and names: what flags, variables and launchers say of a process."""

from __future__ import annotations

import pytest

from logboom.format.errors import BadName, UsageError
from logboom.shim.names import Names, make_names
from logboom.shim.settings import PIPE_BYTES, Settings, make_settings, split_words
from logboom.shim.shim import pipe_size
from logboom.shim.trouble import Trouble

OPENMPI = {
    "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "PMIX_NAMESPACE": "prterun-vm-28613@1", "PMIX_RANK": "3",
}  # fmt: skip
HYDRA = {"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "job/7", "TORCHELASTIC_RESTART_COUNT": "1", "RANK": "5",
    "WORLD_SIZE": "6", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "3",
}  # fmt: skip
SLURM = {
    "SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
}  # fmt: skip


def _names(env: dict[str, str], **said: object) -> Names:
    return make_names(Settings(**said), env, lambda: "made_up")  # type: ignore[arg-type]


def test_without_a_launcher_a_process_is_a_world_of_one() -> None:
    assert _names({}) == Names("made_up", None, 1, None, 1, "")


def test_open_mpi_says_it_all() -> None:
    assert _names(OPENMPI) == Names("prterun-vm-28613-1", 3, 8, 1, 2, "prterun-vm-28613@1")


def test_hydra_says_no_run_and_no_mark() -> None:
    assert _names(HYDRA, run_id="r") == Names("r", 2, 4, 0, 2, "")
    with pytest.raises(Trouble, match="--run-id"):
        _names(HYDRA)


def test_slurm_says_job_task_and_step() -> None:
    assert _names(SLURM) == Names("slurm-77", 1, 4, 1, 4, "slurm-77.0.0")
    again = SLURM | {
        "SLURM_RESTART_COUNT": "2", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "7",
    }  # fmt: skip
    assert _names(again) == Names("slurm-70_7", 1, 4, 1, 4, "slurm-77.0.2")


@pytest.mark.parametrize("step", [None, "4294967291"])
def test_slurms_batch_step_has_no_ranks(step: str | None) -> None:
    batch = {key: value for key, value in SLURM.items() if key != "SLURM_STEP_ID"}
    batch |= {} if step is None else {"SLURM_STEP_ID": step}
    assert _names(batch) == Names("slurm-77", None, 1, None, 1, "")


def test_the_innermost_launcher_counts() -> None:
    found = _names(SLURM | OPENMPI | TORCHRUN)
    assert (found.rank, found.world_size, found.local_rank) == (5, 6, 2)
    assert _names(SLURM | OPENMPI).rank == 3
    assert _names(SLURM | HYDRA).rank == 2


def test_variables_of_torchrun_count_only_below_torchrun() -> None:
    assert _names({"RANK": "5", "WORLD_SIZE": "6"}).rank is None


def test_under_torchrun_there_is_no_launch_mark_whoever_started_it() -> None:
    assert _names(OPENMPI | TORCHRUN).launch_mark == ""
    assert _names(TORCHRUN | {"LOGBOOM_LAUNCH_MARK": "m"}).launch_mark == ""


def test_a_mark_of_any_bytes_can_be_stored() -> None:
    assert _names(OPENMPI | {"LOGBOOM_LAUNCH_MARK": "m\udcff"}).launch_mark == "m\ufffd"
    assert _names(OPENMPI | {"PMIX_NAMESPACE": "m\udcff"}, run_id="r").launch_mark == "m\ufffd"


def test_the_mark_of_our_wrapper_goes_first() -> None:
    assert _names(OPENMPI | {"LOGBOOM_LAUNCH_MARK": "m"}).launch_mark == "m"


def test_a_run_id_of_a_launcher_is_made_to_fit_and_one_of_the_user_is_not() -> None:
    assert _names(TORCHRUN).run_id == "job-7"
    assert (
        _names(TORCHRUN | {"TORCHELASTIC_RUN_ID": "none"}, world_size=6, run_id="x").run_id == "x"
    )
    with pytest.raises(BadName, match="run id"):
        _names({}, run_id="job/7")


def test_a_flag_goes_before_the_launcher_each_for_itself() -> None:
    assert _names(OPENMPI, rank=0).rank == 0
    assert _names(OPENMPI, rank=0).world_size == 8
    assert _names(OPENMPI, local_rank=5)[1:4] == (3, 8, 5)


def test_a_rank_without_a_size_is_the_last_of_its_world() -> None:
    assert _names({}, rank=2, run_id="r").world_size == 3


def test_a_launchers_nonsense_is_passed_over() -> None:
    assert _names(OPENMPI | {"OMPI_COMM_WORLD_RANK": "x"}, run_id="r").rank is None
    assert _names(OPENMPI | {"OMPI_COMM_WORLD_RANK": "8"}, run_id="r").rank is None


def test_words_are_taken_apart() -> None:
    words = split_words(["--rank", "1", "--run-id=r", "--no-tee", "--", "cmd", "--rank", "2", "--"])
    assert words.flags == {"rank": "1", "run_id": "r"}
    assert words.command == ["cmd", "--rank", "2", "--"]
    assert split_words(["--rank", "1", "cmd", "-x"]).command == ["cmd", "-x"]


def test_an_unknown_flag_is_trouble_where_the_command_is_clear() -> None:
    words = split_words(["--what", "7", "--", "cmd"])
    assert "--what" in words.trouble
    assert words.command == ["cmd"]
    with pytest.raises(UsageError, match="--what"):
        split_words(["--what", "7", "cmd"])


@pytest.mark.parametrize(
    "words",
    [
        ["--nmae=x", "--run-id", "R", "sh", "-c", "true", "--", "echo", "WRONG"],
        ["--nmae", "x", "sh", "-c", "true", "--", "echo", "WRONG"],
        ["--nmae", "x", "-v", "--", "echo", "WRONG"],
        ["--run-id", "--nmae=x", "sh", "--", "echo", "WRONG"],
    ],
)
def test_a_separator_of_the_commands_own_is_never_taken_for_ours(words: list[str]) -> None:
    with pytest.raises(UsageError, match="no -- ends our arguments"):
        split_words(words)


@pytest.mark.parametrize(
    "flags",
    [["--nmae=x", "--run-id", "R"], ["--nmae", "x", "--rank=1"], ["--rank", "--nmae"], ["--rank"]],
)
def test_our_own_separator_is_found_whatever_the_flags(flags: list[str]) -> None:
    words = split_words([*flags, "--", "sh", "-c", "true", "--", "x"])
    assert words.command == ["sh", "-c", "true", "--", "x"]
    assert words.trouble.startswith("argument --")


def test_a_flag_goes_before_its_variable() -> None:
    env = {"LOGBOOM_RANK": "1", "LOGBOOM_SPOOL": "/s", "LOGBOOM_WORLD_SIZE": ""}
    found = make_settings({"rank": "2"}, env, False)
    assert (found.rank, found.spool, found.world_size) == (2, "/s", None)


def test_what_kubernetes_injects_is_passed_over() -> None:
    env = {"LOGBOOM_COLLECTOR": "tcp://10.0.0.1:4319", "LOGBOOM_COLLECTOR_SERVICE_HOST": "10.0.0.1"}
    assert make_settings({}, env, False).collector == ""


def test_many_ranks_of_a_user_share_the_pipe_budget() -> None:
    assert pipe_size(0, 4096, 1000) == PIPE_BYTES
    assert pipe_size(16384, 4096, 8) == PIPE_BYTES
    assert pipe_size(16384, 4096, 32) == PIPE_BYTES // 2
    assert pipe_size(16384, 4096, 64) == 0
