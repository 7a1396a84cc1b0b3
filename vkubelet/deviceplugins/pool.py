"""What there is of each resource: the devices that plugins tell of, and what the node has to give by them.

It exists because a resource outlives its plugin for a while, as a kubelet lets it: when its last plugin has
gone, nobody gets any of it, and it counts as the node's for five minutes more; then there is none. The
resources of before the agent's start are there too, with nothing, until their plugins come back. It must not
know who has a device, nor how plugins are spoken to. Times are seconds of any clock that only goes forward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from vkubelet.deviceplugins.messages import HEALTHY, Device

GRACE = 300.0
"""The kubelet's endpointStopGracePeriod."""

Plugin = TypeVar("Plugin")


@dataclasses.dataclass(slots=True)
class Resource(Generic[Plugin]):
    """One resource. `plugins` are its plugins by their sockets, the one to be asked last.

    `devices` are those it was last told to have, by their health; None until then. `healthy` are those that
    may be given away. `stopped_at` is when its last plugin went, None while it has one.
    """

    plugins: dict[str, Plugin] = dataclasses.field(default_factory=dict)
    devices: dict[str, str] | None = None
    healthy: frozenset[str] = frozenset()
    unhealthy: frozenset[str] = frozenset()
    stopped_at: float | None = None
    gone: bool = False


class Pool(Generic[Plugin]):
    """All resources of plugins. `Plugin` is whatever a plugin is spoken to by."""

    def __init__(self, known: Iterable[str], now: float) -> None:
        """`known` are the resources that plugins of an earlier agent had."""
        self._resources: dict[str, Resource[Plugin]] = {
            name: Resource(stopped_at=now, devices={}) for name in known
        }

    def names(self) -> list[str]:
        """The resources that plugins have, or had: they are shown as none when there is nothing of them."""
        return [name for name, one in self._resources.items() if one.devices is not None]

    def find(self, resource: str) -> Resource[Plugin] | None:
        """A resource that may be asked for: a plugin has told of it, or had within the grace period."""
        found = self._resources.get(resource)
        return None if found is None or found.gone or found.devices is None else found

    def plugin(self, resource: str) -> Plugin | None:
        """Whom to ask for devices of a resource."""
        found = self._resources.get(resource)
        return next(reversed(found.plugins.values()), None) if found is not None else None

    def connected(self, resource: str, socket: str, plugin: Plugin) -> Plugin | None:
        """A plugin has registered; the one that had its socket before, if there is one, is of no use now."""
        found = self._resources.setdefault(resource, Resource())
        before = found.plugins.pop(socket, None)
        found.plugins[socket] = plugin
        found.stopped_at, found.gone = None, False
        return before

    def listed(self, resource: str, devices: Iterable[Device]) -> set[str]:
        """A plugin tells of all its devices; those whose health is news to pods that have them."""
        found = self._resources[resource]
        before = found.devices or {}
        now = {device.id: device.health for device in devices}
        found.devices = now
        found.healthy = frozenset(name for name, health in now.items() if health == HEALTHY)
        found.unhealthy = frozenset(now) - found.healthy
        return {name for name, health in now.items() if before.get(name) != health}

    def disconnected(self, resource: str, socket: str, plugin: Plugin, now: float) -> bool:
        """A plugin is gone; whether it was the last of its resource, which nobody can be given any more."""
        found = self._resources[resource]
        if found.plugins.get(socket) is not plugin:
            return False
        del found.plugins[socket]
        if found.plugins:
            return False
        found.stopped_at = now
        found.unhealthy |= found.healthy
        found.healthy = frozenset()
        return True

    def expire(self, now: float) -> bool:
        """Forget what is of resources whose grace period is over; whether there is one."""
        expired = [one for one in self._resources.values() if not one.gone and _is_over(one, now)]
        for one in expired:
            one.gone, one.healthy, one.unhealthy = True, frozenset(), frozenset()
        return bool(expired)

    def expires_at(self) -> float | None:
        """When `expire` has something to do next."""
        times = (one.stopped_at for one in self._resources.values() if not one.gone)
        return min((moment + GRACE for moment in times if moment is not None), default=None)

    def health(self, resource: str, device: str) -> str:
        """What a device's plugin last said; what is not known is not said to be ill."""
        found = self._resources.get(resource)
        return ((found.devices if found is not None else None) or {}).get(device, HEALTHY)

    def capacity(self) -> Mapping[str, int]:
        """How many devices of each resource the node has."""
        return {name: len(one.healthy) + len(one.unhealthy) for name, one in self._shown()}

    def allocatable(self) -> Mapping[str, int]:
        """How many devices of each resource pods may have together."""
        return {name: len(one.healthy) for name, one in self._shown()}

    def _shown(self) -> list[tuple[str, Resource[Plugin]]]:
        return [(name, one) for name, one in self._resources.items() if one.devices is not None]


def _is_over(resource: Resource[Plugin], now: float) -> bool:
    return resource.stopped_at is not None and now - resource.stopped_at >= GRACE
