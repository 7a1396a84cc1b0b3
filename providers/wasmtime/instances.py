"""Instances that belong to a caller: run for `kubectl exec`, ended with it, and never heard of again.

It exists so that containers, which outlive everybody, and instances, which outlive nobody, are kept apart. It
must not know how a process comes to be, nor what the standard files are.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

from providers.base import ContainerSpec, Exit, InvalidSpecError, ProviderError, Streams
from providers.wasmtime import processes
from providers.wasmtime.adoption import Found
from providers.wasmtime.confinement import Confinement
from providers.wasmtime.connection import Connection, Process
from providers.wasmtime.directory import RunDirectory, lost
from providers.wasmtime.files import CorruptFileError

_log = logging.getLogger(__name__)

_CLOSE_SECONDS = 5.0

Ask = Callable[[Connection], Awaitable[Process]]
"""How a launcher is asked for a process."""


@dataclasses.dataclass(slots=True, eq=False)
class Instance:
    """An instance in the container whose root directory is `root`. `process` is None until it is known."""

    id: str
    root: Path | None
    process: Process | None = None
    killed: bool = False
    ended: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def kill(self) -> None:
        """End it at once, or as soon as there is something to end."""
        self.killed = True
        if self.process is not None:
            processes.kill(self.process.pid, self.process.start_time)


class Instances:
    """All instances of one agent. It belongs to one event loop."""

    def __init__(
        self,
        directory: RunDirectory,
        confinement: Confinement,
        launch: Callable[[ContainerSpec, Ask], Awaitable[Process]],
    ) -> None:
        """`launch` brings a spec to life by what it is given to ask with, or raises ProviderError."""
        self._directory = directory
        self._confinement = confinement
        self._launch = launch
        self._known: dict[str, Instance] = {}
        self._tasks: set[asyncio.Task[Exit]] = set()

    def running(self) -> list[Instance]:
        """Those whose process is known and was not seen to end."""
        return [known for known in self._known.values() if known.process and not known.ended.is_set()]

    def on_ended(self, instance_id: str) -> bool:
        """Take note that it has ended; False if it is none of these."""
        known = self._known.get(instance_id)
        if known is not None:
            known.ended.set()
        return known is not None

    async def run(
        self, spec: ContainerSpec, streams: Streams, on_start: Callable[[int], None] | None
    ) -> Exit:
        """See Provider.run."""
        if spec.log_path is not None:
            raise InvalidSpecError("log_path: what is run for a caller has no log")
        self._confinement.create(spec)
        instance = Instance(spec.id, spec.root)
        work = self._spawn(instance, self._run(instance, spec, streams, on_start))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            instance.kill()
            await asyncio.wait([work])
            if not work.cancelled() and (error := work.exception()) is not None:
                _log.debug("instance %s was cancelled, and failed: %s", spec.id, error)
            raise

    async def _run(
        self,
        instance: Instance,
        spec: ContainerSpec,
        streams: Streams,
        on_start: Callable[[int], None] | None,
    ) -> Exit:
        def ask(connection: Connection) -> Awaitable[Process]:
            # The caller that is gone may have closed the streams: their numbers may be other files by now.
            if instance.killed:
                raise ProviderError("it was cancelled")
            return connection.run(spec.id, streams)

        instance.process = await self._launch(spec, ask)
        try:
            if instance.killed:
                instance.kill()
            elif on_start is not None:
                on_start(instance.process.pid)
        except BaseException:
            instance.kill()
            raise
        finally:
            await instance.ended.wait()
        return self._exit(instance)

    def _exit(self, instance: Instance) -> Exit:
        started_at = 0 if instance.process is None else instance.process.started_at
        try:
            found = self._directory.read_exit(instance.id)
        except CorruptFileError as error:
            _log.error("instance %s: %s", instance.id, error)
            return lost(started_at, f"the exit record cannot be read: {error}")
        return found or lost(started_at, "the process was killed, and nobody saw how")

    def bury(self, found: Found, *, same_boot: bool, watch: Callable[[str, int, int], bool]) -> None:
        """End what an earlier agent left, and remove it. `watch` tells of the end of a process that runs."""
        started = found.started
        instance = Instance(found.spec.id, None, Process(started.pid, started.start_time, started.started_at))
        if same_boot and watch(instance.id, started.pid, started.start_time):
            instance.kill()
        else:
            instance.ended.set()
        self._spawn(instance, self._await_end(instance))

    async def _await_end(self, instance: Instance) -> Exit:
        await instance.ended.wait()
        return self._exit(instance)

    def _spawn(self, instance: Instance, work: Coroutine[object, object, Exit]) -> asyncio.Task[Exit]:
        self._known[instance.id] = instance
        task = asyncio.get_running_loop().create_task(self._keep(instance, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep(self, instance: Instance, work: Coroutine[object, object, Exit]) -> Exit:
        """Do the work; what is in the run directory goes with it."""
        try:
            return await work
        finally:
            del self._known[instance.id]
            if instance.root is None:
                await asyncio.to_thread(self._confinement.remove, instance.id)
                trash = self._directory.remove(instance.id)
            else:
                trash = self._directory.remove_instance(instance.id)
            if trash is not None:
                await asyncio.to_thread(self._directory.dispose, trash)

    async def close(self) -> None:
        """End all of them. What does not end within seconds is left to the next agent."""
        for instance in self._known.values():
            instance.kill()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
