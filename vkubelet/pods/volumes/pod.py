"""The volumes of one pod: set up before its containers start, brought up to date, removed at its end.

It exists to be the only one that touches a pod's volume directories, one step at a time. It must not know how
a kind of volume is made, nor when the pod starts or ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from vkubelet.api.backoff import Backoff
from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod
from vkubelet.api.volumes import Volume
from vkubelet.pods.starter import StartError
from vkubelet.pods.volumes.errors import SetUpError, VolumeError
from vkubelet.pods.volumes.kinds import Apply, Kind, Mounted
from vkubelet.pods.volumes.layout import Layout
from vkubelet.pods.volumes.mounts import MountError, Mounts, mounts, used_volumes
from vkubelet.pods.volumes.removal import remove

# The kubelet's back-off between two tries of a mount (its exponentialbackoff package).
RETRY_FIRST, RETRY_LIMIT = 0.5, 122.0

Result = TypeVar("Result")


class PodVolumes:
    """See `VolumeManager.pod`."""

    def __init__(
        self, pod: Pod, kinds: Mapping[str, Kind], layout: Layout, available: Callable[[], None]
    ) -> None:
        """`kinds` are by the API's name of each."""
        self._uid = pod.metadata.uid
        self._kinds = kinds
        self._layout = layout
        self._mounted: dict[str, Mounted] = {}
        self._one_at_a_time = asyncio.Lock()
        self._backoff = Backoff(RETRY_FIRST, RETRY_LIMIT)
        self._available = available

    async def mount(self, pod: Pod) -> None:
        """Set up every volume that a container mounts and that is not there yet.

        One try; what is there stays. Raises VolumeError with a kubelet's events for the rest, and when to try
        again; `available`, which `VolumeManager.pod` was given, is called if there is a reason to sooner.
        """
        async with self._one_at_a_time:
            wanted = used_volumes(pod)
            absent = [
                volume
                for volume in pod.spec.volumes or ()
                if volume.name in wanted and volume.name not in self._mounted
            ]
            failed = await self._set_up(pod, absent)
        if failed:
            raise VolumeError(failed, retry_after=self._backoff.delay())
        self._backoff.reset()

    def mounts(self, pod: Pod, container: Container, env: Mapping[str, str]) -> Mounts:
        """What the container sees; `env` is its environment, for subPathExpr.

        Raises StartError (CreateContainerConfigError).
        """
        try:
            return mounts(container, self._mounted)
        except MountError as error:
            raise StartError("CreateContainerConfigError", str(error)) from error

    def host_path(self, volume: str) -> Path | None:
        """Where a mounted volume is; None if it is not."""
        found = self._mounted.get(volume)
        return found.path if found is not None else None

    def update(self, pod: Pod) -> None:
        """The pod's object has changed; what volumes show of it will follow."""

    async def unmount(self) -> None:
        """Remove everything of the pod's volumes, also what an earlier agent made."""
        async with self._one_at_a_time:
            self._mounted.clear()
            await to_its_end(self._remove)

    def _remove(self) -> None:
        for path in self._layout.of_pod(self._uid):
            remove(path)

    async def _set_up(self, pod: Pod, volumes: list[Volume]) -> list[str]:
        """Set these up; the messages of those that failed."""
        prepared = await asyncio.gather(*(self._prepare(pod, volume) for volume in volumes))
        if not prepared:
            return []
        outcomes = await to_its_end(lambda: [_apply(step) for step in prepared])
        failed = []
        for volume, outcome in zip(volumes, outcomes, strict=True):
            if isinstance(outcome, SetUpError):
                failed.append(outcome.message(volume.name))
            else:
                self._mounted[volume.name] = outcome
        return failed

    async def _prepare(self, pod: Pod, volume: Volume) -> Apply | SetUpError:
        kind = self._kinds.get(volume.kind)
        if kind is None:
            return SetUpError("no volume plugin matched", step="MountVolume.FindPluginBySpec failed")
        try:
            return await kind.prepare(pod, volume)
        except SetUpError as error:
            return error


def _apply(step: Apply | SetUpError) -> Mounted | SetUpError:
    if isinstance(step, SetUpError):
        return step
    try:
        return step()
    except SetUpError as error:
        return error
    except OSError as error:
        return SetUpError(os_text(error))


def os_text(error: OSError) -> str:
    """An error of the system as Go words it: `mkdir /x: permission denied`."""
    cause = os.strerror(error.errno).lower() if error.errno else str(error)
    return f"{error.filename}: {cause}" if error.filename else cause


async def to_its_end(work: Callable[[], Result]) -> Result:
    """Do what blocks in a thread. A thread cannot be stopped: whoever is cancelled meanwhile waits for it."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
