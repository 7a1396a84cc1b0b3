"""The volumes of one pod: set up before its containers start, brought up to date, removed at its end.

It exists to be the only one that touches a pod's volume directories, one step at a time. It must not know how
a kind of volume is made, nor when the pod starts or ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

from oci.flights import ended
from oci.images import Image
from providers.faultpoints import reached
from vkubelet import clock
from vkubelet.api.backoff import Backoff
from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod, pod_reference
from vkubelet.api.volumes import Volume
from vkubelet.pods.start_error import NotMountedError, StartError
from vkubelet.pods.volumes import content, emptydir, image
from vkubelet.pods.volumes.errors import SetUpError, VolumeError, os_text
from vkubelet.pods.volumes.kinds import Mounted, Prepared
from vkubelet.pods.volumes.mounts import MountError, Mounts, mounts, used_volumes
from vkubelet.pods.volumes.node import NodeVolumes
from vkubelet.pods.volumes.removal import remove

logger = logging.getLogger(__name__)

# The kubelet's back-off between two tries of a mount (its exponentialbackoff package).
RETRY_FIRST, RETRY_LIMIT = 0.5, 122.0

Result = TypeVar("Result")
_Preparing: TypeAlias = Callable[[], Awaitable[Prepared]]


class PodVolumes:
    """See `VolumeManager.pod`."""

    def __init__(self, pod: Pod, node: NodeVolumes, available: Callable[[], None]) -> None:
        """`node` is what the volumes of all pods share."""
        self._pod = pod
        self._node = node
        self._available = available
        self._mounted: dict[str, Mounted] = {}
        self._coming: dict[str, Mounted] = {}
        self._completed: asyncio.Future[None] | None = None
        self._renewals: dict[str, float] = {}
        self._one_at_a_time = asyncio.Lock()
        self._preparing: set[asyncio.Task[Prepared | SetUpError]] = set()
        self._backoff: Backoff | None = None
        self._incomplete = False
        self._mounting = False
        self._renew_next = False
        self._over = False

    async def begin(self) -> None:
        """Ask for what takes a while before anybody waits for it: while the pod is admitted, and so on."""
        pod = self._pod
        wanted = used_volumes(pod)
        try:
            for volume in pod.spec.volumes or ():
                if volume.projected is not None and volume.name in wanted:
                    await self._node.begin(pod, volume)
        except Exception:
            # It was to save time only: `mount` does it all again, and tells.
            logger.exception("pod %s: its tokens are not asked for in advance", pod.key)
        finally:
            if self._over:
                self._node.tokens.forget(pod.metadata.uid)

    async def mount(self, pod: Pod, coming: Callable[[], None] = lambda: None) -> None:
        """Set up every volume that a container mounts and that is not there yet.

        One try; what is there stays. Raises VolumeError with a kubelet's events for the rest, and when to try
        again; `available`, which `VolumeManager.pod` was given, is called if there is a reason to sooner.
        Once `unmount` has been called, nothing is mounted any more.

        `coming` is called when all volumes have their directories, and only tokens are waited for: what needs
        no file of such a volume can be done meanwhile, and `complete` tells when they are there.
        """
        async with self._one_at_a_time:
            self._pod = pod
            wanted = used_volumes(pod)
            used = [volume for volume in pod.spec.volumes or () if volume.name in wanted]
            if self._over or not used:
                return
            named = frozenset(content.references(pod, used))
            if named:
                # First, so that no change between the question and the watch is missed.
                self._node.objects.use(self._owner, named, self._changed)
            absent = [volume for volume in used if volume.name not in self._mounted]
            self._mounting = True
            try:
                failed = await self._set_up(pod, absent, coming)
            finally:
                self._mounting = False
                self._coming.clear()
                if self._completed is not None:
                    self._completed.set_result(None)
                    self._completed = None
            reached("volumes-mounted")
            self._incomplete = bool(failed)
            if not self._over:
                self._node.renewal.at(self, min(self._renewals.values(), default=None))
                if self._renew_next:
                    self._node.renewal.now(self)
        if failed:
            raise VolumeError(failed, retry_after=self._delay())
        self._backoff = None

    async def complete(self, pod: Pod) -> None:
        """Wait for the volumes that are coming, if any are. Raises NotMountedError: they did not come."""
        if self._completed is not None:
            await asyncio.shield(self._completed)
        if not self.has_all(pod):
            raise NotMountedError

    def has_all(self, pod: Pod) -> bool:
        """Whether `mount` has nothing to do: an ephemeral container may mount what no other does."""
        wanted = used_volumes(pod)
        return all(one.name in self._mounted for one in pod.spec.volumes or () if one.name in wanted)

    def mounts(self, pod: Pod, container: Container, env: Mapping[str, str]) -> Mounts:
        """What the container sees; `env` is its environment, for subPathExpr.

        Raises StartError (CreateContainerConfigError).
        """
        try:
            return mounts(container, self._mounted | self._coming, env)
        except MountError as error:
            raise StartError("CreateContainerConfigError", str(error)) from error

    def images(self, pod: Pod, container: Container) -> list[Volume]:
        """The image volumes that the container mounts: `show` them before `mounts`."""
        names = {mount.name for mount in container.volume_mounts or ()}
        return [one for one in pod.spec.volumes or () if one.image is not None and one.name in names]

    async def show(self, volume: str, found: Image) -> None:
        """An image volume's image is on the node. Raises StartError."""
        where = self._node.layout.on_disk(self._pod.metadata.uid, image.PLUGIN, volume)
        async with self._one_at_a_time:
            if self._over:
                return
            try:
                self._mounted[volume] = await to_its_end(lambda: image.show(where, found))
            except OSError as error:
                raise StartError(
                    "CreateContainerError", f"image volume {volume}: {os_text(error)}"
                ) from error

    def host_path(self, volume: str) -> Path | None:
        """Where a mounted volume is; None if it is not."""
        found = self._mounted.get(volume)
        return found.path if found is not None else None

    def update(self, pod: Pod) -> None:
        """The pod's object has changed; what volumes show of it follows."""
        self._pod = pod
        if any(self._is_renewed(volume) for volume in pod.spec.volumes or ()):
            self._node.renewal.now(self)

    async def renew(self) -> float | None:
        """Bring up to date what is mounted; when to do so again, by `vkubelet.clock`, if ever.

        What cannot be is told by events, stays as it is and is tried again. While volumes are mounted, which
        a driver may make last for minutes, nothing is: `mount` asks for it at its end.
        """
        if self._mounting:
            self._renew_next = True
            return None
        async with self._one_at_a_time:
            self._renew_next = False
            pod = self._pod
            volumes = [volume for volume in pod.spec.volumes or () if self._is_renewed(volume)]
            if self._over or not volumes:
                return None
            failed = await self._set_up(pod, volumes)
        if self._over:
            return None  # the pod has ended meanwhile: nobody is to be told, and nothing comes again
        for message in failed:
            self._node.recorder.event(pod_reference(pod), "Warning", "FailedMount", message)
        if failed:
            return clock.now() + self._delay()
        self._backoff = None
        return min(self._renewals.values(), default=None)

    async def exceeded(self) -> str | None:
        """The message of the pod's eviction if an emptyDir holds more than its sizeLimit, None if none does.

        It looks at all that is in them, which takes as long as there are files.
        """
        limited = [
            (volume, self._mounted[volume.name].path)
            for volume in self._pod.spec.volumes or ()
            if volume.empty_dir is not None and volume.empty_dir.size_limit and volume.name in self._mounted
        ]
        if not limited:
            return None
        return await asyncio.to_thread(emptydir.exceeded, limited)

    def retry(self) -> None:
        """Something has come that a mount may have failed for."""
        if self._incomplete:
            self._available()

    async def unmount(self) -> None:
        """Remove everything of the pod's volumes, also what an earlier agent made. For good.

        It takes as long as drivers make it: what one has mounted is not the node's to remove.
        """
        self._over = True
        for task in self._preparing:
            task.cancel()
        self._node.renewal.forget(self)
        self._node.objects.use(self._owner, ())
        async with self._one_at_a_time:
            self._node.forget(self._pod.metadata.uid)
            self._mounted.clear()
            await self._node.release(self._pod.metadata.uid)
            reached("volumes-released")
            self._node.tokens.forget(self._pod.metadata.uid)
            await to_its_end(self._remove)
            reached("volumes-removed")

    @property
    def _owner(self) -> str:
        return f"volumes of {self._pod.metadata.uid}"

    def _is_renewed(self, volume: Volume) -> bool:
        return volume.name in self._mounted and self._node.kinds[volume.kind].renewed

    def _changed(self) -> None:
        """An object that a volume shows is another, has appeared or is gone."""
        self.retry()
        self._node.renewal.now(self)

    def _delay(self) -> float:
        if self._backoff is None:
            self._backoff = Backoff(RETRY_FIRST, RETRY_LIMIT)
        return self._backoff.delay()

    def _remove(self) -> None:
        for path in self._node.layout.of_pod(self._pod.metadata.uid):
            remove(path)

    async def _set_up(
        self, pod: Pod, volumes: list[Volume], coming: Callable[[], None] | None = None
    ) -> list[str]:
        """Set these up, or bring them up to date; the messages of those that failed."""
        rests, failed = await self._each({one.name: partial(self._prepare, pod, one) for one in volumes})
        if rests and not self._over:
            if coming is not None and not failed:
                self._completed = asyncio.get_running_loop().create_future()
                coming()
            _, late = await self._each(rests)
            failed |= late
        return [failed[volume.name] for volume in volumes if volume.name in failed]

    async def _each(self, volumes: Mapping[str, _Preparing]) -> tuple[dict[str, _Preparing], dict[str, str]]:
        """Set up what is prepared so, by name: what is to follow for it, and the messages of what failed."""
        preparing = {asyncio.create_task(_or_error(prepare())): name for name, prepare in volumes.items()}
        self._preparing = pending = set(preparing)
        rests: dict[str, _Preparing] = {}
        failed: dict[str, str] = {}
        try:
            while pending:
                # What needs nobody is written while others are waited for.
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                steps = {preparing[task]: task.result() for task in done if not task.cancelled()}
                failed |= await self._apply(steps)
                for name, step in steps.items():
                    if isinstance(step, Prepared) and step.rest is not None and name not in failed:
                        rests[name] = step.rest
        finally:
            self._preparing = set()
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return rests, failed

    async def _apply(self, steps: dict[str, Prepared | SetUpError]) -> dict[str, str]:
        """Do what is left to do for the volumes of these names; the messages of those that failed."""
        slow = {name: step for name, step in steps.items() if isinstance(step, Prepared) and not step.at_once}
        outcomes = {name: _apply(step) for name, step in steps.items() if name not in slow}
        if slow:
            outcomes |= await to_its_end(lambda: {name: _apply(step) for name, step in slow.items()})
        failed = {}
        for name, outcome in outcomes.items():
            step = steps[name]
            if isinstance(outcome, SetUpError):
                failed[name] = outcome.message(name)
                continue
            whole = isinstance(step, Prepared) and step.rest is None
            (self._mounted if whole else self._coming)[name] = outcome
            if isinstance(step, Prepared) and step.renew_at is not None:
                self._renewals[name] = step.renew_at
        return failed

    async def _prepare(self, pod: Pod, volume: Volume) -> Prepared:
        kind = self._node.kinds.get(volume.kind)
        if kind is None:
            raise SetUpError("no volume plugin matched", step="MountVolume.FindPluginBySpec failed")
        return await kind.prepare(pod, volume)


async def _or_error(step: Awaitable[Prepared]) -> Prepared | SetUpError:
    try:
        return await step
    except SetUpError as error:
        return error


def _apply(step: Prepared | SetUpError) -> Mounted | SetUpError:
    if isinstance(step, SetUpError):
        return step
    try:
        return step.apply()
    except SetUpError as error:
        return error
    except OSError as error:
        return SetUpError(os_text(error))


async def to_its_end(work: Callable[[], Result]) -> Result:
    """Do what blocks in a thread. A thread cannot be stopped: whoever is cancelled meanwhile waits for it."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await ended(task)
        raise
