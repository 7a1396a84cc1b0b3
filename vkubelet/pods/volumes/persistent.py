"""persistentVolumeClaim and ephemeral: volumes that outlive the pod, or whose storage does not come from it.

It exists to mount what a claim leads to, as far as this node can: local directories, hostPath, NFS and
what drivers provide. It must not know how a claim is followed.
"""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Callable
from pathlib import Path

from vkubelet.api.objects import Pod
from vkubelet.api.storage import LocalVolumeSource
from vkubelet.api.volumes import Volume
from vkubelet.pods.volumes import hostpath, nfs, ownership
from vkubelet.pods.volumes.claims import Bound, Claims
from vkubelet.pods.volumes.csi.on_demand import CsiOnDemand
from vkubelet.pods.volumes.errors import SetUpError, os_text
from vkubelet.pods.volumes.kinds import Mounted, Prepared
from vkubelet.pods.volumes.layout import Layout

_ONE_POD = ["ReadWriteOncePod"]


class Persistent:
    """See Kind. One for the node: it knows which pods use which volume. Use from one event loop."""

    renewed = False

    def __init__(self, claims: Claims, layout: Layout, csi: CsiOnDemand) -> None:
        self._claims = claims
        self._csi = csi
        self._layout = layout
        self._users: dict[str, set[str]] = {}

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        """See Kind."""
        bound = await self._claims.resolve(pod, volume)
        is_first, is_new = self._take(pod.metadata.uid, bound)

        def failed(error: SetUpError | OSError) -> SetUpError:
            if is_new:
                self._users.get(bound.name, set()).discard(pod.metadata.uid)
            cause = error if isinstance(error, SetUpError) else SetUpError(os_text(error))
            return SetUpError(str(cause), step=cause.step, name=bound.name)

        def apply() -> Mounted:
            try:
                return dataclasses.replace(mount(), group=bound.group)
            except (SetUpError, OSError) as error:
                raise failed(error) from error

        try:
            mount = await self._mounter(pod, volume, bound, is_first)
        except SetUpError as error:
            raise failed(error) from error
        return Prepared(apply)

    def forget(self, uid: str) -> None:
        """The pod uses no volume any more."""
        self._users = {name: rest for name, users in self._users.items() if (rest := users - {uid})}

    def _take(self, uid: str, bound: Bound) -> tuple[bool, bool]:
        """Note that a pod uses a volume: whether no other does, and whether it did not before."""
        users = self._users.setdefault(bound.name, set())
        is_first, is_new = not users - {uid}, uid not in users
        if not is_first and bound.volume.spec.access_modes == _ONE_POD:
            cause = "volume uses the ReadWriteOncePod access mode and is already in use by another pod"
            raise SetUpError(cause, name=bound.name)
        users.add(uid)
        return is_first, is_new

    async def _mounter(self, pod: Pod, volume: Volume, bound: Bound, is_first: bool) -> Callable[[], Mounted]:
        """What mounts the volume, or has it mounted already; blocks. Both raise SetUpError."""
        spec, read_only = bound.volume.spec, bound.read_only
        options = spec.mount_options or []
        if spec.local is not None:
            source = spec.local
            return lambda: _local(pod, source, is_first, read_only=read_only or "ro" in options)
        if spec.host_path is not None:
            host = spec.host_path
            if options:
                raise SetUpError(
                    "mount options are not supported for this volume type",
                    step="MountVolume.MountOptionSupport check failed",
                )
            return lambda: Mounted(hostpath.check(host), read_only)
        if spec.nfs is not None:
            where = self._layout.in_memory(pod.metadata.uid, nfs.PLUGIN, bound.name)
            read_only = read_only or spec.nfs.read_only
            mounted = await nfs.mount(where, spec.nfs, options, read_only=read_only)
            return lambda: mounted
        if spec.csi is not None:
            return await self._csi.prepare_persistent(pod, bound.volume, volume.name, read_only=read_only)
        raise SetUpError("no volume plugin matched", step="MountVolume.FindPluginBySpec failed")


def _local(pod: Pod, source: LocalVolumeSource, first: bool, *, read_only: bool) -> Mounted:
    """A directory of this machine. Blocks. Raises SetUpError and OSError."""
    step = "MountVolume.NewMounter initialization failed"
    if ".." in source.path.split("/"):
        raise SetUpError(f"invalid path: {source.path} must not contain '..'")
    path = Path(source.path)
    try:
        if path.is_block_device():
            raise SetUpError(f"{path} is a block device: this node mounts no file systems; name a directory")
        if not stat.S_ISDIR(path.stat().st_mode):
            raise SetUpError("only directory and block device are supported", step=step)
    except FileNotFoundError:
        raise SetUpError(f'path "{path}" does not exist', step=step) from None
    group = ownership.fs_group(pod)
    context = pod.spec.security_context
    policy = context.fs_group_change_policy if context is not None else None
    if group is None or read_only or not first or not ownership.may_change_owners():
        # Others use it already: as a kubelet does, it stays as they have it.
        return Mounted(path, read_only)
    if policy != "OnRootMismatch" or not ownership.is_given(path, group, read_only=False):
        ownership.give(path, group, read_only=False)
    return Mounted(path)
