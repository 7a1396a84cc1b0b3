"""csi: volumes that drivers provide, for a pod alone or through a claim.

It exists to bring together, for each volume of a pod, the node's part (attached, staged) and the pod's own
(published), and to take all of it back at the pod's end. It must not know what a driver is told, nor in what
words one fails.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from providers.faultpoints import reached
from vkubelet.api.backoff import Backoff
from vkubelet.api.drivers import CSIDriverSpec
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod, pod_reference
from vkubelet.api.storage import PersistentVolume
from vkubelet.api.volumes import CSIVolumeSource, Volume
from vkubelet.csi.directory import Identity
from vkubelet.csi.drivers import PREFIX, DriverNotFoundError, Drivers
from vkubelet.csi.protocol import NODE_UNPUBLISH, NodeUnpublishVolumeRequest
from vkubelet.csi.registration import Registration
from vkubelet.pods.volumes import ownership
from vkubelet.pods.volumes.csi.attachments import Attachments
from vkubelet.pods.volumes.csi.objects import DriverObjects, UnknownDriversError
from vkubelet.pods.volumes.csi.publishing import TIMEOUT, Publishing
from vkubelet.pods.volumes.csi.records import Given, Records
from vkubelet.pods.volumes.csi.staging import Staging
from vkubelet.pods.volumes.csi.wanted import PERSISTENT, Wanted, gives_group, inline, persistent
from vkubelet.pods.volumes.errors import SetUpError, os_text
from vkubelet.pods.volumes.kinds import Mounted, Prepared
from vkubelet.pods.volumes.layout import component
from vkubelet.rpc.client import RpcError

logger = logging.getLogger(__name__)

REPUBLISH_PERIOD = 60.0
"""Seconds after which a driver that wants it is asked again for a volume that a pod has: a kubelet's sync."""
_JITTER = 0.1
RETRY_FIRST, RETRY_LIMIT = 0.5, 122.0


