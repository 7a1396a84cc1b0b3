"""Durations as Go's time.ParseDuration reads them, in the files of programs that are written in Go.

It exists because those files are shared with these programs. It must not know any of them.
"""

from __future__ import annotations

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_LONGEST = 2**63 / 1e9


def seconds(text: str) -> float | None:
    """`1m30s`, `1.5h`, `0`; None for what is no duration, or a negative one."""
    if text == "0":
        return 0.0
    if re.fullmatch(f"(?:{_PART.pattern})+", text) is None:
        return None
    total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return total if total < _LONGEST else None
