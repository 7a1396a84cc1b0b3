"""RFC 3339 instants with nanoseconds, as log lines and `sinceTime` carry them.

It exists because Python's datetime ends at microseconds and because Go's spelling must be accepted as Go
accepts it. It must know no clock.
"""

from __future__ import annotations

import calendar
import datetime
import re

NANOSECOND = 10**9

_INSTANT = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)


def parse(text: bytes) -> int:
    """Nanoseconds since the epoch; digits beyond the ninth are cut. Raises ValueError."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no RFC 3339 instant")
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    moment = datetime.datetime(year, month, day, hour, minute, second)
    nanoseconds = int((match[7] or b"0")[:9].ljust(9, b"0"))
    offset = 0
    if match[8]:
        hours, minutes = int(match[9]), int(match[10])
        if hours > 24 or minutes > 59:
            raise ValueError(f"{text!r} has no valid time zone")
        offset = (hours * 3600 + minutes * 60) * (-1 if match[8] == b"-" else 1)
    return (calendar.timegm(moment.timetuple()) - offset) * NANOSECOND + nanoseconds


def fixed(text: bytes) -> bytes:
    """The same instant in the fixed width that `--timestamps` shows: nine digits, its own zone.

    `text` is one that `parse` takes. UTC is written Z, as Go does.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no RFC 3339 instant")
    digits = (match[7] or b"")[:9].ljust(9, b"0")
    utc = match[8] is None or (match[9], match[10]) == (b"00", b"00")
    return text[:19] + b"." + digits + (b"Z" if utc else text[-6:])


def utc(nanoseconds: int) -> bytes:
    """Nanoseconds since the epoch, not before it, as a fixed width instant in UTC."""
    seconds, rest = divmod(nanoseconds, NANOSECOND)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return b"%s.%09dZ" % (moment.strftime("%Y-%m-%dT%H:%M:%S").encode(), rest)
