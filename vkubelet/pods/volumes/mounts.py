"""What a container sees of its pod's volumes.

It exists to hold the rules of volumeMounts. It must not know how a volume came to be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from providers.base import FileMount, Preopen
from vkubelet.api.containers import Container, VolumeMount
from vkubelet.api.objects import Pod
from vkubelet.pods.volumes.kinds import Mounted


@dataclasses.dataclass(frozen=True, slots=True)
class Mounts:
    """Directories and single files, by the guest's absolute paths."""

    preopens: tuple[Preopen, ...] = ()
    files: tuple[FileMount, ...] = ()


class MountError(Exception):
    """A container's mount cannot be had; the text is the kubelet's CreateContainerConfigError message."""


TOKEN_VOLUME_PREFIX = "kube-api-access-"  # noqa: S105  a volume's name
"""The volume that the ServiceAccount admission plugin adds to every pod, which is not mounted so far."""


def used_volumes(pod: Pod) -> frozenset[str]:
    """The volumes that some container mounts: a kubelet sets up no other."""
    return frozenset(
        used.name
        for container in pod.spec.all_containers()
        for used in (*(container.volume_mounts or ()), *(container.volume_devices or ()))
        if not used.name.startswith(TOKEN_VOLUME_PREFIX)
    )


def mounts(container: Container, mounted: Mapping[str, Mounted]) -> Mounts:
    """What the container sees. Blocks for a few calls to the file system. Raises MountError."""
    preopens: list[Preopen] = []
    files: list[FileMount] = []
    for mount in container.volume_mounts or ():
        volume = mounted.get(mount.name)
        if volume is None and mount.name.startswith(TOKEN_VOLUME_PREFIX):
            continue
        if volume is None:
            raise MountError(f'cannot find volume "{mount.name}" to mount into container "{container.name}"')
        read_only = mount.read_only or volume.read_only
        if volume.path.is_dir():
            preopens.append(Preopen(volume.path, guest_path(mount), read_only))
        else:
            files.append(FileMount(volume.path, guest_path(mount), read_only))
    return Mounts(tuple(preopens), tuple(files))


def guest_path(mount: VolumeMount) -> str:
    """The mount's path for the guest; a relative one is taken from the root, as a kubelet does."""
    return "/" + mount.mount_path.strip("/")
