"""Runs of log lines that are all whole and all in the fixed shape, cut by few calls instead of line by line.

It exists because nearly every block of a log is such a run, and because Python's regular expressions work
through one several times faster than any loop over its lines. It must never guess: for a run with anything
else in it, it says so, and whoever asked takes the careful way.

A pattern matches several lines at once, since a match costs as much as a line does. It matches from where the
last match ended or takes all that is left, so that nothing is ever passed over; what is left the next pattern
gets. Long lines are found by their ends: a search for one byte is faster than any pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import chain

_TIME = rb".{29}Z "
# No line ends twice: what was matched is never looked at again.
_CONTENT = rb".*+\n"
_TIME_LENGTH = 31
_HEADER_LENGTH = 40

# Lines that a pattern matches at once.
_LINES = 16
# From this length on, on average, lines are long. It is taken from the beginning of a run.
_LONG = 700
_SAMPLED = 4

Cut = Callable[[bytes], bytes | None]
_FindAll = Callable[[bytes], list[tuple[bytes, ...]]]


def cutter(streams: Iterable[bytes], *, timestamps: bool) -> Cut:
    """What cuts a run of lines of `streams` to their contents, with their times before them or without.

    It takes lines that each end with a line feed, and gives None if one of them is not whole, not of these
    streams or in another shape.
    """
    # A choice of streams costs a fifth of a short line's time, and most runs are of one stream.
    any_stream = _patterns(b"(?:%s)" % b"|".join(sorted(streams)), timestamps=timestamps)
    one_stream = {stream: (*_patterns(stream, timestamps=timestamps), *any_stream) for stream in streams}
    shapes = frozenset(b"Z %s F " % stream for stream in streams)

    def cut(run: bytes) -> bytes | None:
        if run.count(b"\n", 0, _SAMPLED * _LONG) < _SAMPLED:
            return _cut_long(run, shapes, timestamps=timestamps)
        stream = run[_TIME_LENGTH : _TIME_LENGTH + 6]
        last = run.rfind(b"\n", 0, -1) + 1 + _TIME_LENGTH
        patterns = one_stream.get(stream) if run[last : last + 6] == stream else any_stream
        parts: list[bytes] = []
        for find_all in patterns or any_stream:
            found = find_all(run)
            run = found[-1][-1]
            if run:
                found.pop()
            parts.append(b"".join(chain.from_iterable(found)))
            if not run:
                return b"".join(parts)
        return None

    return cut


def _patterns(stream: bytes, *, timestamps: bool) -> tuple[_FindAll, _FindAll]:
    """For many lines at once, and for one."""
    return _pattern(stream, _LINES, timestamps=timestamps), _pattern(stream, 1, timestamps=timestamps)


def _pattern(stream: bytes, lines: int, *, timestamps: bool) -> _FindAll:
    """Matches so many lines of the stream, and groups what is kept of them, or groups all that is left."""
    tag = stream + b" F "
    if timestamps:
        # From content to content: the time of the next line is kept with the line before it.
        between = b"(%s%s)%s" % (_CONTENT, _TIME, tag)
        pattern = b"(%s)%s%s(%s)" % (_TIME, tag, between * (lines - 1), _CONTENT)
    else:
        pattern = b"%s%s(%s)" % (_TIME, tag, _CONTENT) * lines
    return re.compile(pattern + rb"|((?s:.+))").findall


def _cut_long(run: bytes, shapes: frozenset[bytes], *, timestamps: bool) -> bytes | None:
    view, kept = memoryview(run), []
    begin = 0
    while begin < len(run):
        content = begin + _HEADER_LENGTH
        end = run.find(b"\n", begin) + 1
        if end <= content or run[begin + 29 : content] not in shapes:
            return None
        if timestamps:
            kept.append(view[begin : begin + _TIME_LENGTH])
        kept.append(view[content:end])
        begin = end
    return b"".join(kept)
