"""What the volumes of files show: config maps, secrets, downward fields, tokens and trust anchors, collected.

It exists to hold the kubelet's rules of what is at which path, with which mode, and of what happens when it
is not there. It must not know where the files are written.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from vkubelet.api.configuration import ConfigMap, Secret
from vkubelet.api.objects import ObjectMeta, Pod
from vkubelet.api.references import (
    Reference,
    ReferenceFailedError,
    ReferenceNotFoundError,
    References,
)
from vkubelet.api.volumes import (
    ClusterTrustBundleProjection,
    DownwardAPIVolumeFile,
    ServiceAccountTokenProjection,
    Volume,
    VolumeProjection,
)
from vkubelet.pods.downward import ConfigValueError, field_value, volume_resource
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.ownership import fs_group, fs_user
from vkubelet.pods.volumes.payload import Defaults, File, Payload, checked, of_config_map, of_secret
from vkubelet.pods.volumes.tokens import Tokens
from vkubelet.pods.volumes.trust import TrustBundles

Kept = Callable[[str], bytes | None]
"""What is at a path of the volume now, if anything is."""

_Found = TypeVar("_Found", ConfigMap, Secret)

_PRIVATE = 0o600
"""Of a token that is given to a user or a group: the group's permission is added with the group."""


@dataclasses.dataclass(frozen=True, slots=True)
class Content:
    """The files of a volume, and when they must be made anew at the latest (seconds since the epoch)."""

    payload: Payload
    renew_at: float | None = None


def references(pod: Pod, volumes: Iterable[Volume]) -> Iterator[Reference]:
    """The config maps and secrets that these volumes show."""
    namespace = pod.metadata.namespace
    for volume in volumes:
        if volume.config_map is not None:
            yield ("configmaps", namespace, volume.config_map.name)
        if volume.secret is not None:
            yield ("secrets", namespace, volume.secret.secret_name)
        for source in (volume.projected.sources if volume.projected is not None else None) or ():
            if source.config_map is not None:
                yield ("configmaps", namespace, source.config_map.name)
            if source.secret is not None:
                yield ("secrets", namespace, source.secret.name)


