"""What every pod's worker uses.

It exists so that the parts of a worker share one value, and need not know how any of it is done. It must not
know how any of it is made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

from providers.base import Provider
from vkubelet.api.containers import Container, LifecycleHandler
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod
from vkubelet.config import Config
from vkubelet.pods.allocations import Allocations
from vkubelet.pods.probes.state import ProbeKind
from vkubelet.pods.reporter import StatusSink
from vkubelet.pods.running import RunningContainer
from vkubelet.pods.starter import Starter
from vkubelet.pods.volumes.manager import VolumeManager


class HookError(Exception):
    """A lifecycle hook failed; the text says how."""


class Hooks(Protocol):
    """Runs lifecycle hooks."""

    async def run(
        self, pod: Pod, container: Container, running: RunningContainer, handler: LifecycleHandler
    ) -> None:
        """Run a hook to its end, or to the container's. Raises HookError."""
        ...


class Probes(Protocol):
    """Makes containers' probes."""

    def start(
        self,
        pod: Pod,
        container: Container,
        running: RunningContainer,
        on_result: Callable[[ProbeKind, bool], None],
    ) -> None:
        """Make all probes of a container until it ends or `stop`; `on_result` is told of each new verdict.

        Until then it has not started up, is not ready, and is alive; but a container that was started before
        this agent stays what its status says.
        """
        ...

    def terminate(self, container_id: str) -> None:
        """The pod is to end: no probe restarts the container any more, but it may still become not ready."""
        ...

    def stop(self, container_id: str) -> None:
        """Probe the container no more; does nothing for one that is not probed."""
        ...

    def forget(self, uid: str) -> None:
        """The pod is gone, and what was counted of its probes with it."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Services:
    """All of it outlives the workers."""

    config: Config
    provider: Provider
    starter: Starter
    volumes: VolumeManager
    allocations: Allocations
    probes: Probes
    hooks: Hooks
    recorder: Recorder
    reporter: StatusSink
    host_ip: str
