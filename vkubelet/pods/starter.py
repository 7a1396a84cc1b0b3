"""Starts one container: image, compiled code, environment, process, with a kubelet's events on the way.

It exists to keep what can fail in a start, and the reason that each failure is known by, in one readable
sequence. It must not know when a container should start or what follows from a failure.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from oci.flights import ended
from oci.images import Image
from providers.base import (
    Artifact,
    ContainerSpec,
    ContainerState,
    DamagedModuleError,
    Group,
    Preopen,
    Provider,
    ProviderError,
)
from providers.exhausted import lacking
from providers.faultpoints import reached
from vkubelet import tracing
from vkubelet.api.containers import Container
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod, pod_reference
from vkubelet.api.volumes import ImageVolumeSource, Volume
from vkubelet.config import Config
from vkubelet.pods import log_directories, records
from vkubelet.pods.backoff import Backoff
from vkubelet.pods.container_reference import container_reference
from vkubelet.pods.devices import DeviceError, Devices, Equipment
from vkubelet.pods.downward import ConfigValueError
from vkubelet.pods.ending import wants_stop_file
from vkubelet.pods.environment import Environment, with_terminal
from vkubelet.pods.etc_files import EtcFiles
from vkubelet.pods.fit import NodeView
from vkubelet.pods.hostname import Hostname, HostnameError, hostname
from vkubelet.pods.images.source import ImageSource
from vkubelet.pods.program import Program, program
from vkubelet.pods.qos import oom_score_adj
from vkubelet.pods.resources import applied
from vkubelet.pods.security import IdentityError, identity, joined, own_identity, read_only_root
from vkubelet.pods.sources import Environments, Place
from vkubelet.pods.start_error import StartError
from vkubelet.pods.volumes.mounts import Mounts


class PodMounts(Protocol):
    """What a start asks of the pod's volumes."""

    def mounts(self, pod: Pod, container: Container, env: Mapping[str, str]) -> Mounts:
        """What the container sees of them; `env` is what subPathExpr may speak of. Raises StartError."""
        ...

    def images(self, pod: Pod, container: Container) -> list[Volume]:
        """The image volumes that the container mounts."""
        ...

    async def complete(self, pod: Pod) -> None:
        """Wait for what is still to come into them. Raises NotMountedError: it did not."""
        ...

    async def show(self, volume: str, found: Image) -> None:
        """An image volume's image is here. Raises StartError."""
        ...

    def host_path(self, volume: str) -> Path | None:
        """Where a mounted volume is; None if it is not."""
        ...


