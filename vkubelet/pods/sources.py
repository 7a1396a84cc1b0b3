"""A container's environment, with all that it comes from: fetched for each start, waited for if absent.

It exists so that a start asks for an environment and gets one, or the reason why not and the promise of a
call when that may have changed. It must not know what a start is. What variables mean is `environment`'s.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from vkubelet.api.configuration import ConfigMap, Secret, Service
from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod
from vkubelet.api.references import Reference, ReferenceFailedError, References
from vkubelet.pods import service_links
from vkubelet.pods.downward import ConfigValueError
from vkubelet.pods.env_files import EnvFileError, read
from vkubelet.pods.environment import Environment, FileKey, Sources, environment
from vkubelet.pods.fit import is_static

T = TypeVar("T")

SERVICES_DEADLINE = 10.0
"""Seconds for which a start waits for the first list of services."""


class ServiceSource(Protocol):
    """Knows the cluster's services."""

    async def in_namespace(self, namespace: str, timeout: float) -> list[Service]:
        """Those of a namespace that have an address. Raises TimeoutError when none are known yet."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a container is about to start."""

    hostname: str
    host_ip: str
    allocatable: Mapping[str, int]
    volume: Callable[[str], Path | None]
    """The host's directory of a mounted volume."""


class Environments:
    """One for the node."""

    def __init__(self, references: References, services: ServiceSource | None) -> None:
        """`services` is None where there is no cluster."""
        self._references = references
        self._services = services
        self._waiting: set[str] = set()

    async def make(
        self,
        pod: Pod,
        container: Container,
        image_env: Sequence[str],
        place: Place,
        on_change: Callable[[], None],
    ) -> Environment:
        """The environment for a start that is about to happen.

        Raises ConfigValueError when it cannot be had now; `on_change` is then called when one of the objects
        that it comes from has changed, until the next `make` for the container, or `forget`.
        """
        owner = _owner(pod, container)
        wanted = frozenset(_references(pod, container))
        if wanted and owner not in self._waiting:
            self._references.use(owner, wanted)
        try:
            sources = await self._fetch(pod, container, wanted, place)
            made = environment(pod, container, image_env, sources)
        except ConfigValueError:
            if wanted:
                self._waiting.add(owner)
                self._references.use(owner, wanted, on_change)
            raise
        if owner in self._waiting:
            self._waiting.discard(owner)
            self._references.use(owner, wanted)
        return made

    def forget(self, pod: Pod) -> None:
        """Nothing of the pod will start any more."""
        for container in pod.spec.all_containers():
            owner = _owner(pod, container)
            self._waiting.discard(owner)
            self._references.use(owner, ())

    async def _fetch(
        self, pod: Pod, container: Container, wanted: frozenset[Reference], place: Place
    ) -> Sources:
        config_maps: dict[str, ConfigMap | ReferenceFailedError] = {}
        secrets: dict[str, Secret | ReferenceFailedError] = {}

        async def get(reference: Reference) -> None:
            kind, namespace, name = reference
            if kind == "configmaps":
                config_maps[name] = await _or_error(self._references.get(kind, namespace, name))
            else:
                secrets[name] = await _or_error(self._references.get(kind, namespace, name))

        services = await self._linked(pod)
        if wanted:
            await asyncio.gather(*map(get, wanted))
        keys = list(_file_keys(container))
        return Sources(
            hostname=place.hostname,
            host_ip=place.host_ip,
            config_maps=config_maps,
            secrets=secrets,
            files=await asyncio.to_thread(_read, keys, place) if keys else {},
            services=services,
            allocatable=place.allocatable,
        )

    async def _linked(self, pod: Pod) -> dict[str, str]:
        """The variables that tell of services. Raises ConfigValueError when none are known yet."""
        if self._services is None:
            return {}
        namespace, own = pod.metadata.namespace, pod.spec.enable_service_links is not False
        static = is_static(pod)
        try:
            timeout = 0.0 if static else SERVICES_DEADLINE
            default = await self._services.in_namespace(service_links.MASTER_NAMESPACE, timeout)
            links = await self._services.in_namespace(namespace, timeout) if own else []
        except TimeoutError:
            if static:  # it may be what the API server runs in
                return {}
            text = "services have not yet been read at least once, cannot construct envvars"
            raise ConfigValueError(text) from None
        return service_links.variables(service_links.linked(links, default, all_own=own))


async def _or_error(asked: Awaitable[T]) -> T | ReferenceFailedError:
    try:
        return await asked
    except ReferenceFailedError as error:
        return error


def _owner(pod: Pod, container: Container) -> str:
    """Who uses the objects, as `References.use` tells users apart."""
    return f"environment {pod.metadata.uid} {container.name}"


def _references(pod: Pod, container: Container) -> Iterator[Reference]:
    """The objects that the container's variables come from."""
    namespace = pod.metadata.namespace
    for source in container.env_from or ():
        if source.config_map_ref is not None:
            yield "configmaps", namespace, source.config_map_ref.name
        elif source.secret_ref is not None:
            yield "secrets", namespace, source.secret_ref.name
    for variable in container.env or ():
        if variable.value_from is None:
            continue
        if variable.value_from.config_map_key_ref is not None:
            yield "configmaps", namespace, variable.value_from.config_map_key_ref.name
        elif variable.value_from.secret_key_ref is not None:
            yield "secrets", namespace, variable.value_from.secret_key_ref.name


def _file_keys(container: Container) -> Iterator[FileKey]:
    for variable in container.env or ():
        wanted = variable.value_from.file_key_ref if variable.value_from is not None else None
        if wanted is not None:
            yield wanted.volume_name, wanted.path, wanted.key


def _read(keys: Iterable[FileKey], place: Place) -> dict[FileKey, str | ConfigValueError]:
    """What these variables are in their files, or why they cannot be had. Blocks."""
    return {key: _read_one(*key, place) for key in keys}


def _read_one(volume: str, path: str, key: str, place: Place) -> str | ConfigValueError:
    root = place.volume(volume)
    if root is None:
        return ConfigValueError(f'cannot find the volume "{volume}" referenced by FileKeyRef')
    try:
        return read(root, path, key)
    except EnvFileError as error:
        return ConfigValueError(f"couldn't parse env file: {error}")
