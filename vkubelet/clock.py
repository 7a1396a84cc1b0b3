"""The time by which things are decided: seconds since the epoch that nobody sets, one a second.

It exists because people and NTP set the time of day, by hours now and then: what is to happen in ten seconds
must happen neither at once nor in an hour. It begins with the time of day and goes on with the monotonic
clock. What others tell in the time of day is turned into it as soon as it is read; what is shown to people
and to other machines stays time of day. It must not know what is decided.
"""

from __future__ import annotations

import time

_BEGAN = time.time() - time.monotonic()


def now() -> float:
    """The moment by this clock."""
    return _BEGAN + time.monotonic()


def ahead() -> float:
    """How many seconds the time of day is ahead of this clock, since it was set."""
    return time.time() - now()


def when(moment: float) -> float:
    """What has just been told in the time of day, by this clock; nothing that was told is still to come."""
    return min(moment - ahead(), now())
