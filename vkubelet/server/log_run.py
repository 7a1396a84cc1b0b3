"""Runs of log lines that are all whole and all in the fixed shape, cut by one call instead of line by line.

It exists because nearly every block of a log is such a run, and because Python's regular expressions work
through one several times faster than any loop over its lines. It must never guess: for a run with anything
else in it, it says so, and whoever asked takes the careful way.

Both patterns match from one line's end to the next whatever is in it, so that the time they take grows with
the length of a run only. What they cut has a fixed width; that it was cut from every line follows from the
length of what is left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

# A line of the fixed shape: a time in UTC with nine digits, then these.
_TIME = 31
_TAG = 9

Cut = Callable[[bytes], bytes | None]


def cutter(streams: Iterable[bytes], *, timestamps: bool) -> Cut:
    """What cuts a run of lines of `streams` to their contents, with their times before them or without.

    It takes lines that each end with a line feed, and gives None if one of them is not whole, not of these
    streams or in another shape.
    """
    tag = b"(?:%s) F " % b"|".join(sorted(streams))
    # Without a header nothing is cut, which the length shows.
    contents = re.compile(rb"(?:.{29}Z %s|)(.*\n)" % tag).findall
    # From content to content: the time of the next line is kept with the line before it. A line that has
    # none and begins with a tag would be cut as if it had, if the tag were not broken here.
    timed = re.compile(rb"(?:%s|)(.*\n(?:.{29}Z |(?:std)?))" % tag).findall

    def without_times(run: bytes) -> bytes | None:
        kept = contents(run)
        output = b"".join(kept)
        return output if len(output) + (_TIME + _TAG) * len(kept) == len(run) else None

    def with_times(run: bytes) -> bytes | None:
        first = run[:_TIME]
        if first[-2:] != b"Z " or b"\n" in first:
            return None
        kept = timed(run, _TIME)
        output = first + b"".join(kept)
        return output if len(output) + _TAG * len(kept) == len(run) else None

    return with_times if timestamps else without_times
