"""Frees what nobody needs on the node's disks: containers that have ended, images, compiled code.

It exists so that no pod is evicted for files that no pod uses. It must not know when disks are short.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Protocol

from oci.errors import InvalidReferenceError
from oci.images import Image, ImageStore
from oci.reference import parse
from providers.base import Provider, ProviderError
from vkubelet.api.objects import Pod
from vkubelet.pods.images.access import AccessFiles
from vkubelet.pods.inventory import PodEntry

logger = logging.getLogger(__name__)


class Collectable(Protocol):
    """The pods of the node."""

    def pods(self) -> list[PodEntry]:
        """All of them."""
        ...

    async def collect(self) -> None:
        """Forget containers that have ended and that nobody looks at. Raises ProviderError."""
        ...


class Garbage:
    """One for the node. It frees all there is: pods would have to go next."""

    def __init__(
        self, pods: Collectable, images: ImageStore, provider: Provider, access: AccessFiles | None
    ) -> None:
        """All of them outlive this."""
        self._access = access
        self._pods = pods
        self._images = images
        self._provider = provider

    async def collect(self) -> None:
        """Free it. What cannot be freed is logged, and is there the next time."""
        try:
            await self._pods.collect()
        except ProviderError as error:
            logger.warning("containers that have ended: %s", error)
        used = frozenset(_names(self._pods.pods()))
        try:
            removed = await self._images.remove_unused(lambda image: not used.isdisjoint(image.names))
            left = self._images.list()
            if self._access is not None:
                self._access.keep_only({image.digest for image in left})
            needed = {digest for image in left for digest in image.module_digests}
            for digest in {digest for image in removed for digest in image.module_digests} - needed:
                await self._provider.discard(digest)
        except (OSError, ProviderError) as error:
            logger.warning("images that no pod uses: %s", error)
            return
        if removed:
            logger.info("removed images that no pod uses: %s", _told(removed))


def _names(pods: Iterable[PodEntry]) -> Iterator[str]:
    """What the images that pods use are kept under: those that run, and those that are asked for."""
    for entry in pods:
        for container in entry.containers:
            yield container.image_id
        for text in _asked_for(entry.pod):
            try:
                yield parse(text).name
            except InvalidReferenceError:
                continue  # nothing can be kept under it


def _asked_for(pod: Pod) -> Iterator[str]:
    for container in pod.spec.all_containers():
        yield container.image
    for volume in pod.spec.volumes or ():
        if volume.image is not None:
            yield volume.image.reference


def _told(images: Iterable[Image]) -> str:
    return ", ".join(sorted(name for image in images for name in image.names))
