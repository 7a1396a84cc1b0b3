"""How long to wait before trying a failed request again.

It exists so that everything that repeats a request does it the same way: exponentially, bounded and with
jitter, so that the nodes of a cluster do not come back to a restarted API server all at once. It must not
know what is repeated, and it never sleeps itself.
"""

from __future__ import annotations

import random


class Backoff:
    """Delays in seconds: `first`, doubling to `limit`, each between half and the whole of its value."""

    def __init__(self, first: float, limit: float, chance: random.Random | None = None) -> None:
        self._first = first
        self._limit = limit
        self._next = first
        self._chance = chance or random.Random()  # noqa: S311  spreads load, guards nothing

    def delay(self, at_least: float | None = None) -> float:
        """The next delay; `at_least` is what the server asked for (Retry-After)."""
        delay = self._next * self._chance.uniform(0.5, 1.0)
        self._next = min(self._next * 2, self._limit)
        return max(delay, at_least or 0.0)

    def reset(self) -> None:
        """After a success: the next failure starts over."""
        self._next = self._first
