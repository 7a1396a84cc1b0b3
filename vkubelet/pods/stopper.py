"""Ends a pod's containers: preStop hook, their turn in the order, then the process, all within the grace.

It exists because an end takes time, and the worker goes on meanwhile: each has a task of its own. It must not
know why a container is to end: `plan` does.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from providers.base import Provider, ProviderError
from vkubelet import logs
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod
from vkubelet.pods.container_reference import container_reference
from vkubelet.pods.containers import PodContainers
from vkubelet.pods.ending import MINIMUM_GRACE
from vkubelet.pods.plan import Kill
from vkubelet.pods.running import RunningContainer
from vkubelet.pods.services import HookError, Hooks

logger = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True, eq=False)
class _Stop:
    """An end that is under way. `deadline` is on the event loop's clock; `waiting` while it may still
    move.
    """

    deadline: float
    waiting: asyncio.Timeout | None = None


class Stopper:
    """One for a pod."""

    def __init__(
        self, provider: Provider, hooks: Hooks, recorder: Recorder, containers: PodContainers
    ) -> None:
        """All of them are the pod's worker's."""
        self._provider = provider
        self._hooks = hooks
        self._recorder = recorder
        self._containers = containers
        self._stops: dict[str, _Stop] = {}

    def stop(self, pod: Pod, kill: Kill, group: asyncio.TaskGroup) -> None:
        """See to it that the container ends; asked again, the sooner end holds. The task is `group`'s."""
        deadline = asyncio.get_running_loop().time() + kill.grace
        known = self._stops.get(kill.id)
        if known is not None:
            self._hurry(known, kill, deadline, group)
            return
        running = self._containers.running(kill.container)
        if running is None or running.state.id != kill.id:
            return
        stop = self._stops[kill.id] = _Stop(deadline)
        reference = container_reference(pod, kill.container)
        self._recorder.event(reference, "Normal", "Killing", kill.message)
        group.create_task(self._carry_out(pod, kill, running, stop), name=f"stop {pod.key} {kill.container}")

    def forget(self, identifier: str) -> None:
        """The container has been removed."""
        self._stops.pop(identifier, None)

    def _hurry(self, known: _Stop, kill: Kill, deadline: float, group: asyncio.TaskGroup) -> None:
        # A second more or less is the same wish again: every turn of the worker asks anew.
        if deadline > known.deadline - 1.0:
            return
        known.deadline = deadline
        if known.waiting is not None:
            known.waiting.reschedule(deadline)
        else:
            group.create_task(self._ask(kill, known), name=f"hurry {kill.container}")

    async def _carry_out(self, pod: Pod, kill: Kill, running: RunningContainer, stop: _Stop) -> None:
        logs.speak_of_container(kill.container)
        try:
            async with asyncio.timeout_at(stop.deadline) as stop.waiting:
                await self._prepare(pod, kill, running)
        except TimeoutError:
            logger.info("pod %s: container %s used up its grace period", pod.key, kill.container)
        finally:
            stop.waiting = None
        await self._ask(kill, stop)

    async def _prepare(self, pod: Pod, kill: Kill, running: RunningContainer) -> None:
        """What comes before the process is told."""
        lifecycle = running.spec.lifecycle
        if lifecycle is not None and lifecycle.pre_stop is not None and kill.grace > 0:
            try:
                await self._hooks.run(pod, running.spec, running, lifecycle.pre_stop)
            except HookError as error:
                logger.warning("pod %s: container %s: preStop hook: %s", pod.key, kill.container, error)
                reference = container_reference(pod, kill.container)
                self._recorder.event(reference, "Warning", "FailedPreStopHook", "PreStopHook failed")
        for name in kill.after:
            other = self._containers.running(name)
            if other is not None:
                await other.end.wait()

    async def _ask(self, kill: Kill, stop: _Stop) -> None:
        left = stop.deadline - asyncio.get_running_loop().time()
        try:
            await self._provider.stop(kill.id, max(left, MINIMUM_GRACE))
        except ProviderError as error:
            # It is asked for again with the next turn: nothing of this container is on its way any more.
            logger.warning("container %s cannot be stopped: %s", kill.container, error)
            self._stops.pop(kill.id, None)
