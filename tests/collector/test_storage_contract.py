"""What every storage promises, over the folder on disk and over the double that loses power."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from collector.crashstorage import CrashStorage

from logboom.collector.local import LocalStorage
from logboom.collector.storage import LinkInTheWay, Storage


@pytest.fixture(params=["local", "few descriptors", "double"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "double":
        yield CrashStorage()
        return
    limit = 1024 if request.param == "local" else 2
    with LocalStorage(tmp_path, descriptor_limit=limit) as local:
        yield local


def test_what_was_written_is_read_back(storage: Storage) -> None:
    storage.write("a/b/c", 0, b"hello")
    storage.write("a/b/c", 5, memoryview(b" world"))
    assert storage.read("a/b/c", 0, 100) == b"hello world"
    assert storage.read("a/b/c", 4, 3) == b"o w"
    assert storage.read("a/b/c", 11, 5) == b""
    assert storage.length("a/b/c") == 11


def test_a_missing_file_has_no_length_and_cannot_be_read(storage: Storage) -> None:
    assert storage.length("no/such") is None
    with pytest.raises(FileNotFoundError):
        storage.read("no/such", 0, 1)
    assert storage.names("no") == []


def test_a_write_past_the_end_leaves_zeros(storage: Storage) -> None:
    storage.write("f", 3, b"x")
    assert storage.read("f", 0, 10) == b"\0\0\0x"


def test_a_length_can_be_cut_and_extended_with_zeros(storage: Storage) -> None:
    storage.write("f", 0, b"abcdef")
    storage.set_length("f", 2)
    storage.set_length("f", 4)
    assert storage.read("f", 0, 10) == b"ab\0\0"
    storage.set_length("g/new", 0)
    assert storage.length("g/new") == 0


def test_sync_takes_many_files_and_missing_ones(storage: Storage) -> None:
    paths = [f"d/{number}" for number in range(100)]
    for path in paths:
        storage.write(path, 0, path.encode())
    storage.sync(paths)
    storage.sync([*paths[:3], "no/such"])
    assert [storage.read(path, 0, 9).decode() for path in paths] == paths
    assert storage.names("d") == sorted(str(n) for n in range(100))


def test_replace_gives_new_content_to_readers_of_the_old(storage: Storage) -> None:
    storage.replace("x/f", b"one")
    assert storage.read("x/f", 0, 9) == b"one"
    storage.replace("x/f", b"other")
    assert storage.read("x/f", 0, 9) == b"other"
    assert storage.names("x") == ["f"]


def test_a_link_can_be_made_and_moved(storage: Storage) -> None:
    storage.link("r/latest", "retry_001")
    storage.link("r/latest", "retry_001")
    storage.link("r/latest", "retry_002")
    assert storage.names("r") == ["latest"]


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    os.symlink("../outside", root / "folder")
    os.symlink("../outside/f", root / "file")
    os.mkfifo(root / "pipe")
    with LocalStorage(root) as local:
        for path in ("folder/f", "file", "pipe"):
            with pytest.raises(LinkInTheWay):
                local.read(path, 0, 6)
            with pytest.raises(LinkInTheWay):
                local.write(path, 0, b"x")
    assert (tmp_path / "outside" / "f").read_text() == "secret"


def test_descriptors_stay_bounded_over_thousands_of_files(tmp_path: Path) -> None:
    with LocalStorage(tmp_path, descriptor_limit=50) as local:
        before = len(os.listdir("/proc/self/fd"))
        for number in range(2000):
            local.write(f"f{number % 700}", number // 700, b"x")
        assert len(os.listdir("/proc/self/fd")) <= before + 51
        local.sync([f"f{number}" for number in range(700)])
        assert {local.length(f"f{number}") for number in range(600)} == {3}


def test_a_folder_that_became_a_link_does_not_fail_a_sync(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with LocalStorage(root) as local:
        local.write("a/b/f", 0, b"x")
        os.rename(root / "a", tmp_path / "a")
        os.symlink(tmp_path / "a", root / "a")
        local.write("c/f", 0, b"y")
        for _ in range(2):
            local.sync(["c/f"])
