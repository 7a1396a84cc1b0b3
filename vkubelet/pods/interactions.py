"""Talking to the node's running containers: exec, attach and port-forward on the pods' side.

It exists to turn the names of a request into the container that is meant, and to give what is wanted of it
the form that the kubelet API asks for. It must not know who asks, or over which protocol.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator

from providers.base import Provider
from vkubelet.pods import attachment, forwarding
from vkubelet.pods.commands import Commands
from vkubelet.pods.directory import LogSource
from vkubelet.pods.environment import with_terminal
from vkubelet.pods.execution import execute
from vkubelet.pods.interaction import (
    ForwardError,
    Interaction,
    InteractionError,
    Target,
    Wanted,
)
from vkubelet.pods.manager import PodManager
from vkubelet.pods.running import RunningContainer
from vkubelet.pods.worker import PodWorker


class PodInteractions:
    """Implements Interactions for the pods of this node."""

    def __init__(self, manager: PodManager, provider: Provider, commands: Commands) -> None:
        self._manager = manager
        self._provider = provider
        self._commands = commands

    def check(self, target: Target) -> None:
        """See Interactions."""
        self._find(target)

    def logged(self, target: Target) -> LogSource | None:
        """See Interactions."""
        worker, container = self._find(target)
        if container.spec.stdin or container.spec.tty:
            return None
        return worker.containers.log_source(target.container, previous=False)

    def has_tty(self, target: Target) -> bool:
        """See Interactions. Raises InteractionError."""
        return self._find(target)[1].spec.tty

    def check_pod(self, namespace: str, pod: str, uid: str | None) -> None:
        """See Interactions."""
        worker = self._worker(namespace, pod, uid)
        if not worker.containers.all_running():
            raise InteractionError(500, f'pod not found ("{pod}_{namespace}")')

    @contextlib.asynccontextmanager
    async def exec(
        self, target: Target, command: tuple[str, ...], wanted: Wanted
    ) -> AsyncIterator[Interaction]:
        """See Interactions."""
        _, container = self._find(target)
        spec = await self._commands.spec(container, command)
        if wanted.tty:
            spec = dataclasses.replace(spec, tty=True, env=with_terminal(spec.env))
        async with execute(self._provider, spec, wanted, container.end) as running:
            yield running

    @contextlib.asynccontextmanager
    async def attach(self, target: Target, wanted: Wanted) -> AsyncIterator[Interaction]:
        """See Interactions."""
        _, container = self._find(target)
        async with attachment.attach(self._provider, container.state.id, wanted) as attached:
            yield attached

    async def connect(self, namespace: str, pod: str, uid: str | None, port: int) -> socket.socket:
        """See Interactions. Reaches only what the pod's own processes listen on."""
        try:
            containers = self._worker(namespace, pod, uid).containers.all_running()
        except InteractionError as error:
            raise ForwardError(str(error)) from error
        return await forwarding.connect([container.state.pid for container in containers], port)

    def _worker(self, namespace: str, pod: str, uid: str | None) -> PodWorker:
        worker = self._manager.find(namespace, pod, uid)
        if worker is None:
            raise InteractionError(404, "pod does not exist")
        return worker

    def _find(self, target: Target) -> tuple[PodWorker, RunningContainer]:
        worker = self._worker(target.namespace, target.pod, target.uid)
        container = worker.containers.running(target.container)
        if container is None:
            raise InteractionError(500, f'container not found ("{target.container}")')
        return worker, container
