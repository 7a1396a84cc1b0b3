"""The composition root of `vkubelet play`: makes the parts, joins them to the terminal, and ends them.

It exists so that the other modules of this package need not know each other. What runs pods is what a node
has: only who names the pods, and who is told, is different.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import shutil
import signal
import uuid
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from oci.errors import OciError
from oci.images import ImageStore
from oci.reference import parse
from providers.base import ContainerSpec, ContainerState, ExitListener, Provider, ProviderError
from providers.wasmtime.provider import WasmtimeProvider
from vkubelet.api.objects import Pod, PodStatus
from vkubelet.config import Config, ConfigError
from vkubelet.images.progress import PullProgress
from vkubelet.node import facts
from vkubelet.play.console import is_interactive, join
from vkubelet.play.notes import Notes
from vkubelet.play.objects import FileReferences
from vkubelet.play.output import Output
from vkubelet.play.player import Outcome, Player
from vkubelet.play.script import Script, script
from vkubelet.play.workspace import RUNTIME, workspace
from vkubelet.pods import records
from vkubelet.pods.attachment import attach
from vkubelet.pods.devices import NoDevices
from vkubelet.pods.directory import LogSource
from vkubelet.pods.instrumented import InstrumentedProvider
from vkubelet.pods.interaction import CommandError, Wanted
from vkubelet.pods.manifests.errors import ManifestError
from vkubelet.pods.manifests.text import documents
from vkubelet.pods.runtime import PodRuntime
from vkubelet.pods.starter import pod_log_dir
from vkubelet.pods.static.source import StaticPods
from vkubelet.pods.volumes.tmpfs import is_in_memory
from vkubelet.server.log_reader import LogReader
from vkubelet.standalone import LocalNode, Nobody
from vkubelet.startup import AgentError, make_directories
from vkubelet.toolbox import Toolbox

logger = logging.getLogger(__name__)

NODE = "play"
_PATIENCE = 30.0
"""Seconds for killed containers to end."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PLAY_ERRORS = (AgentError, ConfigError, ManifestError, OciError, ProviderError)
"""What ends a play with one line; anything else is a defect and shows its trace."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for. `log_dir` and `root_dir` are kept; without them nothing is."""

    file: Path | None
    insecure_registries: tuple[str, ...] = ()
    log_dir: Path | None = None
    root_dir: Path | None = None
    verbose: bool = False


async def play(options: Options, data: bytes) -> Outcome:
    """Run what the file, whose content is `data`, asks for. Raises one of PLAY_ERRORS."""
    source = "-" if options.file is None else str(options.file)
    if data.startswith(b"\0asm"):
        hint = "is a WebAssembly module: name it in a pod's manifest, as `image:` of a container"
        raise ManifestError(source, "", [hint])
    directory = (Path() if options.file is None else options.file.parent).absolute()
    found = script(documents(data, source), source, directory, NODE, lambda: str(uuid.uuid4()))
    async with workspace() as place:
        config = Config(
            node_name=NODE,
            node_ip="127.0.0.1",
            root_dir=str(place.directory / "root"),
            run_dir=str(place.run),
            pod_logs_dir=str(place.directory / "logs"),
            insecure_registries=options.insecure_registries,
            register_with_taints=(),
            image_gc_high_threshold_percent=100,
            eviction_hard={},  # a machine that is short of something is its user's affair
        )
        make_directories(config)
        compiled = place.compiled if options.root_dir is None else options.root_dir / "compiled"
        provider = WasmtimeProvider(place.run / RUNTIME, compiled, Path(config.root_dir) / "rootfs")
        stage = _Stage(options, config, found, provider)
        try:
            return await stage.run()
        finally:
            # Whatever has happened: containers outlive those who do not end them.
            await stage.end()
            await provider.close()


class _Watched(InstrumentedProvider):
    """A provider that tells of every start and end, before anything else happens.

    `mine` tells of a container that its terminal is ours: nothing that it shows is for its log alone.
    """

    def __init__(
        self,
        provider: Provider,
        mine: Callable[[ContainerSpec], bool],
        started: Callable[[ContainerSpec, ContainerState], None],
        ended: Callable[[ContainerState], None],
    ) -> None:
        super().__init__(provider)
        self._mine = mine
        self._started = started
        self._ended = ended

    async def open(self, on_exit: ExitListener) -> list[ContainerState]:
        """See Provider."""

        def ended(state: ContainerState) -> None:
            self._ended(state)
            on_exit(state)

        return await super().open(ended)

    async def start(self, spec: ContainerSpec, go: asyncio.Event | None = None) -> ContainerState:
        """See Provider."""
        spec = dataclasses.replace(spec, attended=spec.tty and self._mine(spec))
        state = await super().start(spec, go)
        self._started(spec, state)
        return state


