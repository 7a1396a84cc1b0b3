"""Which container has which devices: in use from the moment they are chosen until their pod is no more.

It exists because no device may be given twice, whoever asks at the same time and however a plugin answers. It
must not know how devices come to be, nor who asks for them: it neither awaits nor reads a file.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from vkubelet.api.struct import Struct
from vkubelet.deviceplugins.messages import ContainerAllocateResponse


class Allocation(Struct):
    """Devices of one resource that a container has, and what their plugin said of their use.

    `response` is None where only the pod's status tells of it: the plugin must be asked again.
    """

    pod: str
    container: str
    resource: str
    devices: tuple[str, ...]
    response: ContainerAllocateResponse | None


class Ledger:
    """Who has what. A pod is known by its uid."""

    def __init__(self, allocations: Iterable[Allocation] = ()) -> None:
        """`allocations` are those of an earlier agent.

        Two that speak of one device both count: it is free when neither is left.
        """
        self._pods: dict[str, list[Allocation]] = {}
        self._chosen: Counter[tuple[str, str]] = Counter()
        for allocation in allocations:
            self.give(allocation)

    def allocations(self) -> list[Allocation]:
        """All there are."""
        return [one for given in self._pods.values() for one in given]

    def of_pod(self, uid: str) -> list[Allocation]:
        """What a pod has."""
        return self._pods.get(uid, [])

    def of_container(self, uid: str, container: str) -> list[Allocation]:
        """What a container has."""
        return [one for one in self.of_pod(uid) if one.container == container]

    def find(self, uid: str, container: str, resource: str) -> Allocation | None:
        """What a container has of a resource."""
        return next((one for one in self.of_container(uid, container) if one.resource == resource), None)

    def resources(self) -> set[str]:
        """The resources of which somebody has something."""
        return {one.resource for one in self.allocations()}

    def in_use(self, resource: str) -> set[str]:
        """The devices of a resource that somebody has, or is about to get."""
        given = {device for one in self.allocations() if one.resource == resource for device in one.devices}
        return given | {device for name, device in self._chosen if name == resource}

    def counts(self) -> Mapping[str, int]:
        """How many devices of each resource are in use."""
        return {resource: len(self.in_use(resource)) for resource in self.resources()}

    def holders(self, resource: str, devices: Collection[str]) -> set[str]:
        """The pods that have one of these devices."""
        wanted = set(devices)
        return {
            one.pod
            for one in self.allocations()
            if one.resource == resource and not wanted.isdisjoint(one.devices)
        }

    @contextlib.contextmanager
    def choosing(self, resource: str, devices: Collection[str]) -> Iterator[None]:
        """Nobody else is given these devices meanwhile."""
        keys = [(resource, device) for device in devices]
        self._chosen.update(keys)
        try:
            yield
        finally:
            self._chosen.subtract(keys)
            self._chosen = +self._chosen

    def give(self, allocation: Allocation) -> None:
        """A container has these devices now, and no others of that resource."""
        kept = [
            one
            for one in self.of_pod(allocation.pod)
            if (one.container, one.resource) != (allocation.container, allocation.resource)
        ]
        self._pods[allocation.pod] = [*kept, allocation]

    def release(self, uid: str) -> bool:
        """A pod has nothing any more; whether it had something."""
        return self._pods.pop(uid, None) is not None

    def keep_only(self, uids: Collection[str]) -> bool:
        """All other pods have nothing; whether one of them had something."""
        gone = self._pods.keys() - set(uids)
        for uid in gone:
            del self._pods[uid]
        return bool(gone)


def chosen(needed: int, *pools: Iterable[str]) -> list[str]:
    """So many devices, from the first of the pools that has them, each once; fewer where all have fewer."""
    found: dict[str, None] = {}
    for pool in pools:
        for device in pool:
            if len(found) == needed:
                return list(found)
            found[device] = None
    return list(found)
