"""Frees what nobody needs on the node's disks: containers that have ended, images, compiled code.

It exists so that disks do not fill with images, and so that no pod is evicted for files that no pod uses. It
does what `images.collection` decides. It must not know when disks are so short that pods are evicted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Iterator
from typing import NoReturn, Protocol

from oci.errors import InvalidReferenceError
from oci.images import Image, ImageStore
from oci.known import orphaned_modules
from oci.reference import parse
from providers.base import Provider, ProviderError
from vkubelet import telemetry
from vkubelet.api.objects import Pod
from vkubelet.pods.images.access import AccessFiles
from vkubelet.pods.images.collection import Kept, Policy, freeing, insufficient, too_old, wanted
from vkubelet.pods.inventory import PodEntry
from vkubelet.pods.machine import MachineUsage

logger = logging.getLogger(__name__)

PERIOD = 300.0
"""Seconds between two looks: the kubelet's ImageGCPeriod."""
AGE, SPACE = "age", "space"
"""Why an image was collected, as kubelet_image_garbage_collected_total has it."""


class CollectionError(Exception):
    """Images could not be collected as they should; the text says why, in a kubelet's words."""


class Collectable(Protocol):
    """The pods of the node."""

    def pods(self) -> list[PodEntry]:
        """All of them."""
        ...

    def unclaimed_images(self) -> list[str]:
        """The image ids of containers whose pods are not known yet."""
        ...

    async def collect(self) -> None:
        """Forget containers that have ended and that nobody looks at. Raises ProviderError."""
        ...


class Machine(Protocol):
    """The node whose disk the images are on."""

    def usage(self) -> MachineUsage:
        """What the machine has and uses. Blocks. Raises OSError."""
        ...

    def event(self, kind: str, reason: str, message: str) -> None:
        """Tell people something about the node."""
        ...


class Garbage:
    """One for the node."""

    def __init__(
        self,
        pods: Collectable,
        images: ImageStore,
        provider: Provider,
        access: AccessFiles | None,
        machine: Machine,
        policy: Policy,
    ) -> None:
        """All of them outlive this."""
        self._pods = pods
        self._images = images
        self._provider = provider
        self._access = access
        self._machine = machine
        self._policy = policy
        self._began = time.time()
        self._has_failed = False

    async def run(self) -> NoReturn:
        """Note what is used, and collect images by the policy, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            await self.look()

    async def look(self) -> None:
        """Do so once. What fails twice in a row is told at the node, as a kubelet tells it."""
        try:
            kept = await self._detect()
            if not self._policy.is_off:
                await self._collect_by_policy(kept)
        except (OSError, ProviderError, CollectionError) as error:
            logger.warning("image garbage collection: %s", error)
            if self._has_failed:
                self._machine.event("Warning", "ImageGCFailed", str(error))
            self._has_failed = True
        else:
            self._has_failed = False

    async def collect(self) -> None:
        """Free all there is: pods would have to go next. What cannot be freed is logged."""
        try:
            await self._pods.collect()
        except ProviderError as error:
            logger.warning("containers that have ended: %s", error)
        try:
            kept = await self._detect()
            await self._remove(freeing(kept, None, self._policy, time.time()), SPACE)
        except (OSError, ProviderError) as error:
            logger.warning("images that no pod uses: %s", error)

    async def _detect(self) -> list[Kept]:
        """The images that are here, whoever has brought them; what is used is noted for the next agent."""
        await self._images.refresh()
        now, last, pulled = time.time(), self._images.last_used(), self._images.pulled()
        images = self._images.list()
        used = self._used(images)
        last = {**last, **dict.fromkeys(used, now)}
        last = {image.digest: last[image.digest] for image in images if image.digest in last}
        await self._images.release(used, last)
        return [
            Kept(
                image.digest,
                image.size,
                pulled[image.digest],
                last.get(image.digest, 0.0),
                image.digest in used,
            )
            for image in images
        ]

    async def _collect_by_policy(self, kept: list[Kept]) -> None:
        """Raises CollectionError, ProviderError and OSError."""
        now = time.time()
        old = await self._remove(too_old(kept, self._policy, now, self._began), AGE)
        kept = [image for image in kept if image.digest not in old]
        disk = (await asyncio.to_thread(self._machine.usage)).file_system
        if not disk.capacity:
            text = "invalid capacity 0 on image filesystem"
            self._machine.event("Warning", "InvalidDiskCapacity", text)
            raise CollectionError(text)
        size = wanted(disk.capacity, disk.available, self._policy)
        if not size:
            return
        chosen = freeing(kept, size, self._policy, now)
        removed = await self._remove(chosen, SPACE)
        freed = sum(image.size for image in chosen if image.digest in removed)
        if freed < size:
            text = insufficient(disk.capacity, disk.available, freed)
            self._machine.event("Warning", "FreeDiskSpaceFailed", text)
            raise CollectionError(text)

    async def _remove(self, chosen: Collection[Kept], reason: str) -> frozenset[str]:
        """Remove these unless they are used by now, with all that was made of them; the digests of those that
        were. Raises OSError and ProviderError.
        """
        digests = {image.digest for image in chosen}
        if not digests:
            return frozenset()
        used = self._used(self._images.list())
        removed = await self._images.remove_unused(
            lambda image: image.digest not in digests or image.digest in used
        )
        if removed:
            telemetry.IMAGES_COLLECTED.inc(reason, by=len(removed))
            logger.info("removed images that no pod uses: %s", _told(removed))
        left = self._images.list()
        if self._access is not None:
            self._access.keep_only({image.digest for image in left})
        for digest in orphaned_modules(removed, left):
            await self._provider.discard(digest)
        return frozenset(image.digest for image in removed)

    def _used(self, images: Iterable[Image]) -> frozenset[str]:
        """The digests of the images that pods use now."""
        names = frozenset((*_names(self._pods.pods()), *self._pods.unclaimed_images()))
        return frozenset(image.digest for image in images if not names.isdisjoint(image.names))


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