class _Stage:
    """The parts of one play. Implements StatusSink around its static pods."""

    def __init__(self, options: Options, config: Config, found: Script, provider: Provider) -> None:
        self._options = options
        self._config = config
        self._script = found
        self._provider = _Watched(provider, self._is_mine, self._started, self._ended)
        self._progress = PullProgress() if is_interactive() else None
        self._player = Player(found.pods)
        self._notes = Notes(self._make_room, self._player.failed, verbose=options.verbose)
        self._static = StaticPods(Nobody(), self._player)
        self._reader = LogReader()
        self._output = Output(self._reader, self._make_room)
        self._interactive = interactive(found)
        self._group: asyncio.TaskGroup | None = None
        self._writing: dict[str, set[asyncio.Task[None]]] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self._hurried = asyncio.Event()

    async def run(self) -> Outcome:
        """Run all pods to their end. Raises one of PLAY_ERRORS."""
        config = self._config
        # What it warns of is said below, to those whom it concerns.
        logging.getLogger("vkubelet.pods.volumes.memory").setLevel(logging.ERROR)
        for note in (*self._script.notes, *self._deaf(), *self._on_disk()):
            self._notes.say(note)
        images = ImageStore(
            (self._options.root_dir or Path(config.root_dir)) / "images",
            owner=Path(config.run_dir),
            insecure_registries=config.insecure_registries,
            progress=self._progress,
        )
        await asyncio.to_thread(images.open)
        await self._take_in(images)
        machine = await asyncio.to_thread(facts.read, config)
        runtime = PodRuntime(
            config,
            self._provider,
            images,
            None,
            toolbox=Toolbox(enabled=True),
            recorder=self._notes,
            statuses=self,
            references=FileReferences(self._script.objects),
            services=None,
            client=None,
            node=LocalNode(config, machine, self._notes),
            host_ip=config.node_ip,
            devices=NoDevices(),
        )
        self._static.run_with(runtime.manager)
        runtime.manager.ended = self._static.ended
        try:
            await runtime.open()
            with self._signals(runtime):
                async with asyncio.TaskGroup() as group:
                    self._group = group
                    tasks = [group.create_task(part, name=name) for name, part in runtime.tasks().items()]
                    await asyncio.sleep(0)  # the manager takes pods once it runs
                    runtime.manager.synced()
                    ended = await self._player.run(self._static)
                    for task in tasks:
                        task.cancel()
            return ended
        finally:
            self._make_room()
            self._reader.close()
            runtime.close()

    async def end(self) -> None:
        """End what still runs, at once."""
        running = {identifier: end for identifier, end in self._ends.items() if not end.is_set()}
        for identifier in running:
            await self._provider.kill(identifier)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                for end in running.values():
                    await end.wait()

    async def _take_in(self, images: ImageStore) -> None:
        """Have the modules of this machine as images. Raises AgentError, OciError."""
        for name, file in self._script.files.items():
            try:
                await images.add(file, parse(name))
            except OSError as error:
                raise AgentError(f"image {file}: {error.strerror or error}") from error

    def _deaf(self) -> Iterator[str]:
        """What to say of containers that want a terminal or input which another one has."""
        for manifest in self._script.pods:
            for container in manifest.pod.spec.containers or ():
                key = (manifest.pod.metadata.uid, container.name)
                if (container.stdin or container.tty) and key != self._interactive:
                    yield f"container {container.name} gets no input: another one has it"

    def _on_disk(self) -> Iterator[str]:
        """What to say to whoever has secrets and no place in memory for them."""
        run = Path(self._config.run_dir)
        if any(kind == "secrets" for kind, _, _ in self._script.objects) and not (
            is_in_memory(run) or os.geteuid() == 0
        ):
            yield f"secrets are files of this user alone in {run}, on a disk: set XDG_RUNTIME_DIR to a tmpfs"

    def _make_room(self) -> None:
        if self._progress is not None:
            self._progress.clear()

    def _started(self, spec: ContainerSpec, state: ContainerState) -> None:
        """Write what a container writes, from its first line on."""
        found = records.record(state)
        if self._group is None:
            raise RuntimeError("containers start only while the group runs")
        end = self._ends.setdefault(state.id, asyncio.Event())
        name = f"{found.pod}/{found.container}"
        parts = []
        mine = self._is_mine(spec)
        if mine:
            parts.append(self._join(state.id, spec))
        if not (mine and spec.tty):
            source = LogSource(state.log_path, end)
            parts.append(self._output.follow(source, self._prefix(found.pod, found.container)))
        for part in parts:
            task = self._group.create_task(self._guarded(part), name=f"output {name}")
            self._writing.setdefault(found.uid, set()).add(task)

    def _is_mine(self, spec: ContainerSpec) -> bool:
        """Whether it is the one that has our input, and our terminal if it wants one."""
        return records.container_of(spec.labels) == self._interactive

    def _ended(self, state: ContainerState) -> None:
        self._ends.setdefault(state.id, asyncio.Event()).set()

    async def _guarded(self, part: Coroutine[Any, Any, None]) -> None:
        """Nobody who reads what pods write is nobody who wants them."""
        try:
            await part
        except BrokenPipeError:
            self._player.stop()

    async def _join(self, container_id: str, spec: ContainerSpec) -> None:
        wanted = Wanted(stdin=spec.stdin, stdout=spec.tty, stderr=False, tty=spec.tty)
        try:
            async with attach(self._provider, container_id, wanted) as attachment:
                self._notes.raw = spec.tty
                await join(attachment, self._output.write, takes_input=spec.stdin, terminal=spec.tty)
        except CommandError as error:
            logger.info("container %s ended before it could be joined: %s", container_id[:12], error)
        finally:
            self._notes.raw = False

    def _prefix(self, pod: str, container: str) -> str:
        count = sum(len(manifest.pod.spec.all_containers()) for manifest in self._script.pods)
        if count == 1:
            return ""
        return f"[{container}] " if len(self._script.pods) == 1 else f"[{pod}/{container}] "

    @contextlib.contextmanager
    def _signals(self, runtime: PodRuntime) -> Iterator[None]:
        """The first of these ends the pods, the second one at once."""
        loop = asyncio.get_running_loop()

        def told(number: signal.Signals) -> None:
            if not self._player.stopped:
                if is_interactive():
                    self._notes.say("ending the pods; once more ends them at once")
                self._player.stop()
            elif self._group is not None:
                self._hurried.set()
                self._group.create_task(self._kill(runtime), name=f"kill by {number.name}")

        for number in _ENDING:
            loop.add_signal_handler(number, told, number)
        try:
            yield
        finally:
            for number in _ENDING:
                loop.remove_signal_handler(number)

    async def _kill(self, runtime: PodRuntime) -> None:
        for entry in runtime.manager.pods():
            for container in entry.containers:
                if container.running:
                    await self._provider.kill(container.id)

    def report(self, pod: Pod, status: PodStatus) -> None:
        """See StatusSink."""
        self._static.report(pod, status)

    async def finish(self, pod: Pod, status: PodStatus | None) -> None:
        """See StatusSink: what a pod wrote is written here, and kept where that is wanted, before it goes."""
        await self._static.finish(pod, status)
        writing = self._writing.pop(pod.metadata.uid, set())
        if writing:
            hurried = asyncio.ensure_future(self._hurried.wait())
            written = asyncio.ensure_future(asyncio.wait(writing))
            await asyncio.wait((written, hurried), return_when=asyncio.FIRST_COMPLETED)
            for left in (hurried, *writing):
                left.cancel()
            await asyncio.wait((hurried, written))
        if self._options.log_dir is not None:
            meta = pod.metadata
            logs = pod_log_dir(self._config, meta.namespace, meta.name, meta.uid)
            try:
                await asyncio.to_thread(_keep, logs, self._options.log_dir / logs.name)
            except OSError as error:  # shutil.Error is one too
                self._notes.say(f"the logs of pod {meta.name} are not kept: {error}")

    def forget(self, uid: str) -> None:
        """See StatusSink."""
        self._static.forget(uid)


def interactive(found: Script) -> tuple[str, str] | None:
    """The container that gets the terminal or the input: the first that wants it; uid and name."""
    for manifest in found.pods:
        for container in manifest.pod.spec.containers or ():
            if container.stdin or container.tty:
                return manifest.pod.metadata.uid, container.name
    return None


def _keep(logs: Path, target: Path) -> None:
    if logs.is_dir():
        shutil.copytree(logs, target)
