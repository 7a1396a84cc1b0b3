"""What a container sees of its pod's volumes: the rules of volumeMounts, with the kubelet's texts.

It exists because this is decided for each container's start, from where the volumes are and the container's
environment. It must not know how a volume came to be. A guest may have made what is in a volume: nothing is
looked at or made there but in the volume itself.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from providers.base import FileMount, Preopen
from providers.rooted import open_beneath
from vkubelet.api.containers import Container, VolumeMount
from vkubelet.api.objects import Pod
from vkubelet.pods.environment import expand
from vkubelet.pods.volumes.kinds import Mounted

_OTHER_FILES = (
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISFIFO, "a named pipe"),
)
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


@dataclasses.dataclass(frozen=True, slots=True)
class Mounts:
    """Directories and files by the guest's absolute paths, and groups that its process needs for them."""

    preopens: tuple[Preopen, ...] = ()
    files: tuple[FileMount, ...] = ()
    groups: tuple[int, ...] = ()


class MountError(Exception):
    """A container's mount cannot be had; the text is the kubelet's CreateContainerConfigError message."""


def used_volumes(pod: Pod) -> frozenset[str]:
    """The volumes that some container mounts: a kubelet sets up no other."""
    return frozenset(
        used.name
        for container in pod.spec.all_containers()
        for used in (*(container.volume_mounts or ()), *(container.volume_devices or ()))
    )


def mounts(container: Container, mounted: Mapping[str, Mounted], env: Mapping[str, str]) -> Mounts:
    """What the container sees; `env` is its environment, for subPathExpr. Raises MountError.

    A directory that a subPath names and that is not there is made. Blocks for a few calls to the file system.
    """
    preopens: list[Preopen] = []
    files: list[FileMount] = []
    for mount in container.volume_mounts or ():
        volume = mounted.get(mount.name)
        if volume is None:
            raise MountError(f'cannot find volume "{mount.name}" to mount into container "{container.name}"')
        beneath = sub_path(mount, env)
        _check(mount)
        guest, read_only = guest_path(mount), mount.read_only or volume.read_only
        mode = _mode(volume.path, beneath, mount, container)
        if stat.S_ISDIR(mode):
            preopens.append(Preopen(volume.path, guest, read_only, beneath))
        elif stat.S_ISREG(mode):
            files.append(FileMount(volume.path, guest, read_only, beneath))
        else:
            what = next((name for is_one, name in _OTHER_FILES if is_one(mode)), "no file or directory")
            raise MountError(
                f'volume "{mount.name}" is {what} at {mount.mount_path}: a wasm guest can be given '
                "directories and regular files only; remove the mount"
            )
    # As with a kubelet, a volume's group is every container's, whoever mounts it.
    groups = dict.fromkeys(volume.group for volume in mounted.values() if volume.group is not None)
    return Mounts(tuple(preopens), tuple(files), tuple(groups))


def guest_path(mount: VolumeMount) -> str:
    """The mount's path for the guest; a relative one is taken from the root, as a kubelet does."""
    return "/" + mount.mount_path.strip("/")


def sub_path(mount: VolumeMount, env: Mapping[str, str]) -> str:
    """The path in the volume that is mounted; empty for all of it. Raises MountError."""
    path = mount.sub_path
    if mount.sub_path_expr:
        missing = set[str]()
        path = expand(mount.sub_path_expr, _Noting(env, missing))
        if missing:
            raise MountError(f"missing value for {', '.join(sorted(missing))}")
    if path.startswith("/"):
        raise MountError(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise MountError(f"unable to provision SubPath `{path}`: must not contain '..'")
    return path if path.strip("/.") else ""


class _Noting(Mapping[str, str]):
    """A container's variables; what is asked for and empty or not there is noted."""

    def __init__(self, env: Mapping[str, str], missing: set[str]) -> None:
        self._env = env
        self._missing = missing

    def __getitem__(self, name: str) -> str:
        value = self._env.get(name, "")
        if not value:
            self._missing.add(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._env)

    def __len__(self) -> int:
        return len(self._env)


def _check(mount: VolumeMount) -> None:
    if mount.mount_propagation not in (None, "", "None"):
        raise MountError(
            f'volume "{mount.name}" requested mountPropagation {mount.mount_propagation}: a wasm guest sees '
            "directories and no mounts; use None"
        )
    mode = mount.recursive_read_only
    if mode in (None, "", "Disabled"):
        return
    if not mount.read_only:
        raise MountError(f'volume "{mount.name}" requested recursive read-only mode, but it is not read-only')
    if mode not in ("IfPossible", "Enabled"):
        raise MountError(f'unknown recursive read-only mode "{mode}"')
    # What is read-only for a guest is so with all below it, mounts of the host's included.


def _mode(volume: Path, beneath: str, mount: VolumeMount, container: Container) -> int:
    """What is mounted: its type and mode, as stat(2) has them. Raises MountError."""
    if not beneath:
        try:
            return volume.stat().st_mode
        except OSError as error:
            raise MountError(f'volume "{mount.name}": {os.strerror(error.errno or 0).lower()}') from error
    # As with a kubelet the texts tell nothing of the host's files.
    where = f'for volumeMount "{mount.name}" of container "{container.name}"'
    try:
        top = os.open(volume, _DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(f"failed to prepare subPath {where}") from error
    try:
        try:
            return _stat(open_beneath(top, beneath, os.O_PATH))
        except FileNotFoundError:
            _make(top, beneath, where)
            return _stat(open_beneath(top, beneath, os.O_PATH))
    except OSError as error:
        raise MountError(f"failed to prepare subPath {where}") from error
    finally:
        os.close(top)


def _stat(descriptor: int) -> int:
    try:
        return os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)


def _make(top: int, beneath: str, where: str) -> None:
    """Make the directory, with the volume's mode; through links only as far as there is something."""
    try:
        _make_below(top, beneath)
    except OSError as error:
        raise MountError(f"failed to create subPath directory {where}") from error


def _make_below(top: int, beneath: str) -> None:
    mode = stat.S_IMODE(os.stat(".", dir_fd=top).st_mode)
    names = [name for name in beneath.split("/") if name not in ("", ".")]
    present = len(names)
    directory = -1
    while directory < 0:
        present -= 1
        try:
            directory = open_beneath(top, "/".join(names[:present]) or ".", _DIRECTORY)
        except FileNotFoundError:
            continue
    try:
        for name in names[present:]:
            _make_one(directory, name, mode)
            inner = open_beneath(directory, name, _DIRECTORY, follow=False)
            os.close(directory)
            directory = inner
    finally:
        os.close(directory)


def _make_one(directory: int, name: str, mode: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.EEXIST:
            return
        raise
    made = open_beneath(directory, name, _DIRECTORY, follow=False)
    try:
        # By its place in /proc: the call for descriptors takes none that is a mere path.
        os.chmod(f"/proc/self/fd/{made}", mode)  # noqa: PTH101
    finally:
        os.close(made)
