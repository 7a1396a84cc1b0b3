"""Counters, histograms and the like that any part of the agent may keep, and the families they are shown as.

They exist because a node exports what a kubelet exports, while what is counted lies on the hot path: counting
is an addition in a dictionary, and all that Prometheus' format asks for happens when somebody reads. They
must not know the format, nor what is counted. All of it belongs to the event loop's thread.
"""

from __future__ import annotations

import dataclasses
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Prometheus' own, in seconds."""


class Sample(NamedTuple):
    """One line: what follows the family's name, its labels as text, and when it was measured (s, Unix)."""

    value: float
    labels: str = ""
    timestamp: float | None = None
    suffix: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """All samples of one name. `kind` is counter, gauge or histogram; a counter's name ends in `_total`."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]


def label_text(**labels: str) -> str:
    """Labels as both formats write them, in the order of their names: `a="1",b="2"`."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items()))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class Counter:
    """What only grows, for each combination of its labels' values."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = ()) -> None:
        """Without labels it is shown from the beginning, as 0. A kubelet's name may lack `_total`."""
        self.name = name
        self._help = help_text
        self._labels = tuple(labels)
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def inc(self, *values: str, by: float = 1) -> None:
        """Add `by` where the labels have these values, which come from a small set."""
        self._values[values] = self._values.get(values, 0) + by

    def remove(self, *values: str) -> None:
        """What has these labels is no more, and is shown no more."""
        self._values.pop(values, None)

    def family(self) -> Family:
        """What was counted so far."""
        samples = [Sample(value, _named(self._labels, values)) for values, value in self._values.items()]
        return Family(self.name, "counter", self._help, samples)


class Histogram:
    """How often what was observed was at most as large as each of some bounds."""

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = DEFAULT_BUCKETS,
    ) -> None:
        """`buckets` are the bounds, ascending, without infinity."""
        self.name = name
        self._help = help_text
        self._labels = tuple(labels)
        self._bounds = tuple(buckets)
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        if not labels:
            self._add(())

    def observe(self, value: float, *values: str) -> None:
        """Note `value` where the labels have these values."""
        counts = self._counts.get(values) or self._add(values)
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[values] += value

    def remove(self, *values: str) -> None:
        """What has these labels is no more, and is shown no more."""
        self._counts.pop(values, None)
        self._sums.pop(values, None)

    def family(self) -> Family:
        """What was observed so far."""
        samples: list[Sample] = []
        for values, counts in self._counts.items():
            text = _named(self._labels, values)
            total = 0
            for bound, count in zip((*map(_number, self._bounds), "+Inf"), counts, strict=True):
                total += count
                le = f'{text},le="{bound}"' if text else f'le="{bound}"'
                samples.append(Sample(total, le, suffix="_bucket"))
            samples.append(Sample(self._sums[values], text, suffix="_sum"))
            samples.append(Sample(total, text, suffix="_count"))
        return Family(self.name, "histogram", self._help, samples)

    def _add(self, values: tuple[str, ...]) -> list[int]:
        self._sums[values] = 0.0
        return self._counts.setdefault(values, [0] * (len(self._bounds) + 1))


class Deadline:
    """A moment to come, shown as the whole seconds that are left until it; negative once it is over."""

    def __init__(self, name: str, help_text: str) -> None:
        self.name = name
        self._help = help_text
        self._at: float | None = None

    def set(self, at: float) -> None:
        """It is at `at`, in seconds since the epoch. Until that is known, nothing is shown."""
        self._at = at

    def family(self) -> Family:
        """How much is left now."""
        samples = [] if self._at is None else [Sample(int(self._at - time.time()))]
        return Family(self.name, "gauge", self._help, samples)


def gauge(name: str, help_text: str, samples: Iterable[Sample]) -> Family:
    """A family of what is measured when somebody reads."""
    return Family(name, "gauge", help_text, tuple(samples))


def _named(labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    return label_text(**dict(zip(labels, values, strict=True)))


def _number(bound: float) -> str:
    return repr(int(bound)) if bound == int(bound) else repr(bound)
