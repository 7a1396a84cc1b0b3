"""Talking to the node's running containers: exec, attach and port-forward on the pods' side.

It exists to turn the names of a request into the container that is meant, and a command into an instance
beside it: with the container's own files, environment, limits and sandbox, which are read from what the
container was started with. It must not know who asks, or over which protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from providers.base import Artifact, ContainerSpec, Preopen, Provider, ProviderError
from vkubelet.pods import attachment, forwarding, podinfo
from vkubelet.pods.command import FAILED, Applet, Files, ModuleFile, OwnModule, own_names, resolve
from vkubelet.pods.directory import LogSource
from vkubelet.pods.environment import with_terminal
from vkubelet.pods.execution import execute
from vkubelet.pods.interaction import (
    CommandError,
    ForwardError,
    Interaction,
    InteractionError,
    Target,
    Wanted,
)
from vkubelet.pods.manager import PodManager
from vkubelet.pods.records import image_of
from vkubelet.pods.running import RunningContainer
from vkubelet.pods.worker import PodWorker
from vkubelet.toolbox import Toolbox, ToolboxError

logger = logging.getLogger(__name__)


class PodInteractions:
    """Implements Interactions for the pods of this node."""

    def __init__(self, manager: PodManager, provider: Provider, toolbox: Toolbox, private: Path) -> None:
        """`private` is a directory of this node agent alone, for modules taken out of guests' files."""
        self._manager = manager
        self._provider = provider
        self._toolbox = toolbox
        self._private = private

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
        worker, container = self._find(target)
        try:
            started = self._provider.spec(container.state.id)
            spec = await self._instance(worker, container, started, command)
        except ProviderError as error:
            raise CommandError(f"{FAILED}: {error}") from error
        if wanted.tty:
            spec = dataclasses.replace(spec, tty=True, env=with_terminal(spec.env))
        async with execute(self._provider, spec, wanted, container.end) as running:
            yield running

    async def _instance(
        self, worker: PodWorker, container: RunningContainer, started: ContainerSpec, words: tuple[str, ...]
    ) -> ContainerSpec:
        """What the command is run as. Raises CommandError, ProviderError."""
        root = started.root or self._provider.root(container.state.id)
        files = Files(root, {preopen.guest: preopen.host for preopen in started.preopens})
        found = await self._resolved(words, started, files)
        preopens = started.preopens
        if isinstance(found, ModuleFile):
            artifact = await self._prepared(found)
        elif isinstance(found, OwnModule):
            artifact = started.artifact
        else:
            artifact = await self._applet(found)
            preopens = (*preopens, Preopen(worker.containers.show_info(), podinfo.GUEST_PATH, read_only=True))
        return dataclasses.replace(
            started,
            id=secrets.token_hex(32),
            artifact=artifact,
            args=words,
            log_path=None,
            preopens=preopens,
            root=root,
            stdin=False,
            stdin_once=False,
            tty=False,
        )

    async def _resolved(
        self, words: tuple[str, ...], started: ContainerSpec, files: Files
    ) -> OwnModule | Applet | ModuleFile:
        """What the command names. Raises CommandError, which tells too why there is no toolbox."""
        own = own_names(started, image_of(started.labels))
        applets = self._toolbox.applets
        resolving = asyncio.get_running_loop().run_in_executor(
            None, resolve, words, started, files, own, applets, self._private
        )
        try:
            return await asyncio.shield(resolving)
        except CommandError as error:
            trouble = self._toolbox.trouble
            if trouble is None:
                raise
            raise CommandError(f"{error} ({trouble})") from error
        except asyncio.CancelledError:
            resolving.add_done_callback(_forget)
            raise

    async def _prepared(self, found: ModuleFile) -> Artifact:
        try:
            return await self._provider.prepare(found.path, found.digest)
        finally:
            found.path.unlink()

    async def _applet(self, found: Applet) -> Artifact:
        try:
            module = await asyncio.to_thread(self._toolbox.module)
        except ToolboxError as error:
            raise CommandError(f'{FAILED}: exec: "{found.name}": {error}') from error
        return await self._provider.prepare(module.path, module.digest)

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


def _forget(resolved: asyncio.Future[OwnModule | Applet | ModuleFile]) -> None:
    """Nobody waits for what a command was resolved to: remove the copy of a module."""
    if resolved.cancelled() or resolved.exception() is not None:
        return
    found = resolved.result()
    if isinstance(found, ModuleFile):
        found.path.unlink()