class Collector:
    """One for the node."""

    def __init__(
        self,
        objects: References,
        tokens: Tokens,
        trust: TrustBundles,
        allocatable: Callable[[], Mapping[str, int]],
    ) -> None:
        """`allocatable` is what the node has to give, as `resources.counted` counts."""
        self._objects = objects
        self._tokens = tokens
        self._trust = trust
        self._allocatable = allocatable

    async def begin(self, pod: Pod, volume: Volume, kept: Kept) -> None:
        """Ask for the volume's tokens, which take a while, before anybody waits for them.

        What cannot be had now, `collect` will tell.
        """
        for source in (volume.projected.sources if volume.projected is not None else None) or ():
            wanted = source.service_account_token
            if wanted is not None:
                with contextlib.suppress(SetUpError):
                    await self._tokens.get(pod, wanted, kept(wanted.path))

    async def collect(self, pod: Pod, volume: Volume, kept: Kept) -> Content:
        """The volume's content as it should be now. Raises SetUpError."""
        if volume.config_map is not None:
            source = volume.config_map
            found = await self._config_map(pod, source.name, optional=source.optional)
            defaults = Defaults(source.default_mode, source.default_user)
            files = of_config_map(found, source.items, defaults, optional=source.optional)
            return Content(checked(files.items()))
        if volume.secret is not None:
            named = volume.secret
            secret = await self._secret(pod, named.secret_name, optional=named.optional)
            defaults = Defaults(named.default_mode, named.default_user)
            files = of_secret(secret, named.items, defaults, optional=named.optional)
            return Content(checked(files.items()))
        if volume.downward_api is not None:
            shown = volume.downward_api
            defaults = Defaults(shown.default_mode, shown.default_user)
            return Content(checked(self._downward(pod, shown.items or (), defaults).items()))
        return await (await self.all_but_tokens(pod, volume, kept))()

    async def all_but_tokens(self, pod: Pod, volume: Volume, kept: Kept) -> Callable[[], Awaitable[Content]]:
        """Collect what needs no token of a projected volume: what is returned waits for the tokens, and gives
        the volume's content. Both raise SetUpError.
        """
        if volume.projected is None:
            raise SetUpError(f"{volume.kind} is no volume of files")
        defaults = Defaults(volume.projected.default_mode, volume.projected.default_user)
        sources = volume.projected.sources or ()

        def part(source: VolumeProjection) -> Awaitable[Content | SetUpError]:
            return _or_error(self._part(pod, source, defaults, kept))

        others = await asyncio.gather(*(part(source) for source in sources if not _is_token(source)))

        async def complete() -> Content:
            known = iter(others)
            return _joined([await part(one) if _is_token(one) else next(known) for one in sources])

        if any(isinstance(other, SetUpError) for other in others):
            await complete()  # it fails, and tells of the tokens too
        return complete

    async def _part(self, pod: Pod, source: VolumeProjection, defaults: Defaults, kept: Kept) -> Content:
        if source.config_map is not None:
            wanted = source.config_map
            config_map = await self._config_map(pod, wanted.name, optional=wanted.optional)
            return Content(of_config_map(config_map, wanted.items, defaults, optional=wanted.optional))
        if source.secret is not None:
            named = source.secret
            secret = await self._secret(pod, named.name, optional=named.optional)
            return Content(of_secret(secret, named.items, defaults, optional=named.optional))
        if source.downward_api is not None:
            return Content(self._downward(pod, source.downward_api.items or (), defaults))
        if source.service_account_token is not None:
            return await self._token(pod, source.service_account_token, defaults, kept)
        if source.cluster_trust_bundle is not None:
            return await self._anchors(pod, source.cluster_trust_bundle, defaults)
        raise SetUpError("a projected source of this kind is not supported by this node")

    async def _config_map(self, pod: Pod, name: str, *, optional: bool) -> ConfigMap:
        nothing = ConfigMap(metadata=ObjectMeta(namespace=pod.metadata.namespace, name=name))
        get = self._objects.get("configmaps", pod.metadata.namespace, name)
        return await _referenced(get, nothing if optional else None)

    async def _secret(self, pod: Pod, name: str, *, optional: bool) -> Secret:
        nothing = Secret(metadata=ObjectMeta(namespace=pod.metadata.namespace, name=name))
        get = self._objects.get("secrets", pod.metadata.namespace, name)
        return await _referenced(get, nothing if optional else None)

    def _downward(self, pod: Pod, items: Iterable[DownwardAPIVolumeFile], defaults: Defaults) -> Payload:
        files: Payload = {}
        for item in items:
            text = ""
            try:
                if item.field_ref is not None:
                    text = field_value(pod, item.field_ref.field_path)
                elif item.resource_field_ref is not None:
                    text = volume_resource(pod, item.resource_field_ref, self._allocatable())
            except ConfigValueError as error:
                raise SetUpError(str(error)) from error
            files[item.path] = defaults.file(text.encode(), item.mode, item.user)
        return files

    async def _token(
        self, pod: Pod, wanted: ServiceAccountTokenProjection, defaults: Defaults, kept: Kept
    ) -> Content:
        token = await self._tokens.get(pod, wanted, kept(wanted.path))
        return Content({wanted.path: _given(pod, token.text.encode(), defaults, wanted.user)}, token.renew_at)

    async def _anchors(self, pod: Pod, wanted: ClusterTrustBundleProjection, defaults: Defaults) -> Content:
        return Content({wanted.path: _given(pod, await self._trust.anchors(wanted), defaults, wanted.user)})


def has_tokens(volume: Volume) -> bool:
    """Whether part of the volume is asked of the API server each time."""
    sources = volume.projected.sources if volume.projected is not None else None
    return any(map(_is_token, sources or ()))


def _joined(parts: Sequence[Content | SetUpError]) -> Content:
    """The content of a volume of several parts. Raises SetUpError if one failed, with all that did."""
    failures = list(dict.fromkeys(str(part) for part in parts if isinstance(part, SetUpError)))
    if failures:
        # As Go's errors in sum are told: one as it is, several in brackets.
        raise SetUpError(failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]")
    found = [part for part in parts if isinstance(part, Content)]
    renewals = [part.renew_at for part in found if part.renew_at is not None]
    files = checked(item for part in found for item in part.payload.items())
    return Content(files, min(renewals, default=None))


def _is_token(source: VolumeProjection) -> bool:
    return source.service_account_token is not None


def _given(pod: Pod, data: bytes, defaults: Defaults, user: int | None) -> File:
    """A file for the pod's user or group alone, where it has one."""
    for whose in (user, defaults.user, fs_user(pod)):
        if whose is not None:
            return File(data, _PRIVATE, whose)
    return File(data, defaults.mode if fs_group(pod) is None else _PRIVATE)


async def _referenced(get: Awaitable[_Found], nothing: _Found | None) -> _Found:
    """The object, or what stands for it where it is not there. Raises SetUpError with the kubelet's text."""
    try:
        return await get
    except ReferenceNotFoundError as error:
        if nothing is not None:
            return nothing
        raise SetUpError(str(error)) from error
    except ReferenceFailedError as error:
        raise SetUpError(str(error)) from error


async def _or_error(part: Awaitable[Content]) -> Content | SetUpError:
    try:
        return await part
    except SetUpError as error:
        return error
