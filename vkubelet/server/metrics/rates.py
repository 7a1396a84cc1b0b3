"""From counters that only grow to rates: how fast each of many has grown.

It exists because statistics tell how many cores are in use now, which one look at a counter does not: as a
kubelet, the node looks at most every ten seconds and tells the last rate in between, whoever asks how often.
Nothing is looked at while nobody asks. It must not know what is counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

SHORTEST = 10.0
"""Seconds over which a rate is measured at least: the kubelet's housekeeping interval."""
LONGEST = 600.0
"""Seconds after which a look is too old to measure against: the kubelet keeps one for ten minutes."""


@dataclasses.dataclass(slots=True)
class _Look:
    at: float
    value: int
    rate: int | None


class Rates:
    """The rates of counters by name, per second."""

    def __init__(self) -> None:
        self._looks: dict[str, _Look] = {}

    def rate(self, name: str, value: int, at: float) -> int | None:
        """The rate of the counter `name`, which is `value` at `at` (seconds); None until it is known."""
        look = self._looks.get(name)
        if look is None or value < look.value or not 0 <= at - look.at <= LONGEST:
            self._looks[name] = _Look(at, value, None)
            return None
        if at - look.at >= SHORTEST:
            rate = round((value - look.value) / (at - look.at))
            look.at, look.value, look.rate = at, value, rate
        return look.rate

    def keep(self, names: Iterable[str]) -> None:
        """Forget all other counters: they have ended."""
        for name in self._looks.keys() - set(names):
            del self._looks[name]
