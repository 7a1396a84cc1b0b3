"""Queries, row by row, as the kubelet reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.server import instant
from vkubelet.server.log_options import (
    STREAMS,
    InvalidOptionsError,
    LogOptions,
    UndecodableError,
    decode,
)

NOW = instant.parse(b"2026-11-24T02:00:00Z")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, LogOptions()),
        ({"unknown": "x", "container": "y"}, LogOptions()),
        ({"follow": "true"}, LogOptions(follow=True)),
        ({"follow": "1", "previous": "yes", "timestamps": ""}, LogOptions(True, True, True)),
        ({"follow": "false", "previous": "0", "timestamps": "FALSE"}, LogOptions()),
        ({"tailLines": "0"}, LogOptions(tail_lines=0)),
        ({"tailLines": "+10"}, LogOptions(tail_lines=10)),
        ({"tail": "5"}, LogOptions(tail_lines=5)),
        ({"tail": "5", "tailLines": "6"}, LogOptions(tail_lines=5)),
        ({"tail": "all", "tailLines": "6"}, LogOptions()),
        ({"tail": "", "tailLines": "6"}, LogOptions(tail_lines=6)),
        ({"tailLines": "9223372036854775807"}, LogOptions(tail_lines=2**63 - 1)),
        ({"limitBytes": "1"}, LogOptions(limit_bytes=1)),
        ({"sinceSeconds": "90"}, LogOptions(since=NOW - 90 * 10**9)),
        ({"sinceSeconds": "9223372036854775807"}, LogOptions()),
        ({"sinceTime": "2026-11-24T01:00:00Z"}, LogOptions(since=NOW - 3600 * 10**9)),
        ({"sinceTime": "2026-11-24T01:00:00.5+01:00"}, LogOptions(since=NOW - 7200 * 10**9 + 5 * 10**8)),
        ({"sinceTime": ""}, LogOptions()),
        ({"sinceTime": "null"}, LogOptions()),
        ({"sinceTime": "0001-01-01T00:00:00Z"}, LogOptions()),
        ({"stream": "All", "tailLines": "1"}, LogOptions(tail_lines=1)),
        ({"stream": "Stdout"}, LogOptions(streams=STREAMS["Stdout"])),
        ({"stream": "Stderr"}, LogOptions(streams=STREAMS["Stderr"])),
    ],
)
def test_accepted(query, expected):
    assert decode(query, NOW) == expected


@pytest.mark.parametrize("name", ["tailLines", "tail", "limitBytes", "sinceSeconds"])
@pytest.mark.parametrize(
    "value",
    ["x", "1.5", "1_000", " 1", "0x10", "\u0661", "9223372036854775808", "-9223372036854775809", "1" * 5000],
)
def test_no_integer(name, value):
    with pytest.raises(UndecodableError, match=name):
        decode({name: value}, NOW)


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "2026-11-24",
        "2026-11-24T01:00:00",
        "2026-11-24t01:00:00z",
        "2026-13-24T01:00:00Z",
        "2026-11-24T01:00:60Z",
        "2026-11-24T01:00:00+25:00",
        "2026-11-24T01:00:00+01:60",
        "2026-11-24T01:00:00Z ",
        "\u0662026-11-24T01:00:00Z",
    ],
)
def test_no_instant(value):
    with pytest.raises(UndecodableError, match="sinceTime"):
        decode({"sinceTime": value}, NOW)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"tailLines": "-1"}, "tailLines"),
        ({"limitBytes": "0"}, "limitBytes"),
        ({"limitBytes": "-5"}, "limitBytes"),
        ({"sinceSeconds": "0"}, "sinceSeconds"),
        ({"sinceSeconds": "-1"}, "sinceSeconds"),
        ({"sinceSeconds": "1", "sinceTime": "2026-11-24T01:00:00Z"}, "at most one"),
        ({"sinceSeconds": "1", "sinceTime": ""}, "at most one"),
        ({"stream": "stdout"}, "stream"),
        ({"stream": ""}, "stream"),
        ({"stream": "Stdout", "tailLines": "1"}, "mutually exclusive"),
    ],
)
def test_senseless(query, names):
    with pytest.raises(InvalidOptionsError, match=names):
        decode(query, NOW)


@given(st.integers(0, 253402300799 * 10**9 + 999_999_999))
def test_instants_survive_the_way_there_and_back(nanoseconds):
    text = instant.utc(nanoseconds)
    assert len(text) == 30
    assert instant.parse(text) == nanoseconds
    assert instant.fixed(text) == text


@given(
    st.dictionaries(st.sampled_from(["tail", "tailLines", "sinceTime", "stream", "limitBytes"]), st.text())
)
def test_any_text_is_answered(query):
    try:
        decode(query, NOW)
    except (UndecodableError, InvalidOptionsError) as error:
        assert str(error)  # noqa: PT017  either is an answer, anything else is a defect
