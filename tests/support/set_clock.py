"""A time of day that a test sets, as people and NTP do, for this process alone."""

from __future__ import annotations

import time

import pytest


class SetClock:
    """What `time.time` and `time.time_ns` tell; monotonic clocks go on as they are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0
        """Seconds; negative when it was set back."""
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + self.ahead * 1_000_000_000)
        monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9)
