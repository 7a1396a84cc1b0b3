"""The node's volumes: one for the agent, holds what all pods' volumes share.

It exists to make a pod's volumes, to keep current what running guests see of the cluster's objects, and to
remove what is of pods that are no more. It must not know how a kind of volume is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NoReturn

from vkubelet.api.objects import Pod
from vkubelet.api.volumes import Volume
from vkubelet.config import Config
from vkubelet.pods.volumes import emptydir, hostpath
from vkubelet.pods.volumes.kinds import Apply, Kind, Mounted
from vkubelet.pods.volumes.layout import Layout
from vkubelet.pods.volumes.pod import PodVolumes
from vkubelet.pods.volumes.removal import remove

logger = logging.getLogger(__name__)


class VolumeManager:
    """One for the node."""

    def __init__(self, config: Config) -> None:
        self._layout = Layout.of(Path(config.root_dir), Path(config.run_dir))
        self._kinds: dict[str, Kind] = {"emptyDir": _EmptyDir(self._layout), "hostPath": _HostPath()}

    def pod(self, pod: Pod, available: Callable[[], None]) -> PodVolumes:
        """The volumes of a pod that this node has taken. Nothing is done yet: `mount` sets them up.

        `available` is called when something that a mount failed for may be there now: worth another try.

        Also for a pod whose containers an earlier agent started: `mount` then finds what is there and
        brings it up to date, and `unmount` removes it.
        """
        return PodVolumes(pod, self._kinds, self._layout, available)

    def remove_others(self, uids: Collection[str]) -> None:
        """Remove what an earlier agent left of pods that are not among `uids`. Blocks."""
        for uid in self._layout.uids():
            if uid not in uids:
                for path in self._layout.of_pod(uid):
                    try:
                        remove(path)
                    except OSError as error:
                        logger.warning("volumes of a pod that is gone are left at %s: %s", path, error)

    async def run(self) -> NoReturn:
        """Keep current what guests see, until cancelled."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody completes it")


class _EmptyDir:
    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def prepare(self, pod: Pod, volume: Volume) -> Apply:
        source = volume.empty_dir
        assert source is not None  # noqa: S101  kinds are by the field that is set
        where = self._layout.on_disk(pod.metadata.uid, emptydir.KIND, volume.name)
        return lambda: Mounted(emptydir.make(where, source))


class _HostPath:
    async def prepare(self, pod: Pod, volume: Volume) -> Apply:
        source = volume.host_path
        assert source is not None  # noqa: S101  kinds are by the field that is set
        return lambda: Mounted(hostpath.check(source))
