"""Commands beside running containers: what the words of an exec, a probe or a hook are run as.

It exists because all three mean the same: an instance with the container's own files, environment, limits and
sandbox, which are read from what the container was started with. It must not know who asks, nor why.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from pathlib import Path

from providers.base import Artifact, ContainerSpec, Preopen, Provider, ProviderError
from vkubelet.pods import podinfo
from vkubelet.pods.command import (
    FAILED,
    Applet,
    Files,
    ModuleFile,
    OwnModule,
    own_names,
    resolve,
    resolve_at_once,
)
from vkubelet.pods.execution import execute
from vkubelet.pods.interaction import CommandError, Wanted
from vkubelet.pods.records import image_of
from vkubelet.pods.running import RunningContainer
from vkubelet.toolbox import Toolbox, ToolboxError, ToolboxModule

OUTPUT_MAX = 10 * 1024
"""Bytes of each output that are kept of a command which nobody watches: what a kubelet keeps of a probe's."""

_OUTPUTS = Wanted(stdin=False, stdout=True, stderr=True, tty=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """What came of a command: its exit code, and the first OUTPUT_MAX bytes of each of its outputs."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def output(self) -> str:
        """Both outputs, the standard one first, as text."""
        return (self.stdout + self.stderr).decode(errors="replace")


class Commands:
    """Finds and runs the commands of running containers."""

    def __init__(self, provider: Provider, toolbox: Toolbox, private: Path) -> None:
        """`private` is a directory of this node agent alone, for modules taken out of guests' files."""
        self._provider = provider
        self._toolbox = toolbox
        self._private = private
        self._module: ToolboxModule | None = None

    async def spec(self, container: RunningContainer, words: tuple[str, ...]) -> ContainerSpec:
        """What a command is run as. Raises CommandError."""
        try:
            return await self._spec(container, words)
        except (ProviderError, OSError) as error:
            raise CommandError(f"{FAILED}: {error}") from error

    async def run(
        self, container: RunningContainer, words: tuple[str, ...], timeout: float | None = None
    ) -> Finished:
        """Run a command to its end, without input. Raises CommandError.

        It ends with its container too; cancelled, or after `timeout` seconds, with TimeoutError, it is killed
        and reaped first. What it takes to find and to compile the command does not count as its time: the
        first one on a node waits for the toolbox to be compiled.
        """
        spec = await self.spec(container, words)
        async with asyncio.timeout(timeout):
            return await self._run(container, spec)

    async def _run(self, container: RunningContainer, spec: ContainerSpec) -> Finished:
        async with execute(self._provider, spec, _OUTPUTS, container.end) as running:
            stdout, stderr = await running.read_all(OUTPUT_MAX)
            return Finished(await running.wait(), stdout, stderr)

    async def _spec(self, container: RunningContainer, words: tuple[str, ...]) -> ContainerSpec:
        started = self._provider.spec(container.state.id)
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
            shown = Preopen(container.show_info(), podinfo.GUEST_PATH, read_only=True)
            # A container of the toolbox's own image has it already.
            preopens = preopens if shown in preopens else (*preopens, shown)
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
        found = resolve_at_once(words, started, files, own, applets)
        if found is not None:
            return found
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
        if self._module is None:
            try:
                self._module = await asyncio.to_thread(self._toolbox.module)
            except ToolboxError as error:
                raise CommandError(f'{FAILED}: exec: "{found.name}": {error}') from error
        return await self._provider.prepare(self._module.path, self._module.digest)


def _forget(resolved: asyncio.Future[OwnModule | Applet | ModuleFile]) -> None:
    """Nobody waits for what a command was resolved to: remove the copy of a module."""
    if resolved.cancelled() or resolved.exception() is not None:
        return
    found = resolved.result()
    if isinstance(found, ModuleFile):
        found.path.unlink()
