"""emptyDir: a directory of the pod's own, on disk or in memory.

It exists to hold what a kubelet's emptyDir plugin promises of such a directory. It must not know who mounts
it.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from providers.disk import disk_usage
from vkubelet.api.objects import Pod
from vkubelet.api.volumes import EmptyDirVolumeSource, Volume
from vkubelet.pods.resources import pod_limits
from vkubelet.pods.text import quantity
from vkubelet.pods.volumes import ownership, tmpfs
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.kinds import Mounted, Prepared
from vkubelet.pods.volumes.layout import Layout, make_private

logger = logging.getLogger(__name__)

_PLUGIN = "empty-dir"
_MODE = 0o777
"""Any user of the pod may write; the directory is for everybody in it."""
_MEMORY_MODE = 0o1777
"""The same of one in memory, which keeps the bit that its file system has as such, as with a kubelet."""
_UNFINISHED = 0o700


class EmptyDir:
    """See Kind. `allocatable` is what the node has to give, as `resources.counted` counts."""

    renewed = False

    def __init__(self, layout: Layout, allocatable: Callable[[], Mapping[str, int]]) -> None:
        self._layout = layout
        self._allocatable = allocatable

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        """See Kind."""
        source = volume.empty_dir or EmptyDirVolumeSource()
        uid, group = pod.metadata.uid, ownership.fs_group(pod)
        if source.medium == "":
            where = self._layout.on_disk(uid, _PLUGIN, volume.name)
            return Prepared(lambda: _make(where, source, group, None), at_once=True)
        if source.medium == "Memory":
            where = self._layout.in_memory(uid, _PLUGIN, volume.name)
            size = memory_size(source, pod, self._allocatable()["memory"])
            return Prepared(lambda: _make(where, source, group, size))
        if source.medium.startswith("HugePages"):
            raise SetUpError(
                f"medium {source.medium}: huge pages cannot be given to a wasm guest, whose memory is its "
                'own; use medium "" or Memory'
            )
        raise SetUpError(f'unknown storage medium "{source.medium}"')


def memory_size(source: EmptyDirVolumeSource, pod: Pod, allocatable: int) -> int:
    """The size in bytes of an emptyDir in memory: the least of what the node, the pod and the volume allow.

    The rule is the kubelet's calculateEmptyDirMemorySize. Raises SetUpError for a limit that is no quantity.
    """
    size = allocatable
    bounded = all(
        (container.resources.limits or {}).get("memory")
        for container in (*(pod.spec.containers or ()), *(pod.spec.init_containers or ()))
    )
    limit = int(pod_limits(pod).get("memory", 0))
    level = pod.spec.resources.limits if pod.spec.resources is not None else None
    if (bounded or (level or {}).get("memory")) and 0 < limit <= size:
        size = limit
    own = _size_limit(source)
    return own if own is not None and 0 < own <= size else size


def exceeded(volumes: Iterable[tuple[Volume, Path]]) -> str | None:
    """The kubelet's message for the first of these volumes that holds more than its sizeLimit. Blocks."""
    for volume, path in volumes:
        source = volume.empty_dir
        limit = _size_limit(source) if source is not None else None
        if source is None or not limit:
            continue
        usage = disk_usage(path)
        if usage is not None and usage.size > limit:
            return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{source.size_limit}". '
    return None


def _size_limit(source: EmptyDirVolumeSource) -> int | None:
    if source.size_limit is None:
        return None
    try:
        return int(quantity(source.size_limit))
    except ValueError as error:
        raise SetUpError(f"sizeLimit: {error}") from error


def _make(where: Path, source: EmptyDirVolumeSource, group: int | None, memory: int | None) -> Mounted:
    """Make the directory unless it is there; `memory` is the size of one in memory. Blocks. Raises OSError.

    Until all is done it is for the node alone, which tells a later agent that an earlier one was killed here.
    """
    make_private(where.parent)
    where.mkdir(mode=_UNFINISHED, exist_ok=True)
    if memory is not None and not os.path.ismount(where):
        _mount(where, memory)
    if where.stat().st_mode & 0o777 == _UNFINISHED:
        if group is not None and ownership.may_change_owners():
            ownership.give(where, group, read_only=False)
        mode = (_MODE if memory is None else _MEMORY_MODE) if source.mode is None else source.mode
        where.chmod(mode if group is None else mode | stat.S_ISGID)
    return Mounted(where)


def _mount(where: Path, size: int) -> None:
    try:
        tmpfs.mount(where, size=size, mode=_UNFINISHED)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise
        # As good as this node can: a directory where its secrets are, whose limit eviction watches.
        logger.debug("%s is a directory of the run directory: %s", where, error)
