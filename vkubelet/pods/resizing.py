"""Carries out a pod's resize: restarts the containers that must be, and changes what the others are held to.

It exists because that takes the provider's time, and the worker goes on meanwhile. It must not decide what
was granted, nor what follows from it: `allocations` and `resize` do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from providers.base import Provider, ProviderError
from vkubelet.pods.allocations import PodAllocation
from vkubelet.pods.containers import PodContainers
from vkubelet.pods.ending import grace_seconds
from vkubelet.pods.plan import Kill
from vkubelet.pods.resize import Restart, Step, Update, lowers_memory, usage_above

logger = logging.getLogger(__name__)

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
    ) -> None:
        """All of them are the pod's worker's."""
        self._provider = provider
        self._containers = containers
        self._allocation = allocation
        self._on_news = on_news
        self._task: asyncio.Task[None] | None = None
        self._failed: list[Update] = []
        self._retry_at = 0.0

    def turn(self, group: asyncio.TaskGroup) -> tuple[list[Kill], float | None]:
        """Go on with it: the containers to end for it, and when to look again. Tasks are `group`'s."""
        # A container that is being started is held to what was granted when its start began.
        views = self._containers.views.items()
        running = [name for name, view in views if view.running is not None and not view.starting]
        steps = self._allocation.steps(running)
        if not steps:
            self._allocation.completed()
            return [], None
        updates = [step for step in steps if isinstance(step, Update)]
        wake_at: float | None = None
        if updates == self._failed and time.time() < self._retry_at:
            wake_at = self._retry_at
        elif updates and self._task is None:
            self._task = group.create_task(self._carry_out(updates), name="resize")
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

    async def _carry_out(self, updates: list[Update]) -> None:
        """Change the limits of running containers, in this order, up to the first that cannot be changed."""
        error: str | None = None
        try:
            error = await self._refusal(updates)
            for update in updates if error is None else ():
                running = self._containers.running(update.container)
                if running is None:
                    continue
                after = update.after
                await self._provider.update(
                    running.state.id,
                    memory_limit=after.memory_limit or None,
                    cpu_limit=after.cpu_limit or None,
                    cpu_request=after.weight,
                )
                self._allocation.carried_out(update)
        except ProviderError as failure:
            error = str(failure)
        finally:
            self._task = None
        if error is not None:
            logger.warning("pod %s: resize: %s", self._allocation.pod.key, error)
            self._allocation.failed(error)
            self._failed, self._retry_at = updates, time.time() + RETRY_AFTER
        self._on_news()

    async def _refusal(self, updates: list[Update]) -> str | None:
        """Why memory limits cannot be lowered, if they are to be."""
        if not lowers_memory(updates):
            return None
        identifiers = {}
        for update in updates:
            running = self._containers.running(update.container)
            if running is not None:
                identifiers[running.state.id] = update.container
        usage = await self._provider.usage(identifiers)
        return usage_above(updates, {identifiers[key]: found.memory for key, found in usage.items()})
