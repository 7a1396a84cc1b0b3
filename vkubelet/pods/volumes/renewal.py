"""Brings pods' volumes up to date when what they show has changed, or is due to be renewed.

It exists so that the changes of a whole node are a queue for a few tasks, and not a task for each pod. It
must not know what is renewed.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from typing import NoReturn, Protocol

from vkubelet import clock

logger = logging.getLogger(__name__)

DEFECT_PAUSE = 10.0
AT_ONCE = 4
"""Pods that are renewed at the same time: one whose API server does not answer holds up no other for long."""


class Renewable(Protocol):
    """A pod's volumes."""

    async def renew(self) -> float | None:
        """Bring them up to date; when to do so again, by `vkubelet.clock`, None if only when told."""
        ...


class Renewal:
    """One for the node. Use from one event loop."""

    def __init__(self) -> None:
        self._queue: deque[Renewable] = deque()
        self._waiting: set[Renewable] = set()
        self._forgotten: weakref.WeakSet[Renewable] = weakref.WeakSet()
        self._alarms: dict[Renewable, asyncio.TimerHandle] = {}
        self._some = asyncio.Event()

    def now(self, volumes: Renewable) -> None:
        """Renew as soon as may be; who waits already waits once."""
        self._cancel(volumes)
        if volumes not in self._waiting:
            self._waiting.add(volumes)
            self._queue.append(volumes)
            self._some.set()

    def at(self, volumes: Renewable, when: float | None) -> None:
        """Renew at `when`, by `vkubelet.clock`, instead of at an earlier one's time; None: not at all."""
        self._cancel(volumes)
        if when is not None and volumes not in self._forgotten:
            loop = asyncio.get_running_loop()
            self._alarms[volumes] = loop.call_later(max(when - clock.now(), 0.0), self.now, volumes)

    def forget(self, volumes: Renewable) -> None:
        """Renew them no more, for good; what is under way is not asked for again."""
        self._cancel(volumes)
        self._forgotten.add(volumes)
        if volumes in self._waiting:
            self._waiting.discard(volumes)
            self._queue.remove(volumes)

    async def run(self) -> NoReturn:
        """Do what is due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(self._renew(), name=f"volume renewal {number}")
        raise AssertionError("its tasks never end")

    async def _renew(self) -> NoReturn:
        while True:
            while not self._queue:
                self._some.clear()
                await self._some.wait()
            await self._renew_next()

    async def _renew_next(self) -> None:
        """Apart from the loop, which would keep all of a pod until the next one comes."""
        volumes = self._queue.popleft()
        self._waiting.discard(volumes)
        try:
            when = await volumes.renew()
        except Exception:
            # A defect of ours costs these volumes a pause, and no others anything.
            logger.exception("volumes are not renewed")
            when = clock.now() + DEFECT_PAUSE
        # What was told meanwhile comes first.
        if when is not None and volumes not in self._waiting and volumes not in self._alarms:
            self.at(volumes, when)

    def _cancel(self, volumes: Renewable) -> None:
        alarm = self._alarms.pop(volumes, None)
        if alarm is not None:
            alarm.cancel()
