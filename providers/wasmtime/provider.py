"""The wasmtime provider: containers as processes that the launcher forks.

It exists to join the parts: the run directory says what there is, the launcher starts and tells of ends,
pidfds tell of the ends that it cannot. It must not know pods, file formats or how code is compiled.

A container is started at most once, whatever dies meanwhile: its process claims it by a file that can be
made once, and an agent that does not know whether there is a process makes that file itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import TypeVar

from providers.base import (
    Artifact,
    Capabilities,
    ContainerSpec,
    ContainerState,
    Exit,
    ExitListener,
    Group,
    InvalidSpecError,
    ProviderError,
    Streams,
    Usage,
)
from providers.exhausted import lacking
from providers.faultpoints import reached
from providers.wasmtime import adoption, asking, launcher, processes
from providers.wasmtime.adoption import Unknown
from providers.wasmtime.compile import Compiler
from providers.wasmtime.confinement import Confinement
from providers.wasmtime.connection import Connection, LauncherGoneError, Process
from providers.wasmtime.container import Container
from providers.wasmtime.directory import RunDirectory
from providers.wasmtime.files import CorruptFileError
from providers.wasmtime.instances import Ask, Instances
from providers.wasmtime.roots import used
from providers.wasmtime.supervisor import Supervisor
from providers.wasmtime.usage import Measured, UsageMeter

T = TypeVar("T")

_log = logging.getLogger(__name__)

_STARTS = 3
_LATER_SECONDS = 1.0


class WasmtimeProvider:
    """See providers.base.Provider. `run_dir` is for state of this boot, `cache_dir` for compiled code.

    Root directories that begin with files are made in `roots_dir`, best on the disk that these are on.
    """

    def __init__(
        self,
        run_dir: Path,
        cache_dir: Path,
        roots_dir: Path | None = None,
        *,
        program: Path = launcher.PROGRAM,
    ) -> None:
        roots = None if roots_dir is None else roots_dir.absolute()
        self._directory = RunDirectory(run_dir.absolute(), roots)
        self._compiler = Compiler(cache_dir.absolute())
        self._containers: dict[str, Container] = {}
        self._confinement = Confinement(self._directory)
        self._instances = Instances(self._directory, self._confinement, self._process)
        self._watches = processes.Watches(self._on_ended)
        self._on_exit: ExitListener = lambda state: None
        self._program, self._sandbox = program, dict[str, str]()
        self._launcher = Supervisor(self._directory.path, program, self._on_ended, self._watch_all)
        self._meter = UsageMeter(lambda container_id: used(self._directory.container(container_id)))
        self._tasks: set[asyncio.Task[object]] = set()

    async def open(self, on_exit: ExitListener) -> list[ContainerState]:
        """See Provider.open. Raises ProviderError, also if another agent has the run directory."""
        self._directory.open()
        self._on_exit = on_exit
        processes.raise_file_limit()
        processes.keep_spare_files()
        try:
            # First the connection, then the scan: an end is either in the records or will be told.
            await self._launcher.connect()
            self._sandbox = await launcher.sandbox(self._program)
            boot = processes.boot_id()
            same_boot = adoption.begin_boot(self._directory, boot)
            scanned = await asyncio.to_thread(lambda: list(adoption.scan(self._directory)))
            reached("adoption-scanned")
            await asyncio.to_thread(
                _end_unknown, [found for _, found in scanned if isinstance(found, Unknown)]
            )
            known = {container_id for container_id, _ in scanned}
            await asyncio.to_thread(self._confinement.open, known, same_boot=same_boot)
            for container_id, found in scanned:
                if isinstance(found, Unknown):
                    continue
                state = found.state()
                if state is None:
                    self._instances.bury(found, same_boot=same_boot, watch=self._watches.add)
                    continue
                container = Container(state, Process(*dataclasses.astuple(found.started)))
                container.has_cgroup = self._confinement.has_cgroup(found.spec)
                self._containers[container_id] = container
                if found.exit is None:
                    self._adopt(container, same_boot=same_boot)
                else:
                    container.state = dataclasses.replace(
                        state, exit=self._confinement.explain(container_id, found.exit)
                    )
                container.ended = container.ended or container.state.exit is not None
            running = {name for name, container in self._containers.items() if not container.ended}
            await asyncio.to_thread(self._confinement.sweep, running)
            reached("adoption-swept")
            adoption.finish_boot(self._directory, boot)
        except BaseException as error:
            await self.close()
            if isinstance(error, OSError) and lacking(error):
                raise ProviderError(f"{self._directory.path} cannot be used: {lacking(error)}") from error
            raise
        self._spawn(self._launcher.supervise())
        self._spawn(asyncio.to_thread(self._directory.dispose, *self._directory.trash()))
        return [container.state for container in self._containers.values()]

    def _adopt(self, container: Container, *, same_boot: bool) -> None:
        process, connection = container.process, self._launcher.connection
        if not same_boot or process is None:
            self._finish(container, "the node was rebooted")
            return
        found = processes.stat(process.pid)
        if found is not None and found[1] == process.start_time:
            if connection is not None and found[0] == connection.launcher_pid:
                return  # the launcher's own child: it will tell
            if self._watches.add(container.state.id, process.pid, process.start_time):
                return
        self._finish(container, "the process ended while no agent ran")

    async def close(self) -> None:
        """See Provider.close. A launcher without containers is told to end."""
        await self._instances.close()
        for container in self._containers.values():
            container.disarm()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._compiler.close()
        await self._meter.close()
        self._watches.close()
        running = {name for name, container in self._containers.items() if not container.ended}
        if running:
            self._launcher.close()
        else:
            await self._launcher.end()
        await asyncio.to_thread(self._confinement.close, running)
        self._directory.close()

    async def prepare(self, module: Path, digest: str) -> Artifact:
        """See Provider.prepare."""
        return await self._compiler.prepare(module, digest)

    async def discard(self, digest: str) -> None:
        """See Provider.discard."""
        await self._compiler.discard(digest)

    async def start(self, spec: ContainerSpec, go: asyncio.Event | None = None) -> ContainerState:
        """See Provider.start. Cancelled, it leaves no container: one that was begun is ended and removed."""
        self._confinement.check(spec)
        if spec.log_path is None:
            raise InvalidSpecError("log_path: a container has a log")
        self._confinement.create(spec)
        container = Container(ContainerState(spec.id, spec.labels, spec.log_path, pid=0, started_at=0))
        container.has_cgroup = self._confinement.has_cgroup(spec)
        self._containers[spec.id] = container
        launch = self._spawn(self._launch(container, spec, go))
        try:
            await asyncio.shield(launch)
        except asyncio.CancelledError:
            container.abandoned = True
            if go is not None:
                go.set()
            await self.kill(spec.id)
            raise
        return container.state

    async def _launch(self, container: Container, spec: ContainerSpec, go: asyncio.Event | None) -> None:
        """Bring the container to life, or raise ProviderError and leave nothing of it."""

        async def ask(connection: Connection) -> Process:
            if go is not None:
                await go.wait()
            if container.abandoned:
                raise ProviderError("it was cancelled")
            return await connection.start(spec.id, attachable=spec.stdin or spec.tty)

        try:
            process = await self._process(spec, ask)
        except ProviderError:
            del self._containers[spec.id]
            await self._discard(container)
            raise
        reached("container-answered")
        container.process = process
        container.state = dataclasses.replace(container.state, pid=process.pid, started_at=process.started_at)
        if container.killed:
            container.kill()
        if container.ended:
            # After the caller of start() has seen the container's beginning.
            asyncio.get_running_loop().call_soon(self._finish, container)

    async def run(
        self, spec: ContainerSpec, streams: Streams, on_start: Callable[[int], None] | None = None
    ) -> Exit:
        """See Provider.run."""
        self._confinement.check(spec)
        return await self._instances.run(spec, streams, on_start)

    async def _process(self, spec: ContainerSpec, ask: Ask) -> Process:
        """A process for the spec, whose directory is there, and with ProviderError the caller's to remove."""
        for _ in range(_STARTS):
            if not self._confinement.furnish_at_once(spec):
                await asyncio.to_thread(self._confinement.furnish, spec)
            connection = await self._launcher.ready()
            try:
                return await ask(connection)
            except LauncherGoneError:
                await connection.closed
            started = self._directory.withdraw(spec.id)
            if started is not None:
                process = Process(started.pid, started.start_time, started.started_at)
                if not self._watches.add(spec.id, process.pid, process.start_time):
                    self._on_ended(spec.id)
                return process
            # A process may still come to claim the directory that is now withdrawn: make another.
            trash = self._directory.discard(spec.id)
            if trash is not None:
                await asyncio.to_thread(self._directory.dispose, trash)
            self._confinement.create(spec)
        raise ProviderError(f"the launcher ended {_STARTS} times while it was asked for the container")

    async def attach(self, container_id: str) -> socket.socket:
        """See Provider.attach."""
        container = self._containers.get(container_id)
        if container is None or container.ended or container.process is None:
            raise ProviderError(f"container {container_id} does not run")
        return asking.attach(self._directory, container_id)

    def spec(self, container_id: str) -> ContainerSpec:
        """See Provider.spec."""
        try:
            if container_id in self._containers:
                return self._directory.spec(container_id)
        except (OSError, CorruptFileError) as error:
            raise ProviderError(f"container {container_id}: {error}") from error
        raise ProviderError(f"container {container_id} is not known")

    def root(self, container_id: str) -> Path:
        """See Provider.root."""
        return self._directory.root(container_id)

    async def kill(self, container_id: str) -> None:
        """See Provider.kill."""
        container = self._containers.get(container_id)
        if container is not None and not container.ended:
            container.kill()

    async def stop(self, container_id: str, grace_seconds: float) -> None:
        """See Provider.stop."""
        container = self._containers.get(container_id)
        if container is None or container.ended:
            return
        if grace_seconds > 0 and asking.ask_to_stop(self._directory, container_id):
            container.kill_at(asyncio.get_running_loop().time() + grace_seconds)
        else:
            container.kill()

    async def update(
        self,
        container_id: str,
        *,
        memory_limit: int | None,
        cpu_limit: int | None,
        cpu_request: int | None,
    ) -> None:
        """See Provider.update. Cancelled, it is done nevertheless."""
        container = self._containers.get(container_id)
        if container is None or container.ended or container.process is None:
            raise ProviderError(f"container {container_id} does not run")
        spec = dataclasses.replace(
            self.spec(container_id), memory_limit=memory_limit, cpu_limit=cpu_limit, cpu_request=cpu_request
        )
        await asyncio.shield(self._spawn(self._update(container, container.process, spec)))

    async def _update(self, container: Container, process: Process, spec: ContainerSpec) -> None:
        container.has_cgroup = self._confinement.has_cgroup(spec) or container.has_cgroup
        try:
            await asyncio.to_thread(self._confinement.update, spec, process.pid)
            reached("container-updated")
        finally:
            self._directory.forget_spec(spec.id)
        # Said to the process too, which else ignores it; see native/limits.h.
        processes.send(process.pid, process.start_time, signal.SIGURG)

    async def update_group(self, group: Group) -> None:
        """See Provider.update_group. Cancelled, it is done nevertheless."""
        await asyncio.shield(self._spawn(asyncio.to_thread(self._confinement.update_group, group)))

    def capabilities(self) -> Capabilities:
        """See Provider.capabilities."""
        return dataclasses.replace(self._confinement.capabilities(), sandbox=self._sandbox)

    async def remove(self, container_id: str) -> None:
        """See Provider.remove. Raises ProviderError if it still runs. Cancelled, it is done nevertheless."""
        container = self._containers.get(container_id)
        if container is None:
            return
        if container.state.exit is None:
            raise ProviderError(f"container {container_id} still runs")
        del self._containers[container_id]
        await asyncio.shield(self._spawn(self._discard(container)))

    async def usage(self, container_ids: Iterable[str]) -> dict[str, Usage]:
        """See Provider.usage."""
        running: dict[str, Measured] = {}
        for container_id in container_ids:
            container = self._containers.get(container_id)
            if container is not None and container.process is not None and not container.ended:
                running[container_id] = Measured(container.process.pid, container.process.start_time)
        beside = self._instances.running()
        roots = {self.root(container_id): container_id for container_id in running} if beside else {}
        instances: dict[str, list[Measured]] = {}
        for instance in beside:
            if instance.root in roots and instance.process is not None:
                process = Measured(instance.process.pid, instance.process.start_time)
                instances.setdefault(roots[instance.root], []).append(process)
        return await self._meter.measure(running, instances)

    async def overhead(self) -> Usage | None:
        """See Provider.overhead: the launcher's."""
        connection = self._launcher.connection
        if connection is None:
            return None
        return await self._meter.measure_one(connection.launcher_pid)

    async def _discard(self, container: Container) -> None:
        self._directory.forget_spec(container.state.id)
        trash = self._directory.remove(container.state.id)
        reached("container-directory-removed")
        if container.has_cgroup:
            await asyncio.to_thread(self._confinement.remove, container.state.id)
        if trash is not None:
            await asyncio.to_thread(self._directory.dispose, trash)

    def _on_ended(self, container_id: str) -> None:
        if self._instances.on_ended(container_id):
            return
        container = self._containers.get(container_id)
        if container is None or container.ended:
            return
        reached("container-end-heard")
        container.ended = True
        container.disarm()
        self._meter.forget(container_id)
        if container.process is not None:
            self._finish(container)

    def _finish(self, container: Container, lost: str = "the process was killed, and nobody saw how") -> None:
        state = container.state
        try:
            ended = self._directory.read_exit(state.id)
        except CorruptFileError as error:
            _log.error("container %s: %s", state.id, error)
            ended, lost = None, f"the container's exit record cannot be read: {error}"
        except OSError as error:
            if not container.unread:
                _log.error("how container %s ended is looked at later: %s", state.id, error)
            container.ended = container.unread = True
            asyncio.get_running_loop().call_later(_LATER_SECONDS, self._finish, container, lost)
            return
        if ended is None:
            ended = self._directory.record_lost(state.id, state.started_at, lost)
        if not container.killed:
            ended = self._confinement.explain(state.id, ended)
        container.state = dataclasses.replace(state, exit=ended)
        if container.has_cgroup:
            container.has_cgroup = False
            self._spawn(asyncio.to_thread(self._confinement.remove, state.id))
        if container.abandoned:
            del self._containers[state.id]
            self._spawn(self._discard(container))
        elif container.ended:
            reached("container-end-noted")
            self._on_exit(container.state)

    def _watch_all(self) -> None:
        """Watch what a launcher that is gone would have told of."""
        running = [(found.state.id, found.process) for found in self._containers.values() if not found.ended]
        running += [(instance.id, instance.process) for instance in self._instances.running()]
        for name, process in running:
            if process is None or self._watches.has(name):
                continue
            if not self._watches.add(name, process.pid, process.start_time):
                self._on_ended(name)

    def _spawn(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _end_unknown(containers: list[Unknown]) -> None:
    """End what nobody could manage, so that nothing runs beside what is started in its place. Blocks."""
    for container in containers:
        if container.started is not None:
            processes.end(container.started.pid, container.started.start_time)
    logs = [each.log_path for each in containers if each.started is None and each.log_path is not None]
    if logs:
        for pid, start_time in processes.writers(logs):
            _log.error("process %d is ended: it is of a container that is not known any more", pid)
            processes.end(pid, start_time)
