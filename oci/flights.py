"""One run of a piece of work for all who want it at the same time.

It exists so that a hundred containers of one image cause one download. It must not know what the work is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Flight(Generic[V]):
    def __init__(self, task: asyncio.Task[V]) -> None:
        self.task = task
        self.waiters = 0


class SingleFlight(Generic[K, V]):
    """Runs work by key; who asks for a key that is under way waits for that run.

    A waiter that is cancelled leaves the others their run; the last one ends it, and returns when it has
    ended, so that no task outlives its waiters.
    """

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

    def __len__(self) -> int:
        """How many runs are under way."""
        return len(self._flights)

    def __contains__(self, key: K) -> bool:
        """Whether `run` would wait for a run that is under way."""
        return key in self._flights

    async def run(self, key: K, start: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The result of `start()`, or of the run that somebody else started. Raises what it raises."""
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(asyncio.create_task(start()))
            self._flights[key] = flight
        flight.waiters += 1
        try:
            await asyncio.wait({flight.task})
        except asyncio.CancelledError:
            flight.waiters -= 1
            if flight.waiters == 0:
                self._land(key, flight)
                flight.task.cancel()
                await ended(flight.task)
            raise
        self._land(key, flight)
        return flight.task.result()

    def _land(self, key: K, flight: _Flight[V]) -> None:
        """The next one starts anew; another flight of the key may be under way already."""
        if self._flights.get(key) is flight:
            del self._flights[key]


async def ended(future: asyncio.Future[Any]) -> None:
    """Wait until `future` is done, whatever comes of it and however often the waiter is cancelled.

    For use while a cancellation is being handled and will be raised again.
    """
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()
