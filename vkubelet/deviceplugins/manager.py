"""The node's devices: plugins that come and go, what there is by them, and who is given what.

It exists to follow the kubelet's device manager (pkg/kubelet/cm/devicemanager), with two differences: every
call to a plugin has a deadline, and pods wait for plugins beside each other. It must not know how pods are
run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NoReturn

from vkubelet import telemetry
from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod, ResourceHealth, ResourceStatus
from vkubelet.config import Config
from vkubelet.deviceplugins.allocator import Allocator
from vkubelet.deviceplugins.checkpoint import Checkpoint, CheckpointFile
from vkubelet.deviceplugins.door import SOCKET
from vkubelet.deviceplugins.equipment import equipment
from vkubelet.deviceplugins.ledger import Allocation, Ledger
from vkubelet.deviceplugins.messages import HEALTHY, UNHEALTHY, VERSION, Device, RegisterRequest
from vkubelet.deviceplugins.plugin import DevicePlugin
from vkubelet.deviceplugins.pool import Pool
from vkubelet.deviceplugins.registration import RegistrationServer
from vkubelet.pods.devices import NO_EQUIPMENT, DeviceError, Equipment
from vkubelet.pods.manifests.problems import Problems
from vkubelet.pods.resources import is_extended
from vkubelet.pods.text import quoted
from vkubelet.rpc.client import RpcError

logger = logging.getLogger(__name__)

Offer = Callable[[Mapping[str, int], Mapping[str, int]], None]
"""Takes what the node has of each resource, and what pods may have together."""


class DeviceManager:
    """One for the node; implements Devices."""

    def __init__(
        self,
        config: Config,
        checkpoint: Path,
        offer: Offer,
        *,
        place: Callable[[str], Path],
        changed: Callable[[str], None],
    ) -> None:
        """`offer` is told at once, and whenever that changes. Raises OSError.

        `checkpoint` is the file of what an earlier agent knew, `place` tells the path of a plugin's socket,
        `changed` hears the uid of each pod when the health of its devices has changed.
        """
        self._offer = offer
        self._place = place
        self._changed = changed
        self._configured = config.extended_resources
        self._file = CheckpointFile(checkpoint)
        kept = self._file.read()
        self._ledger = Ledger(kept.allocations)
        names = [name for name in kept.resources if name not in self._configured]
        self._pool: Pool[DevicePlugin] = Pool(names, time.monotonic())
        self._allocator = Allocator(self._pool, self._ledger, self._write)
        self._server = RegistrationServer(Path(config.run_dir), self._register)
        self._group: asyncio.TaskGroup | None = None
        self._watches: dict[DevicePlugin, asyncio.Task[None]] = {}
        self._stopped = asyncio.Event()
        self._publish()

    async def run(self) -> NoReturn:
        """Follow the plugins that register, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._expire())
        finally:
            self._group = None
            await self._server.close()
        raise AssertionError("the task that waits for grace periods never ends")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A plugin that registers has connected. Raises OSError."""
        await self._server.serve(reader, writer)

    async def allocate(self, pod: Pod) -> None:
        """See Devices."""
        uid = pod.metadata.uid
        reusable: dict[str, set[str]] = {}
        try:
            for container in pod.spec.init_containers or ():
                await self._allocator.give(uid, container, reusable)
                for one in self._ledger.of_container(uid, container.name):
                    free = reusable.setdefault(one.resource, set())
                    if container.is_sidecar:
                        free.difference_update(one.devices)
                    else:
                        # It will have ended when the next container starts.
                        free.update(one.devices)
            for container in pod.spec.containers or ():
                await self._allocator.give(uid, container, reusable)
                for one in self._ledger.of_container(uid, container.name):
                    reusable.setdefault(one.resource, set()).difference_update(one.devices)
        except DeviceError:
            self.release(uid)
            raise

    def adopt(self, pod: Pod) -> None:
        """See Devices."""
        uid, before = pod.metadata.uid, len(self._ledger.of_pod(pod.metadata.uid))
        for container in pod.status.container_statuses or ():
            for one in container.allocated_resources_status or ():
                if not _is_resource_name(one.name) or self._ledger.find(uid, container.name, one.name):
                    continue
                self._ledger.give(
                    Allocation(
                        pod=uid,
                        container=container.name,
                        resource=one.name,
                        devices=tuple(device.resource_id for device in one.resources),
                        response=None,
                    )
                )
        if len(self._ledger.of_pod(uid)) > before:
            logger.warning("pod %s: which devices it has, only its status tells", pod.key)
            self._keep()

    def taken(self, uid: str) -> Mapping[str, int]:
        """See Devices."""
        return self._ledger.counts() if self._ledger.of_pod(uid) else {}

    def release(self, uid: str) -> None:
        """See Devices."""
        if self._ledger.release(uid):
            self._keep()

    def keep_only(self, uids: Collection[str]) -> None:
        """See Devices."""
        if self._ledger.keep_only(uids):
            self._keep()

    async def equip(self, pod: Pod, container: Container) -> Equipment:
        """See Devices."""
        wanted, uid = dict(self._allocator.wanted(container)), pod.metadata.uid
        for resource in wanted:
            await self._allocator.pre_start(uid, container, resource)
        held = [self._ledger.find(uid, container.name, resource) for resource in wanted]
        if any(one is None or one.response is None for one in held):
            await self._allocator.give(uid, container, {})
        allocations = self._ledger.of_container(uid, container.name)
        return await asyncio.to_thread(equipment, allocations) if allocations else NO_EQUIPMENT

    def health(self, uid: str) -> Mapping[str, list[ResourceStatus]]:
        """See Devices."""
        found: dict[str, list[ResourceStatus]] = {}
        for one in sorted(self._ledger.of_pod(uid), key=lambda one: one.resource):
            devices = [
                ResourceHealth(resource_id=device, health=self._health(one.resource, device))
                for device in sorted(one.devices)
            ]
            found.setdefault(one.container, []).append(ResourceStatus(name=one.resource, resources=devices))
        return found

    def _health(self, resource: str, device: str) -> str:
        return HEALTHY if self._pool.health(resource, device) == HEALTHY else UNHEALTHY

    async def _register(self, request: RegisterRequest) -> None:
        """A plugin tells of itself. Raises DeviceError with what it is told."""
        name, endpoint = request.resource_name, request.endpoint
        if request.version != VERSION:
            raise DeviceError(
                f"requested API version {quoted(request.version)} is not supported by kubelet. "
                f'Supported version is ["{VERSION}"]'
            )
        if not _is_resource_name(name):
            raise DeviceError(f"the ResourceName {quoted(name)} is invalid")
        if name in self._configured:
            raise DeviceError(f"the resource {name} is given by the node's configuration, extended_resources")
        if endpoint in ("", ".", "..", SOCKET) or "/" in endpoint or "\0" in endpoint:
            raise DeviceError(f"the Endpoint {quoted(endpoint)} is no name of a plugin's socket")
        telemetry.DEVICE_PLUGIN_REGISTRATIONS.inc(name)
        plugin = DevicePlugin(name, self._place(endpoint))
        await plugin.connect()
        if self._group is None:
            raise DeviceError("the node agent is shutting down")
        before = self._pool.connected(name, endpoint, plugin)
        if before is not None:
            self._watches.pop(before).cancel()
        self._watches[plugin] = self._group.create_task(self._watch(plugin), name=f"device plugin {name}")
        logger.info("device plugin %s registered at %s", name, endpoint)

    async def _watch(self, plugin: DevicePlugin) -> None:
        """Follow a plugin to its end."""
        try:
            async for response in plugin.watch():
                self._listed(plugin.resource, response.devices)
            logger.warning("device plugin %s tells no more", plugin.resource)
        except RpcError as error:
            logger.warning("device plugin %s is gone: %s", plugin.resource, error)
        except Exception:
            logger.exception("device plugin %s", plugin.resource)
        self._watches.pop(plugin, None)
        if self._pool.disconnected(plugin.resource, plugin.socket.name, plugin, time.monotonic()):
            self._stopped.set()
        self._publish()

    def _listed(self, resource: str, devices: list[Device]) -> None:
        changed = self._pool.listed(resource, devices)
        self._keep()
        self._publish()
        for uid in self._ledger.holders(resource, changed):
            self._changed(uid)

    async def _expire(self) -> NoReturn:
        """Forget what is of plugins that have not come back."""
        while True:
            at = self._pool.expires_at()
            self._stopped.clear()
            try:
                async with asyncio.timeout(None if at is None else max(at - time.monotonic(), 0.0)):
                    await self._stopped.wait()
            except TimeoutError:
                if self._pool.expire(time.monotonic()):
                    self._publish()

    def _publish(self) -> None:
        self._offer(self._pool.capacity(), self._pool.allocatable())

    def _keep(self) -> None:
        """Write what is known; nobody's pod fails because that cannot be done."""
        try:
            self._write()
        except DeviceError as error:
            logger.warning("%s", error)

    def _write(self) -> None:
        try:
            self._file.write(Checkpoint(resources=self._pool.names(), allocations=self._ledger.allocations()))
        except OSError as error:
            raise DeviceError(f"failed to write checkpoint file: {error}") from error


def _is_resource_name(name: str) -> bool:
    """IsExtendedResourceName of pkg/apis/core/v1/helper: an API server refuses a status with another."""
    problems = Problems()
    problems.qualified("", f"requests.{name}")
    return is_extended(name) and not problems.found
