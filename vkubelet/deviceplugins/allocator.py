"""Gives devices to containers: which ones, asked of their plugin where it cares, and written down at once.

It exists to hold the kubelet's rules and messages of allocation (devicesToAllocate and
allocateContainerResources of pkg/kubelet/cm/devicemanager). A plugin is asked without anybody being kept
waiting: between the last look at what is free and the choice nothing is awaited, so that nobody is given what
another is. It must not know pods, nor how plugins come and go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping

from vkubelet import telemetry
from vkubelet.api.containers import Container
from vkubelet.deviceplugins.ledger import Allocation, Ledger, chosen
from vkubelet.deviceplugins.plugin import DevicePlugin
from vkubelet.deviceplugins.pool import Pool
from vkubelet.pods.devices import DeviceError
from vkubelet.pods.resources import counted, is_extended, limit


class Allocator:
    """One for the node."""

    def __init__(self, pool: Pool[DevicePlugin], ledger: Ledger, write: Callable[[], None]) -> None:
        """`write` keeps what the ledger says for the next agent; it raises DeviceError."""
        self._pool = pool
        self._ledger = ledger
        self._write = write

    def wanted(self, container: Container) -> Iterator[tuple[str, int]]:
        """How many devices a container asks for: of extended resources, limits and requests are equal."""
        for name in sorted(container.resources.limits or ()):
            if is_extended(name) and (self._pool.find(name) or name in self._ledger.resources()):
                number = limit(container, name)
                if number:
                    yield name, counted(name, number)

    async def give(self, uid: str, container: Container, reusable: Mapping[str, set[str]]) -> None:
        """Give a container all that it asks for and has not been given. Raises DeviceError."""
        for resource, number in self.wanted(container):
            held = self._ledger.find(uid, container.name, resource)
            self._check(uid, container, resource, number, held)
            plugin = self._pool.plugin(resource)
            if plugin is None:
                raise DeviceError(f"unknown Device Plugin {resource}")
            if held is None:
                own = chosen(number, sorted(reusable.get(resource, ())))
                devices = await self._choose(plugin, number, own)
                # Nothing is awaited from the choice on.
                await self._ask(plugin, uid, container, devices)
            elif held.response is None:
                await self._ask(plugin, uid, container, list(held.devices))

    def _check(
        self, uid: str, container: Container, resource: str, number: int, held: Allocation | None
    ) -> None:
        """Raise DeviceError for what nobody can be given, or must not keep."""
        if held is not None and len(held.devices) != number:
            raise DeviceError(
                f'pod "{uid}" container "{container.name}" changed request for resource "{resource}" '
                f"from {len(held.devices)} to {number}"
            )
        found = self._pool.find(resource)
        if found is None:
            raise DeviceError(f"cannot allocate unregistered device {resource}")
        if not found.healthy:
            raise DeviceError(f"no healthy devices present; cannot allocate unhealthy devices {resource}")
        if held is not None and not found.healthy.issuperset(held.devices):
            raise DeviceError(
                f"previously allocated devices are no longer healthy; cannot allocate unhealthy devices "
                f"{resource}"
            )

    async def _choose(self, plugin: DevicePlugin, number: int, own: list[str]) -> list[str]:
        """So many devices, the pod's `own` first. Raises DeviceError."""
        resource, preferred = plugin.resource, list[str]()
        if len(own) < number:
            free = self._free(resource)
            _enough(resource, number - len(own), free)
            preferred = await plugin.preferred(free.union(own), own, number)
        # Only now, as others may have been given some meanwhile.
        free = self._free(resource)
        _enough(resource, number - len(own), free)
        return chosen(number, own, (one for one in preferred if one in free), sorted(free))

    async def _ask(self, plugin: DevicePlugin, uid: str, container: Container, devices: list[str]) -> None:
        """Have the plugin give these. Raises DeviceError."""
        began = time.monotonic()
        with self._ledger.choosing(plugin.resource, devices):
            response = await plugin.allocate(devices)
            telemetry.DEVICE_ALLOCATION_DURATION.observe(time.monotonic() - began, plugin.resource)
            self._ledger.give(
                Allocation(
                    pod=uid,
                    container=container.name,
                    resource=plugin.resource,
                    devices=tuple(devices),
                    response=response,
                )
            )
        self._write()

    def _free(self, resource: str) -> set[str]:
        found = self._pool.find(resource)
        return set() if found is None else set(found.healthy - self._ledger.in_use(resource))

    async def pre_start(self, uid: str, container: Container, resource: str) -> None:
        """Tell the plugin, if it wants to know, that a container is about to start. Raises DeviceError."""
        if self._pool.find(resource) is None:
            raise DeviceError(f"endpoint not found in cache for a registered resource: {resource}")
        plugin = self._pool.plugin(resource)
        if plugin is None or not plugin.options.pre_start_required:
            return
        held = self._ledger.find(uid, container.name, resource)
        if held is None:
            raise DeviceError(
                f"no devices found allocated in local cache for pod {uid}, container {container.name}, "
                f"resource {resource}"
            )
        await plugin.pre_start(list(held.devices))


def _enough(resource: str, needed: int, free: Collection[str]) -> None:
    if len(free) < needed:
        raise DeviceError(
            f"requested number of devices unavailable for {resource}. "
            f"Requested: {needed}, Available: {len(free)}"
        )
