"""The CRI log format against a reference that is written for clarity only, one line at a time."""

from __future__ import annotations

import datetime
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.server import cri_log
from vkubelet.server.cri_log import LogFilter, parse_line, tail_offset
from vkubelet.server.instant import parse as nanoseconds
from vkubelet.server.log_options import STREAMS, LogOptions

T = b"2026-11-24T02:00:%02d.%09dZ"


def at(second: int, fraction: int = 0) -> bytes:
    return T % (second, fraction)


def reference(data: bytes, options: LogOptions) -> bytes:
    """What the client of a log that is not followed gets."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+", data)
    left = None
    if options.tail_lines is not None:
        torn = bool(lines) and not lines[-1].endswith(b"\n")
        whole = len(lines) - torn
        lines = lines[max(0, whole - options.tail_lines) :]
        left = options.tail_lines
    output = b""
    begins = True
    for line in lines:
        if left == 0:
            break
        match = re.fullmatch(rb"(\S+) (stdout|stderr) ([^ ]*) (.*\n?)", line, re.DOTALL)
        if match is None or b" " in match[1]:
            continue
        try:
            time = nanoseconds(match[1])
        except ValueError:
            continue
        content = match[4]
        if match[3].split(b":")[0] == b"P":
            content = content.removesuffix(b"\n")
        if (options.since is None or time >= options.since) and match[2] in options.streams:
            if options.timestamps and begins:
                output += shown(match[1]) + b" "
            output += content
        begins = content == b"" or content.endswith(b"\n")
        left = None if left is None else left - 1
    return output if options.limit_bytes is None else output[: options.limit_bytes]


def shown(time: bytes) -> bytes:
    """The time in fixed width, by way of datetime for all but the fraction."""
    text = time.decode().replace(",", ".")
    fraction = re.search(r"[.](\d+)", text)
    moment = datetime.datetime.fromisoformat(re.sub(r"[.]\d+", "", text))
    zone = "Z" if not moment.utcoffset() else moment.isoformat()[-6:]
    digits = (fraction[1] if fraction else "")[:9].ljust(9, "0")
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{digits}{zone}".encode()


contents = st.one_of(
    st.binary(max_size=12).map(lambda content: content.replace(b"\n", b"")),
    st.sampled_from([b"", b" ", b"Z stdout F ", b"\r", at(1) + b" stdout F x", b"a b c d"]),
)
fixed_times = st.builds(at, st.integers(0, 59), st.integers(0, 10**9 - 1))
other_times = st.sampled_from(
    [
        b"2026-11-24T02:00:30Z",
        b"2026-11-24T02:00:30.5Z",
        b"2026-11-24T04:00:29.999999999+02:00",
        b"2026-11-23T21:30:31.000000001-04:30",
        b"2026-11-24T02:00:30.000000000+00:00",
        b"2026-11-24T02:00:30,25Z",
        b"2026-11-24T02:00:30.1234567891234Z",
    ]
)
streams = st.sampled_from([b"stdout", b"stderr"])
tags = st.sampled_from([b"F", b"P", b"F:x", b"P:x:y", b"Q"])
own_lines = st.builds(lambda *parts: b" ".join(parts), fixed_times, streams, st.just(b"F"), contents)
written_lines = st.builds(
    lambda *parts: b" ".join(parts), st.one_of(fixed_times, other_times), streams, tags, contents
)
broken_lines = st.one_of(
    contents,
    st.sampled_from(
        [
            at(1),
            at(1) + b" stdout",
            at(1) + b" stdout F",
            at(1) + b" stdin F x",
            b"2026-02-30T00:00:00Z stdout F no such day",
            b"2026-11-24T25:00:00Z stdout F no such hour",
            b"2026-11-24T02:00:00 stdout F no zone",
            b"2026-11-24T02:00:00+99:00 stdout F no such zone",
            b'{"log":"another format"}',
            b" stdout F no time",
        ]
    ),
)
files = st.builds(
    lambda lines, torn: b"".join(line + b"\n" for line in lines) + torn,
    st.one_of(
        st.lists(own_lines, max_size=12),
        st.lists(written_lines, max_size=12),
        st.lists(st.one_of(own_lines, written_lines, broken_lines), max_size=12),
    ),
    st.one_of(st.just(b""), own_lines, written_lines, broken_lines),
)
instants = st.builds(nanoseconds, fixed_times) | st.just(nanoseconds(b"2026-11-24T02:00:30Z"))
options = st.builds(
    LogOptions,
    timestamps=st.booleans(),
    since=st.none() | instants,
    tail_lines=st.none() | st.integers(0, 14),
    limit_bytes=st.none() | st.integers(1, 200),
    streams=st.sampled_from(list(STREAMS.values())),
)


def filtered(data: bytes, wanted: LogOptions, cuts: list[int]) -> bytes:
    """What the filter makes of `data`, from its tail on, fed in pieces cut at `cuts`."""
    start = 0
    if wanted.tail_lines is not None:
        start = tail_offset(lambda at, n: data[at : at + n], len(data), wanted.tail_lines, block=7)
    log = LogFilter(wanted)
    edges = sorted({start, len(data), *(cut for cut in cuts if start < cut < len(data))})
    output = b"".join(log.feed(data[a:b]) for a, b in itertools.pairwise(edges))
    return output + log.end_of_file()


@given(files, options, st.lists(st.integers(0, 1000), max_size=6))
def test_the_filter_is_the_reference(data, wanted, cuts):
    assert filtered(data, wanted, cuts) == reference(data, wanted)


@given(st.binary(max_size=60), options, st.lists(st.integers(0, 60), max_size=3))
def test_any_bytes_are_taken(data, wanted, cuts):
    assert filtered(data, wanted, cuts) == reference(data, wanted)


@given(
    st.binary(max_size=80) | st.lists(st.sampled_from([b"\n", b"a", b"bc"])).map(b"".join),
    st.integers(0, 10),
    st.integers(1, 9),
)
def test_the_tail_is_found_with_any_block_size(data, lines, block):
    offset = tail_offset(lambda at, n: data[at : at + n], len(data), lines, block)
    complete = re.findall(rb"[^\n]*\n", data)
    kept = complete[max(0, len(complete) - lines) :]
    torn = data[len(b"".join(complete)) :]
    assert data[offset:] == b"".join(kept) + torn


def test_the_tail_of_a_large_file_reads_its_end_only():
    asked: list[int] = []

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return (b"x" * 99 + b"\n") * (length // 100 + 1)

    tail_offset(read, 2**40, 10)
    assert sum(asked) <= 65536


HELLO = (
    at(1)
    + b" stdout F one\n"
    + at(2)
    + b" stderr P tw\n"
    + at(3)
    + b" stderr F o\n"
    + at(4)
    + b" stdout F 3\n"
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (LogOptions(), b"one\ntwo\n3\n"),
        (LogOptions(timestamps=True), at(1) + b" one\n" + at(2) + b" two\n" + at(4) + b" 3\n"),
        (LogOptions(tail_lines=0), b""),
        (LogOptions(tail_lines=1), b"3\n"),
        (LogOptions(tail_lines=2), b"o\n3\n"),
        (LogOptions(tail_lines=9), b"one\ntwo\n3\n"),
        (LogOptions(limit_bytes=5), b"one\nt"),
        (LogOptions(since=nanoseconds(at(3))), b"o\n3\n"),
        (LogOptions(since=nanoseconds(at(3, 1))), b"3\n"),
        (LogOptions(since=nanoseconds(at(59))), b""),
        (LogOptions(streams=STREAMS["Stdout"]), b"one\n3\n"),
        (LogOptions(streams=STREAMS["Stderr"]), b"two\n"),
        (LogOptions(streams=STREAMS["Stderr"], limit_bytes=1), b"t"),
        (LogOptions(timestamps=True, limit_bytes=33), at(1) + b" on"),
        (LogOptions(timestamps=True, tail_lines=2), at(3) + b" o\n" + at(4) + b" 3\n"),
        (LogOptions(timestamps=True, since=nanoseconds(at(3))), b"o\n" + at(4) + b" 3\n"),
    ],
)
def test_options(wanted, expected):
    assert reference(HELLO, wanted) == expected
    assert filtered(HELLO, wanted, []) == expected
    assert filtered(HELLO, wanted, list(range(len(HELLO)))) == expected


@pytest.mark.parametrize(
    ("tail", "expected"), [(None, b"a\nb\nc"), (0, b""), (1, b"b\n"), (2, b"a\nb\n"), (3, b"a\nb\nc")]
)
def test_a_torn_last_line_is_none_of_the_tail(tail, expected):
    data = at(1) + b" stdout F a\n" + at(2) + b" stdout F b\n" + at(3) + b" stdout F c"
    assert reference(data, LogOptions(tail_lines=tail)) == expected
    assert filtered(data, LogOptions(tail_lines=tail), []) == expected


def test_what_is_written_later_is_none_of_the_tail():
    log = LogFilter(LogOptions(tail_lines=2))
    assert (
        log.feed(at(1) + b" stdout F 1\n" + at(2) + b" stdout F 2\n" + at(3) + b" stdout F 3\n") == b"1\n2\n"
    )
    assert log.done
    assert log.feed(at(4) + b" stdout F 4\n") == b""


def test_following_takes_more_lines_than_the_tail():
    log = LogFilter(LogOptions(follow=True, tail_lines=1))
    assert log.feed(at(1) + b" stdout F 1\n" + at(2) + b" stdout F 2\n") == b"1\n2\n"
    assert not log.done


def test_what_is_no_line_is_left_out_and_counted():
    log = LogFilter(LogOptions())
    assert log.feed(b"what?\n" + at(1) + b" stdout F x\n\n") == b"x\n"
    assert log.malformed == 2


def test_a_line_without_end_is_not_held_in_memory(monkeypatch):
    monkeypatch.setattr(cri_log, "MAX_LINE", 100)
    log = LogFilter(LogOptions())
    for _ in range(5):
        assert log.feed(b"x" * 60) == b""
        assert len(log._carry) <= 120
    assert log.feed(b"x\n" + at(1) + b" stdout F y\n") == b"y\n"
    assert log.malformed == 1


def test_nothing_comes_after_the_limit():
    log = LogFilter(LogOptions(limit_bytes=2))
    assert log.feed(at(1) + b" stdout F abc\n") == b"ab"
    assert log.done
    assert log.feed(at(1) + b" stdout F abc\n") == b""
    assert log.end_of_file() == b""


def test_fields_of_a_line():
    line = parse_line(b"2026-11-24T04:00:00.5+02:00 stderr P:more a b")
    assert line is not None
    assert line.time == b"2026-11-24T04:00:00.500000000+02:00"
    assert line.instant == nanoseconds(b"2026-11-24T02:00:00.5Z")
    assert (line.stream, line.partial, line.content) == (b"stderr", True, b"a b")
