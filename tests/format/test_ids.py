"""Names and ids: what may become a path, and what never."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logboom.format.errors import BadName
from logboom.format.ids import check_id, check_name, is_name, make_name, make_run_id


@pytest.mark.parametrize(
    "name", ["a", "A1", "gpu-07.rack_2", "slurm-123_4", "0", "x" * 128, "prterun-vm-28613-1"]
)
def test_ordinary_names_are_taken(name: str) -> None:
    assert check_name("run id", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a..b",
        "a.",
        "-a",
        ".hidden",
        "_a",
        "a/b",
        "a\\b",
        "a\0",
        "a\n",
        "ä",
        "a b",
        "x" * 129,
        "con",
        "NUL",
        "nul.txt",
        "Com1.log",
        "lpt9",
        "../../etc/passwd",
    ],
)
def test_what_could_leave_its_folder_is_refused_by_name(name: str) -> None:
    with pytest.raises(BadName, match="run id"):
        check_name("run id", name)


@given(st.text(max_size=300))
def test_any_text_can_be_made_a_name(text: str) -> None:
    made = make_name(text)
    assert is_name(made)
    if is_name(text):
        assert made == text


def test_a_made_up_run_id_is_a_name() -> None:
    made = make_run_id("my exp", 1764000000, b"\x01\x02\x03\xff")
    assert made == "my-exp_1764000000_010203ff"
    assert is_name(make_run_id("e" * 500, 1764000000, b"abcd"))


@pytest.mark.parametrize("value", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 31 + "\n"])
def test_an_id_is_thirty_two_hex_digits(value: str) -> None:
    with pytest.raises(BadName):
        check_id("stream", value)
    assert check_id("stream", "0123456789abcdef" * 2)
