"""Attributes, ends, events and journal lines: there and back, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logboom.format.errors import BadFormat, LogboomError
from logboom.format.events import Event, decode_event, encode_event, read_events
from logboom.format.journal import decode_lines, encode_line
from logboom.format.spool import (
    block_start,
    folder_name,
    offset_name,
    parse_folder_name,
    parse_offset_name,
)
from logboom.format.stream import (
    End,
    Kind,
    StreamAttributes,
    Why,
    decode_attributes,
    decode_end,
    encode_attributes,
    encode_end,
)

HEX = st.binary(min_size=16, max_size=16).map(bytes.hex)
SMALL = st.integers(0, 2**31 - 1)
ATTRIBUTES = st.builds(
    StreamAttributes,
    id=HEX,
    kind=st.sampled_from(Kind),
    run_id=st.from_regex(r"[A-Z][a-z0-9_-]{0,20}", fullmatch=True).filter(
        lambda name: name.lower() not in {"con", "prn", "aux", "nul"}
    ),
    process=HEX,
    rank=st.none() | SMALL,
    world_size=st.integers(1, 2**31 - 1),
    local_rank=st.none() | SMALL,
    pid=SMALL,
    launch_mark=st.text(max_size=30),
    attempt=st.none() | st.integers(0, 9999),
    host=st.text(max_size=30),
    name=st.sampled_from(["", "eval", "rank-0.b"]),
    path=st.text(max_size=30),
    boot_id=st.text(max_size=40),
    started_boot_ns=st.integers(0, 2**63),
    started_unix_ns=st.integers(0, 2**63),
)


@given(ATTRIBUTES)
def test_attributes_come_back_as_written(attributes: StreamAttributes) -> None:
    assert decode_attributes(encode_attributes(attributes)) == attributes
    parsed = parse_folder_name(folder_name(attributes))
    assert parsed == (attributes.kind, attributes.rank, attributes.id)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists) | st.text())
def test_attributes_from_anywhere_are_refused_in_a_sentence(found: object) -> None:
    for content in (json.dumps(found).encode(), json.dumps({"version": 1, "id": found}).encode()):
        with pytest.raises(LogboomError):
            decode_attributes(content)


@pytest.mark.parametrize("what", ["launch_mark", "host", "path", "boot_id"])
def test_texts_and_attempts_without_measure_are_refused(what: str) -> None:
    good = StreamAttributes("0" * 32, Kind.DRIVER, "r", process="1" * 32, attempt=9999)
    changed: dict[str, Any] = {what: "x" * 4096}
    fits = good._replace(**changed)
    assert decode_attributes(encode_attributes(fits)) == fits
    changed[what] += "x"
    for bad in (good._replace(**changed), good._replace(attempt=10_000)):
        with pytest.raises(BadFormat):
            decode_attributes(encode_attributes(bad))


def test_a_key_of_a_newer_minor_version_is_passed_over() -> None:
    attributes = StreamAttributes("0" * 32, Kind.DRIVER, "r", process="1" * 32)
    found = json.loads(encode_attributes(attributes))
    found["colour"] = "red"
    assert decode_attributes(json.dumps(found).encode()) == attributes
    found["version"] = 2
    with pytest.raises(BadFormat, match="version"):
        decode_attributes(json.dumps(found).encode())


def test_a_process_stream_without_its_process_is_refused() -> None:
    with pytest.raises(BadFormat, match="process"):
        decode_attributes(encode_attributes(StreamAttributes("0" * 32, Kind.DRIVER, "r")))


@given(st.integers(0, 2**63), st.integers(0, 2**63), st.sampled_from(Why))
def test_an_end_comes_back_as_written(length: int, boot_ns: int, why: Why) -> None:
    assert decode_end(encode_end(End(length, boot_ns, why))) == End(length, boot_ns, why)


@given(st.integers(0, 10**20 - 1))
def test_an_offset_is_twenty_digits_in_a_name(offset: int) -> None:
    name = offset_name(offset, ".seg")
    assert len(name) == 24
    assert parse_offset_name(name, ".seg") == offset
    assert parse_offset_name(name, ".spans") is None
    assert block_start(offset) <= offset < block_start(offset) + 16 * 1024 * 1024


def test_events_seen_before_and_broken_lines_are_passed_over() -> None:
    first, second = Event(0, 5, "started", {"pid": 1}), Event(1, 6, "exited", {"code": 0})
    content = encode_event(first) + b'{"n":1,"t":\n' + encode_event(first) + encode_event(second)
    found = list(read_events(content + b'{"n":2,"t":7,"ev'))
    assert [event for event, _ in found] == [first, second]
    assert found[-1][1] == len(content)
    assert decode_event(b"[]") is None


def test_reading_events_goes_on_at_a_cursor() -> None:
    lines = [encode_event(Event(n, n, "message", {"text": "x" * n})) for n in range(5)]
    content = b"".join(lines)
    (event, at) = list(read_events(content))[2]
    assert [e.number for e, _ in read_events(content, at, event.number + 1)] == [3, 4]


@given(st.lists(st.dictionaries(st.sampled_from(["why", "stream", "at"]), st.text()), max_size=8))
def test_a_journal_ends_at_its_first_unsound_line(fields: list[dict[str, str]]) -> None:
    lines = [encode_line(n, "lost", found) for n, found in enumerate(fields)]
    content = b"".join(lines)
    whole, taken = decode_lines(content)
    assert (len(whole), taken) == (len(fields), len(content))
    assert [{k: v for k, v in line.items() if k not in ("n", "what")} for line in whole] == fields
    for broken in (content + b'{"n":', content + bytes(40), content + b"\n", content + content):
        again, taken = decode_lines(broken)
        assert taken == len(content) or content == b""
        assert again == whole
    if len(lines) > 1:
        assert decode_lines(b"".join(lines[1:])) == ([], 0)
