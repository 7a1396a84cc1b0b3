"""Cutting runs of lines against the careful parser, which goes line by line."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.server import log_run
from vkubelet.server.cri_log import LogFilter, parse_line
from vkubelet.server.log_options import STREAMS, LogOptions
from vkubelet.server.log_run import cutter

TIME = b"2026-11-24T02:00:00.123456789Z"

# What a wrong pattern would take for something else: every piece of a line, at every place.
pieces = st.sampled_from(
    [
        b"\n",
        TIME,
        TIME + b" ",
        TIME + b" stdout F ",
        TIME + b" stderr F ",
        TIME + b" stdout P ",
        b"stdout F ",
        b"stderr F ",
        b"stderr P ",
        b"std",
        b"Z ",
        b" ",
        b"x",
        b"x" * 29,
        b"x" * 31,
        b"\r",
        b"\xff",
    ]
)
runs = st.lists(pieces | st.binary(max_size=3), max_size=30).map(lambda parts: b"".join(parts) + b"\n")
lines = st.builds(
    lambda stream, content: b"%s %s F %s\n" % (TIME, stream, content.replace(b"\n", b"")),
    st.sampled_from([b"stdout", b"stderr"]),
    st.lists(pieces, max_size=4).map(b"".join),
)
spoiled = st.builds(
    lambda before, between, after: b"".join(before) + between + b"".join(after),
    st.lists(lines, max_size=4),
    runs,
    st.lists(lines, max_size=4),
)
wanted = st.sampled_from(list(STREAMS.values()))


def careful(run: bytes, streams: frozenset[bytes], timestamps: bool) -> bytes | None:
    output = b""
    for raw in run.removesuffix(b"\n").split(b"\n"):
        line = parse_line(raw)
        fixed = raw[29:31] == b"Z " and raw[37:40] == b" F "
        if line is None or not fixed or line.stream not in streams:
            return None
        output += (raw[:31] if timestamps else b"") + line.content + b"\n"
    return output


# How many lines a pattern takes at once, and when they are long; the usual ones are too large for small runs.
ways = st.sampled_from([(16, 700), (16, 0), (3, 0), (2, 0), (1, 0), (16, 10_000)])


def cut(run: bytes, streams: frozenset[bytes], timestamps: bool, way: tuple[int, int]) -> bytes | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_run, "_LINES", way[0])
        patch.setattr(log_run, "_LONG", way[1])
        return cutter(streams, timestamps=timestamps)(run)


@given(st.lists(lines, min_size=1, max_size=50).map(b"".join) | runs | spoiled, wanted, st.booleans(), ways)
def test_a_run_is_cut_as_its_lines_would_be_or_not_at_all(run, streams, timestamps, way):
    assert cut(run, streams, timestamps, way) == careful(run, streams, timestamps)


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("length", [0, 20, 100, 700, 16000])
@pytest.mark.parametrize(
    "streams", [[b"stdout"], [b"stderr"], [b"stdout"] * 33 + [b"stderr"] * 2 + [b"stdout"]]
)
@pytest.mark.parametrize("number", [1, 15, 16, 17, 48, 51])
def test_whole_runs_of_any_length_are_cut(timestamps, length, streams, number):
    run = b"".join(
        b"%s %s F %s\n" % (TIME, streams[line % len(streams)], b"x" * length) for line in range(number)
    )
    expected = careful(run, STREAMS["All"], timestamps)
    assert expected is not None
    assert cutter(STREAMS["All"], timestamps=timestamps)(run) == expected
    for damaged in (run.replace(b"F", b"P", 1), run[1:], run[:-2] + b"\nx\n", b"\n" + run, run + b"\n"):
        assert cutter(STREAMS["All"], timestamps=timestamps)(damaged) is None


@given(
    st.lists(lines | spoiled, max_size=6).map(b"".join),
    wanted,
    st.booleans(),
    st.lists(st.integers(0, 800), max_size=6),
)
def test_where_blocks_end_and_what_was_before_make_no_difference(data, streams, timestamps, cuts):
    """One line at a time the blocks are as small as they can be; whatever is expected is often wrong."""
    options = LogOptions(streams=streams, timestamps=timestamps)
    log = LogFilter(options)
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    output = b"".join(log.feed(data[a:b]) for a, b in itertools.pairwise(edges))
    exact = LogFilter(options)
    assert output + log.end_of_file() == b"".join(exact._each(data.split(b"\n")[:-1], b"\n"))
    assert log.malformed == exact.malformed


@pytest.mark.parametrize("timestamps", [False, True])
def test_a_line_that_begins_with_a_tag_has_no_time(timestamps):
    run = TIME + b" stdout F a\nstdout F b\n" + TIME + b" stdout F c\n"
    assert cutter(STREAMS["All"], timestamps=timestamps)(run) is None
    log = LogFilter(LogOptions(timestamps=timestamps))
    shown = TIME + b" " if timestamps else b""
    assert log.feed(run) == shown + b"a\n" + shown + b"c\n"
    assert log.malformed == 1
