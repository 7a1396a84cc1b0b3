"""The node's devices, once there is a plugin, or something that one has given before.

It exists because most nodes never meet a plugin, and what speaks with one takes memory (and gRPC's library,
which the first that connects has imported, ten megabytes more): until then there is a socket that listens,
and pods have all the devices that they ask for. It must not know how any of it is done.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from providers import intact
from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod, ResourceStatus
from vkubelet.config import Config
from vkubelet.deviceplugins.door import SOCKET, Door
from vkubelet.pods.devices import Devices, Equipment, NoDevices

if TYPE_CHECKING:
    from vkubelet.deviceplugins.manager import DeviceManager

logger = logging.getLogger(__name__)

CHECKPOINT = "devices.json"
"""The file in the root directory."""
NOTHING = b"{}"
"""What it says where no plugin has ever been."""


class DevicesOnDemand:
    """One for the node; implements Devices.

    `changed` is called with the uid of a pod when the health of its devices has changed.
    """

    def __init__(self, config: Config, offer: Callable[[Mapping[str, int], Mapping[str, int]], None]) -> None:
        """`offer` takes what the node has of each resource, and what all pods may have. Raises OSError."""
        self.changed: Callable[[str], None] = _nobody
        self._config = config
        self._offer = offer
        self._directory = Path(config.device_plugin_dir or Path(config.root_dir) / "device-plugins")
        self._door = Door(self._directory, self._serve)
        self._manager: DeviceManager | None = None
        self._devices: Devices = NoDevices()
        self._making = asyncio.Lock()
        self._group: asyncio.TaskGroup | None = None
        checkpoint = Path(config.root_dir) / CHECKPOINT
        self.is_new = not checkpoint.exists()
        """No agent ran here before: what the node's object says of devices is another one's."""
        if self.is_new:
            checkpoint.write_bytes(NOTHING)
        elif not _says_nothing(checkpoint):
            self._make()

    async def run(self) -> NoReturn:
        """Take plugins in, until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._group:
                if self._manager is not None:
                    self._group.create_task(self._manager.run())
                try:
                    await self._door.open()
                except OSError as error:
                    # Nothing else of the node needs them.
                    logger.error("no device plugin can register: %s: %s", self._directory / SOCKET, error)  # noqa: TRY400
                await asyncio.get_running_loop().create_future()
        finally:
            self._group = None
            self._door.close()
        raise AssertionError("nobody sets the future")

    async def allocate(self, pod: Pod) -> None:
        """See Devices."""
        await self._devices.allocate(pod)

    def adopt(self, pod: Pod) -> None:
        """See Devices."""
        if any(status.allocated_resources_status for status in pod.status.container_statuses or ()):
            self._make()
        self._devices.adopt(pod)

    def taken(self, uid: str) -> Mapping[str, int]:
        """See Devices."""
        return self._devices.taken(uid)

    def release(self, uid: str) -> None:
        """See Devices."""
        self._devices.release(uid)

    def keep_only(self, uids: Collection[str]) -> None:
        """See Devices."""
        self._devices.keep_only(uids)

    async def equip(self, pod: Pod, container: Container) -> Equipment:
        """See Devices."""
        return await self._devices.equip(pod, container)

    def health(self, uid: str) -> Mapping[str, list[ResourceStatus]]:
        """See Devices."""
        return self._devices.health(uid)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._making:
            if self._manager is None:
                await asyncio.to_thread(importlib.import_module, "vkubelet.deviceplugins.manager")
        await self._make().serve(reader, writer)

    def _make(self) -> DeviceManager:
        """Have all that there is for plugins."""
        if self._manager is None:
            from vkubelet.deviceplugins.manager import DeviceManager

            self._manager = DeviceManager(
                self._config,
                Path(self._config.root_dir) / CHECKPOINT,
                self._offer,
                place=self._door.place,
                changed=lambda uid: self.changed(uid),
            )
            self._devices = self._manager
            if self._group is not None:
                self._group.create_task(self._manager.run())
        return self._manager


def _says_nothing(checkpoint: Path) -> bool:
    """Whether no plugin has ever been: what cannot be read is for the manager to set aside."""
    try:
        return intact.read(checkpoint) == NOTHING
    except intact.DamagedError:
        return False


def _nobody(uid: str) -> None:
    """Nobody waits for news of a pod's devices."""
