"""What pods ask of whoever gives them devices, and what a container gets with them.

It exists as an interface because devices come from plugins, other processes on the machine, which most nodes
have none of. It must not know a plugin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Protocol

from providers.base import FileMount, Preopen
from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod, PodStatus, ResourceStatus
from vkubelet.pods.environment import Environment
from vkubelet.pods.volumes.mounts import Mounts


class DeviceError(Exception):
    """Devices cannot be had; the text is the kubelet's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Equipment:
    """What a container gets beside its own because of its devices; the container's own comes first."""

    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    preopens: tuple[Preopen, ...] = ()
    files: tuple[FileMount, ...] = ()

    def below(self, env: Environment) -> Environment:
        """With these variables in the place of the image's, but not of those that the pod's spec makes."""
        if not self.env:
            return env
        declared = {**self.env, **env.declared}
        return Environment(tuple({**dict(env.variables), **declared}.items()), declared)

    def beneath(self, mounted: Mounts) -> Mounts:
        """With these directories and files too, but for places that the pod's own mounts take."""
        guests = [*(one.guest for one in mounted.preopens), *(one.guest for one in mounted.files)]
        own = {PurePosixPath(guest) for guest in guests}
        preopens = [one for one in self.preopens if PurePosixPath(one.guest) not in own]
        files = [one for one in self.files if PurePosixPath(one.guest) not in own]
        return dataclasses.replace(
            mounted, preopens=(*mounted.preopens, *preopens), files=(*mounted.files, *files)
        )


NO_EQUIPMENT = Equipment()


def show_devices(status: PodStatus, health: Mapping[str, list[ResourceStatus]]) -> None:
    """Tell in a pod's status how the devices of its containers are."""
    for container in status.container_statuses or ():
        if container.name in health:
            container.allocated_resources_status = health[container.name]


class Devices(Protocol):
    """Gives devices to containers, and remembers who has which."""

    async def allocate(self, pod: Pod) -> None:
        """Give the pod's containers all that they ask for, or nothing. Raises DeviceError."""
        ...

    def adopt(self, pod: Pod) -> None:
        """The pod runs: what its status says that it has is not anybody else's, if nothing else is known."""
        ...

    def taken(self, uid: str) -> Mapping[str, int]:
        """How many devices of each resource all pods have; nothing for a pod that has none itself."""
        ...

    def release(self, uid: str) -> None:
        """Nothing of the pod runs, and nothing will: others may be given what it had."""
        ...

    def keep_only(self, uids: Collection[str]) -> None:
        """These are all pods there are."""
        ...

    async def equip(self, pod: Pod, container: Container) -> Equipment:
        """What a container that is about to start gets. Raises DeviceError, also for what no guest can be
        given.
        """
        ...

    def health(self, uid: str) -> Mapping[str, list[ResourceStatus]]:
        """How the devices of each container are: status.containerStatuses[].allocatedResourcesStatus."""
        ...


class NoDevices:
    """Where there are no plugins; implements Devices."""

    async def allocate(self, pod: Pod) -> None:
        """See Devices."""

    def adopt(self, pod: Pod) -> None:
        """See Devices."""

    def taken(self, uid: str) -> Mapping[str, int]:
        """See Devices."""
        return {}

    def release(self, uid: str) -> None:
        """See Devices."""

    def keep_only(self, uids: Collection[str]) -> None:
        """See Devices."""

    async def equip(self, pod: Pod, container: Container) -> Equipment:
        """See Devices."""
        return NO_EQUIPMENT

    def health(self, uid: str) -> Mapping[str, list[ResourceStatus]]:
        """See Devices."""
        return {}