class Starter:
    """One for the node; holds what every start needs."""

    def __init__(
        self,
        config: Config,
        provider: Provider,
        images: ImageSource,
        environments: Environments,
        recorder: Recorder,
        node: Callable[[], NodeView],
        devices: Devices,
    ) -> None:
        """All of them outlive every start. `node` tells what the node is now."""
        self._config = config
        self._provider = provider
        self._images = images
        self._environments = environments
        self._recorder = recorder
        self._node = node
        self._devices = devices
        self._own = own_identity()
        self._etc = EtcFiles(config, recorder)

    async def start(
        self,
        pod: Pod,
        container: Container,
        number: int,
        life: int,
        backoff: Backoff,
        host_ip: str,
        volumes: PodMounts,
        group: Group | None,
        beside: Callable[[tuple[Preopen, ...]], tuple[Preopen, ...]],
        available: Callable[[], None],
    ) -> ContainerState:
        """Start attempt `number` of a container, in the pod's `life`. Raises StartError.

        All is made ready while `volumes` are coming, if they are; NotMountedError is raised when they do not.
        It sees what it mounts of them, and what `beside` gives for that, which may raise StartError too,
        and is in `group`. After a failure, `available` is called when what its environment lacks may be
        there.

        Cancelled before the process is asked for, it leaves nothing; later, the provider decides whether
        the container exists.
        """
        try:
            if any(mount.sub_path or mount.sub_path_expr for mount in container.volume_mounts or ()):
                await volumes.complete(pod)
            name = self._hostname(pod)
            for volume in volumes.images(pod, container):
                source = volume.image or ImageVolumeSource()
                like = msgspec.structs.replace(
                    container, image=source.reference, image_pull_policy=source.pull_policy
                )
                await volumes.show(volume.name, await self._image(pod, like))
            image = await self._image(pod, container)
            reached("image-bound")
            place = Place(name.name, host_ip, self._node().allocatable, volumes.host_path)
            try:
                with tracing.span("environment"):
                    env = await self._environments.make(pod, container, image.config.env, place, available)
                equipment = await self._devices.equip(pod, container)
            except (ConfigValueError, DeviceError) as error:
                raise StartError("CreateContainerConfigError", str(error)) from error
            try:
                self._etc.make(pod, name, host_ip)
            except OSError as error:
                raise StartError("CreateContainerConfigError", f"files of /etc: {error}") from error
            env = equipment.below(env)
            runs = await program(container, image, env)
            with tracing.span("compile"):
                artifact = await self._prepare(image, runs)
            spec = self._spec(
                pod,
                container,
                number,
                life,
                backoff,
                env,
                volumes,
                group,
                beside,
                image,
                equipment,
                runs,
                artifact,
            )
            with tracing.span("start"):
                state = await self._run(pod, container, spec, volumes)
        except (StartError, OSError, RuntimeError) as error:
            failure = error if isinstance(error, StartError) else _exhausted(error)
            if failure.reason != "ContainerCreating":
                self._event(pod, container, "Warning", "Failed", f"Error: {_event_text(failure)}")
            if failure is error:
                raise
            raise failure from error
        self._event(pod, container, "Normal", "Started", "Container started")
        return state

    def forget(self, pod: Pod) -> None:
        """Nothing of the pod will start any more."""
        self._environments.forget(pod)
        self._images.forget(pod)
        self._etc.forget(pod)

    async def _image(self, pod: Pod, container: Container) -> Image:
        with tracing.span("image", {"container.image.name": container.image}):
            return await self._images.image(pod, container)

    def _hostname(self, pod: Pod) -> Hostname:
        """What the pod is called; a kubelet can make no sandbox for one whose name is impossible."""
        try:
            return hostname(pod, self._config.cluster_domain, socket.gethostname())
        except HostnameError as error:
            message = f"Failed to create pod sandbox: {error}"
            self._recorder.event(pod_reference(pod), "Warning", "FailedCreatePodSandBox", message)
            raise StartError("ContainerCreating", "") from error

    async def _prepare(self, image: Image, runs: Program) -> Artifact:
        try:
            return await self._provider.prepare(runs.module, runs.digest)
        except DamagedModuleError as error:
            await self._images.set_aside_damaged(image)  # so that the next try gets it anew
            raise StartError("CreateContainerError", str(error)) from error
        except ProviderError as error:
            raise StartError("CreateContainerError", str(error)) from error

    def _spec(
        self,
        pod: Pod,
        container: Container,
        number: int,
        life: int,
        backoff: Backoff,
        env: Environment,
        volumes: PodMounts,
        group: Group | None,
        beside: Callable[[tuple[Preopen, ...]], tuple[Preopen, ...]],
        image: Image,
        equipment: Equipment,
        runs: Program,
        artifact: Artifact,
    ) -> ContainerSpec:
        bounds, node = applied(pod, container), self._node()
        try:
            user = identity(pod, container, image.config.user, self._own, runs.users)
        except IdentityError as error:
            raise StartError("CreateContainerConfigError", str(error)) from error
        mounted = equipment.beneath(volumes.mounts(pod, container, env.declared))
        user = joined(user, mounted.groups, self._own)
        preopens = (*mounted.preopens, *beside(mounted.preopens))
        config = image.config
        return ContainerSpec(
            id=secrets.token_hex(32),
            labels=records.labels(pod, container, number, life, image_id(image), backoff, user or self._own),
            artifact=artifact,
            args=runs.words,
            env=with_terminal(env.variables) if container.tty else env.variables,
            log_path=self._log_file(pod, container, number),
            working_dir=container.working_dir or config.working_dir or "/",
            template=image.files.root if image.files else None,
            preopens=preopens,
            files=(*mounted.files, *self._etc.mounts(pod, preopens, mounted.files)),
            memory_limit=bounds.memory_limit or None,
            cpu_limit=bounds.cpu_limit or None,
            cpu_request=bounds.weight,
            log_max_bytes=self._config.container_log_max_size,
            log_max_files=self._config.container_log_max_files,
            stdin=container.stdin,
            stdin_once=container.stdin_once,
            tty=container.tty,
            network=pod.spec.host_network,
            read_only_root=read_only_root(container),
            identity=user,
            stop_file=wants_stop_file(pod),
            group=group,
            oom_score_adj=oom_score_adj(pod, container, node.memory),
        )

    def _log_file(self, pod: Pod, container: Container, number: int) -> Path:
        """Where attempt `number` of the container logs to; its directory is there. Raises OSError."""
        path = log_file(self._config, pod, container.name, number)
        log_directories.make(log_directories.link(self._config.root_dir, pod.metadata.uid), path.parent)
        return path

    async def _run(
        self, pod: Pod, container: Container, spec: ContainerSpec, volumes: PodMounts
    ) -> ContainerState:
        """Have everything made, and the process once the volumes are there. From then on it is waited for, so
        that no container is lost to a cancellation: what is not wanted any more is then ended like any other.
        """
        go = asyncio.Event()
        asked = asyncio.ensure_future(self._provider.start(spec, go))
        try:
            await volumes.complete(pod)
        except BaseException:
            asked.cancel()
            await ended(asked)
            raise
        self._event(pod, container, "Normal", "Created", "Container created")
        go.set()
        try:
            try:
                return await asyncio.shield(asked)
            except asyncio.CancelledError:
                state = await asked
                task = asyncio.current_task()
                if task is not None:
                    task.uncancel()
                return state
        except ProviderError as error:
            raise StartError("RunContainerError", str(error)) from error

    def _event(self, pod: Pod, container: Container, kind: str, reason: str, message: str) -> None:
        self._recorder.event(container_reference(pod, container.name), kind, reason, message)


def image_id(image: Image) -> str:
    """The image as containerStatuses[].imageID shows it: `registry/repository@digest`."""
    return image.reference.by_digest(image.digest).name


def pod_log_dir(config: Config, namespace: str, name: str, uid: str) -> Path:
    """The kubelet's directory of a pod's logs."""
    return Path(f"{config.pod_logs_dir}/{namespace}_{name}_{uid}")


def log_file(config: Config, pod: Pod, container: str, number: int) -> Path:
    """The current log file of attempt `number`, in the kubelet's layout."""
    meta = pod.metadata
    return Path(f"{pod_log_dir(config, meta.namespace, meta.name, meta.uid)}/{container}/{number}.log")


def _exhausted(error: OSError | RuntimeError) -> StartError:
    """What the machine lacks, at whichever step of a start. Raises all that is a defect of ours."""
    text = lacking(error)
    if text is None:
        raise error
    return StartError("CreateContainerError", text)


def _event_text(error: StartError) -> str:
    """A kubelet's event repeats the pull error's reason only: its text stands in the event before."""
    return error.reason if error.reason.startswith(("ErrImage", "InvalidImage")) else str(error)
