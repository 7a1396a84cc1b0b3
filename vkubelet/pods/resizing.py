"""Carries out a pod's resize: restarts the containers that must be, and changes what the others are held to.

It exists because that takes the provider's time, and the worker goes on meanwhile. It must not decide what
was granted, nor what follows from it: `allocations` and `resize` do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

from providers.base import Provider, ProviderError
from vkubelet import clock
from vkubelet.pods.containers import PodContainers
from vkubelet.pods.ending import grace_seconds
from vkubelet.pods.plan import Kill
from vkubelet.pods.pod_allocation import PodAllocation
from vkubelet.pods.resize import Restart, Step, Update, lowers_memory, usage_above
from vkubelet.pods.resources import Applied
from vkubelet.pods.sharing import group, widest
from vkubelet.pods.sharing import lowers_memory as sharing_lowers_memory

logger = logging.getLogger(__name__)

Sharing: TypeAlias = tuple[Applied, Applied]
"""What all containers of the pod are held to together, and what they shall be."""

RETRY_AFTER = 30.0
"""Seconds after which what could not be carried out is tried again: usage may have gone down."""


class Resizing:
    """One for a pod. `on_news` is called when the pod's status is due."""

    def __init__(
        self,
        provider: Provider,
        containers: PodContainers,
        allocation: PodAllocation,
        on_news: Callable[[], None],
        process_limit: int | None,
    ) -> None:
        """All of them are the pod's worker's. `process_limit` is the node's podPidsLimit."""
        self._provider = provider
        self._containers = containers
        self._allocation = allocation
        self._on_news = on_news
        self._process_limit = process_limit
        self._task: asyncio.Task[None] | None = None
        self._failed: tuple[list[Update], Sharing | None] = ([], None)
        self._retry_at = 0.0

    def turn(self, group: asyncio.TaskGroup) -> tuple[list[Kill], float | None]:
        """Go on with it: the containers to end for it, and when to look again. Tasks are `group`'s."""
        # A container that is being started is held to what was granted when its start began.
        views = self._containers.views.items()
        running = [name for name, view in views if view.running is not None and not view.starting]
        steps, sharing = self._allocation.steps(running), self._allocation.sharing()
        if not steps and sharing is None:
            self._allocation.completed()
            return [], None
        updates = [step for step in steps if isinstance(step, Update)]
        wake_at: float | None = None
        if (updates, sharing) == self._failed and clock.now() < self._retry_at:
            wake_at = self._retry_at
        elif (updates or sharing is not None) and self._task is None:
            name = f"resize {self._allocation.pod.key}"
            self._task = group.create_task(self._carry_out(updates, sharing), name=name)
        return self._kills(steps), wake_at

    def _kills(self, steps: Sequence[Step]) -> list[Kill]:
        pod, found = self._allocation.pod, []
        for step in steps:
            running = self._containers.views[step.container].running
            if isinstance(step, Restart) and running is not None:
                message = f"Container {step.container} resize requires restart"
                kill = Kill(step.container, running.id, grace_seconds(pod), message, restart=True)
                found.append(kill)
        return found

    async def _carry_out(self, updates: list[Update], sharing: Sharing | None) -> None:
        """Change the limits of running containers, in this order, up to the first that cannot be changed.

        What they share is at no time less than what they had or shall have.
        """
        error: str | None = None
        left = list(updates)
        try:
            error = await self._refusal(updates, sharing)
            if error is None:
                if sharing is not None:
                    await self._share(widest(*sharing))
                while left:
                    await self._update(left[0])
                    del left[0]
                if sharing is not None:
                    await self._share(sharing[1])
                    self._allocation.shares(sharing[1])
        except ProviderError as failure:
            error = str(failure)
        finally:
            self._task = None
        if error is not None:
            logger.warning("pod %s: resize: %s", self._allocation.pod.key, error)
            self._allocation.failed(error)
            self._failed, self._retry_at = (left, sharing), clock.now() + RETRY_AFTER
        self._on_news()

    async def _update(self, update: Update) -> None:
        running = self._containers.running(update.container)
        if running is None:
            return
        after = update.after
        await self._provider.update(
            running.state.id,
            memory_limit=after.memory_limit or None,
            cpu_limit=after.cpu_limit or None,
            cpu_request=after.weight,
        )
        self._allocation.carried_out(update)

    async def _share(self, bounds: Applied) -> None:
        found = group(self._allocation.pod, bounds, self._process_limit)
        if found is not None:
            await self._provider.update_group(found)

    async def _refusal(self, updates: list[Update], sharing: Sharing | None) -> str | None:
        """Why memory limits cannot be lowered, if they are to be."""
        whole = sharing[1].memory_limit if sharing is not None and sharing_lowers_memory(*sharing) else 0
        if not whole and not lowers_memory(updates):
            return None
        names = {one.state.id: one.spec.name for one in self._containers.all_running()}
        usage = await self._provider.usage(names)
        return usage_above(updates, {names[key]: found.memory for key, found in usage.items()}, whole)
