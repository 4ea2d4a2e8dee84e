"""No crash loses a derived line or writes one twice, whatever file it stands in."""

from __future__ import annotations

import random

import pytest
from collector.crashstorage import CrashStorage, Killed
from collector.scenario import RUN_ID, commit
from collector.wholerun import FOLDER, derived, finish, opened, sent

from logboom.collector.verify import Verdict, verify_run
from logboom.format.tree import OURS


def lines_of(files: dict[str, bytes]) -> dict[str, list[bytes]]:
    """Return each file's lines, sorted: a crash may change the order of what came at once."""
    assert all(content.endswith(b"\n") for content in files.values() if content)
    return {path: sorted(content.splitlines()) for path, content in files.items() if content}


def quiet() -> CrashStorage:
    storage = CrashStorage()
    finish(*opened(storage), sent())
    return storage


def test_each_attempt_ends_with_one_line_of_all() -> None:
    files = derived(quiet())
    for attempt in ("", "retry_001/"):
        status = files[attempt + "azureml-logs/process_status.json"].splitlines()
        assert [b'"process_name":"*"' in line for line in status].count(True) == 1
        assert status[-1] == (
            b'{"process_name":"*","timestamp":"2026-11-23T08:31:07.764428389Z","status":"Terminated"}'
        )


@pytest.mark.parametrize("is_power_cut", [False, True])
def test_a_crash_between_any_two_steps_loses_no_line_and_writes_none_twice(
    is_power_cut: bool,
) -> None:
    whole = quiet()
    expected, links = lines_of(derived(whole)), whole.links()
    assert whole.changes > 50
    for fuse in range(whole.changes):
        storage = CrashStorage()
        storage.fuse = fuse
        with pytest.raises(Killed):
            finish(*opened(storage), sent())
        storage.fuse = -1
        if is_power_cut:
            storage.lose_power(random.Random(fuse))
        run, group = opened(storage)
        finish(run, group, sent())
        commit(group)
        assert lines_of(derived(storage)) == expected, f"crash at step {fuse}"
        assert storage.links() == links, f"crash at step {fuse}"
        found = {f.verdict for f in verify_run(storage, RUN_ID)}
        assert found == {Verdict.COMPLETE, Verdict.INCOMPLETE}, "a rank says it lost bytes"


def test_what_is_derived_comes_again_byte_for_byte_when_it_was_removed() -> None:
    storage = quiet()
    expected, links = derived(storage), storage.links()
    for path in expected:
        storage.remove(FOLDER + path)
    for path in links:
        storage.remove(path)
    assert not derived(storage)
    _, group = opened(storage)
    commit(group)
    assert derived(storage) == expected
    assert storage.links() == links
    assert any(path.startswith(FOLDER + OURS) for path in storage.files())


def test_what_somebody_wrote_into_a_derived_file_is_cut_and_told_anew() -> None:
    storage = quiet()
    expected = derived(storage)
    for path, content in expected.items():
        if content:
            storage.write(FOLDER + path, len(content) // 2, b"#\n#")
            storage.write(FOLDER + path, len(content), b"more\n")
    _, group = opened(storage)
    commit(group)
    assert derived(storage) == expected