class CsiVolumes:
    """See Kind. One for the node. Use from one event loop."""

    renewed = False

    def __init__(
        self,
        *,
        drivers: Drivers,
        registration: Registration,
        objects: DriverObjects,
        records: Records,
        attachments: Attachments,
        staging: Staging,
        publishing: Publishing,
        recorder: Recorder,
    ) -> None:
        self._drivers = drivers
        self._registration = registration
        self._objects = objects
        self._records = records
        self._attachments = attachments
        self._staging = staging
        self._publishing = publishing
        self._recorder = recorder
        self._left: tuple[dict[str, list[Given]], list[Given]] = {}, []
        self._republishing: dict[str, dict[str, asyncio.Task[None]]] = {}
        self._group: asyncio.TaskGroup | None = None

    def open(self) -> None:
        """Find what earlier agents have left. Blocks."""
        self._left = self._records.recover()

    def recover(self) -> None:
        """Count what was found as in use; before `run`, and before the cluster is told what is."""
        self._staging.recover(*self._left)

    def follow(self, sockets: dict[Path, Identity]) -> None:
        """These sockets of plugins are there now, and no others."""
        self._registration.follow(sockets)

    async def run(self) -> NoReturn:
        """Do what goes on while pods run, until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self._registration.run(), name="storage drivers")
            self._group.create_task(self._objects.run(), name="CSIDrivers")
            self._group.create_task(self._staging.run(), name="staged volumes")
            await asyncio.get_running_loop().create_future()
        raise AssertionError("only cancellation ends it")

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        """See Kind: a volume for the pod alone."""
        source = volume.csi or CSIVolumeSource()
        return Prepared(await self._show(pod, inline(pod, volume.name, source)))

    async def prepare_persistent(
        self, pod: Pod, volume: PersistentVolume, outer_name: str, *, read_only: bool
    ) -> Callable[[], Mounted]:
        """What is left to do, which blocks, to have a volume of the cluster. Both raise SetUpError."""
        return await self._show(pod, persistent(volume, outer_name, read_only=read_only))

    async def release(self, uid: str) -> None:
        """Have drivers take back all that a pod has of them; for as long as they make it take."""
        for task in self._republishing.pop(uid, {}).values():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        pauses = Backoff(RETRY_FIRST, RETRY_LIMIT)
        while self._records.any_published(uid):
            found = await asyncio.to_thread(self._records.published, uid)
            if all(await asyncio.gather(*(self._unpublished(given) for given in found))):
                break
            await self._drivers.news(pauses.delay())
        self._staging.leave(uid)

    def settle(self) -> None:
        """All pods are known: what none of them uses is taken back."""
        self._staging.settle()

    async def _show(self, pod: Pod, wanted: Wanted) -> Callable[[], Mounted]:
        component(wanted.driver, "the driver's name")
        spec = await self._spec(wanted)
        context: Mapping[str, str] = {}
        if wanted.lifecycle == PERSISTENT:
            attach = spec is None or spec.attach_required
            self._staging.hold(wanted.key, pod.metadata.uid, attach=attach)
            if attach:
                context = await self._attachments.wait(wanted)
            await self._staging.stage(wanted.key, lambda: self._publishing.stage(pod, wanted, context))
        published = await self._publishing.publish(pod, wanted, spec, context)
        if spec is not None and spec.requires_republish:
            self._republish(pod, wanted, spec, context)
        target = self._records.target(pod.metadata.uid, wanted.name)
        group = ownership.fs_group(pod)
        policy = spec.fs_group_policy if spec is not None else CSIDriverSpec().fs_group_policy
        given = published.gives_group and gives_group(wanted, policy, group)
        return lambda: _finish(pod, wanted, target, group if given else None)

    async def _spec(self, wanted: Wanted) -> CSIDriverSpec | None:
        try:
            return await self._objects.get(wanted.driver)
        except UnknownDriversError as error:
            raise SetUpError(f"{PREFIX}{error}") from error

    def _republish(self, pod: Pod, wanted: Wanted, spec: CSIDriverSpec, context: Mapping[str, str]) -> None:
        tasks = self._republishing.setdefault(pod.metadata.uid, {})
        if self._group is not None and wanted.name not in tasks:
            name = f"volume {wanted.name} of pod {pod.key} again"
            tasks[wanted.name] = self._group.create_task(
                self._publish_again(pod, wanted, spec, context), name=name
            )

    async def _publish_again(
        self, pod: Pod, wanted: Wanted, spec: CSIDriverSpec, context: Mapping[str, str]
    ) -> None:
        """Ask for the volume from time to time; what the pod has of it stays whatever comes of that."""
        while True:
            jitter = random.uniform(0.0, _JITTER)  # noqa: S311  spreads load, guards nothing
            await asyncio.sleep(REPUBLISH_PERIOD * (1 + jitter))
            try:
                await self._publishing.publish(pod, wanted, spec, context, again=True)
            except SetUpError as error:
                message = error.message(wanted.name)
                self._recorder.event(pod_reference(pod), "Warning", "FailedMount", message)
            except Exception:
                # A defect of ours costs this volume a period, and no other anything.
                logger.exception("pod %s: volume %s is not published again", pod.key, wanted.name)

    async def _unpublished(self, given: Given) -> bool:
        """Whether its driver has taken back what it published, and nothing is left of it."""
        deadline = asyncio.get_running_loop().time() + TIMEOUT
        request = NodeUnpublishVolumeRequest(volume_id=given.handle, target_path=str(given.path))
        try:
            driver = await self._drivers.get(given.driver)
            await driver.ask(NODE_UNPUBLISH, request, deadline)
            reached("csi-unpublished")
            await asyncio.to_thread(self._records.forget, given.path)
        except (DriverNotFoundError, RpcError, OSError) as error:
            cause = os_text(error) if isinstance(error, OSError) else error
            logger.warning("volume %s is not taken back from %s: %s", given.handle, given.path, cause)
            return False
        return True


def _finish(pod: Pod, wanted: Wanted, target: Path, group: int | None) -> Mounted:
    """Give the volume's files to the pod's group, if that is the node's part. Blocks. Raises SetUpError."""
    if group is not None and ownership.may_change_owners():
        context = pod.spec.security_context
        policy = context.fs_group_change_policy if context is not None else None
        try:
            if policy != "OnRootMismatch" or not ownership.is_given(target, group, read_only=False):
                ownership.give(target, group, read_only=False)
        except OSError as error:
            raise SetUpError(f"applyFSGroup failed for vol {wanted.handle}: {os_text(error)}") from error
    return Mounted(target, wanted.read_only)
