"""What a guest gets because of its devices: from a plugin's answers to variables, directories and files.

It exists because plugins speak to runtimes of Linux containers: environment and mounts mean the same here,
where a file of a device cannot be given to a guest at all, and is refused rather than left out. It must not
know how devices are chosen. Annotations are for such a runtime alone: there is nothing here that reads them.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from providers.base import FileMount, Preopen
from vkubelet.deviceplugins.ledger import Allocation
from vkubelet.deviceplugins.messages import ContainerAllocateResponse
from vkubelet.pods.devices import DeviceError, Equipment

logger = logging.getLogger(__name__)

_NO_CDI = (
    "a CDI device edits the configuration of a Linux container's runtime, which a wasm guest has none of; "
    "have the plugin answer with mounts or variables"
)
_KINDS = (
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISFIFO, "a named pipe"),
)


def equipment(allocations: Iterable[Allocation]) -> Equipment:
    """What the container of these gets. Raises DeviceError for what no guest can be given.

    Of two that speak of one variable or place, the first counts, as with a kubelet. Blocks for a few calls to
    the file system.
    """
    env: dict[str, str] = {}
    places: dict[str, tuple[str, bool]] = {}
    for allocation in sorted(allocations, key=lambda one: one.resource):
        response = allocation.response or ContainerAllocateResponse()
        for name, value in response.envs.items():
            if not name or "=" in name or "\0" in name + value:
                raise DeviceError(f"{_plugin(allocation)}: {name!r} is no environment variable")
            if env.setdefault(name, value) != value:
                logger.warning("%s: variable %s has another value already", _plugin(allocation), name)
        for place, host, read_only in _files(response):
            if places.setdefault(place, (host, read_only))[0] != host:
                logger.warning("%s: %s is %s already", _plugin(allocation), place, places[place][0])
        for device in response.cdi_devices:
            raise DeviceError(f'{_plugin(allocation)}: CDI device "{device.name}": {_NO_CDI}')
    shown = [_shown(host, place, read_only) for place, (host, read_only) in places.items()]
    return Equipment(
        env,
        tuple(one for one in shown if isinstance(one, Preopen)),
        tuple(one for one in shown if isinstance(one, FileMount)),
    )


def _files(response: ContainerAllocateResponse) -> Iterator[tuple[str, str, bool]]:
    """Places in the guest, what of the host is to be there, and whether it is only to be read."""
    for device in response.devices:
        yield device.container_path, device.host_path, "w" not in device.permissions
    for mount in response.mounts:
        yield mount.container_path, mount.host_path, mount.read_only


def _shown(host: str, place: str, read_only: bool) -> Preopen | FileMount:
    try:
        mode = os.stat(host).st_mode  # noqa: PTH116  a plugin's text, which may be no path at all
    except (OSError, ValueError) as error:
        raise DeviceError(f"device {host}, which a device plugin gives: {error}") from error
    if stat.S_ISDIR(mode):
        return Preopen(Path(host), place, read_only)
    if stat.S_ISREG(mode):
        return FileMount(Path(host), place, read_only)
    what = next((name for is_one, name in _KINDS if is_one(mode)), "no file or directory")
    raise DeviceError(
        f"device {host} is {what}: a wasm guest can be given directories and regular files only; "
        "give it the directory that the device is in"
    )


def _plugin(allocation: Allocation) -> str:
    return f"device plugin {allocation.resource}"
