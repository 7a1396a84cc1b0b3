"""The node's volumes: one for the agent, holds what all pods' volumes share.

It exists to make a pod's volumes, to keep current what running guests see of the cluster's objects, and to
remove what is of pods that are no more. It must not know how a kind of volume is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NoReturn, Protocol

from vkubelet.api.client import ApiClient
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod
from vkubelet.api.references import References
from vkubelet.config import Config
from vkubelet.pods.allocations import NodeSource
from vkubelet.pods.phase import TERMINAL_PHASES
from vkubelet.pods.volumes.attaching import AttachingNode
from vkubelet.pods.volumes.claims import Claims
from vkubelet.pods.volumes.content import Collector
from vkubelet.pods.volumes.csi.on_demand import CsiOnDemand
from vkubelet.pods.volumes.emptydir import EmptyDir
from vkubelet.pods.volumes.files import PLUGINS, Files
from vkubelet.pods.volumes.hostpath import HostPath
from vkubelet.pods.volumes.image import ImageVolumes
from vkubelet.pods.volumes.layout import Layout
from vkubelet.pods.volumes.memory import Memory
from vkubelet.pods.volumes.nfs import Nfs
from vkubelet.pods.volumes.node import NodeVolumes
from vkubelet.pods.volumes.persistent import Persistent
from vkubelet.pods.volumes.pod import PodVolumes
from vkubelet.pods.volumes.removal import remove
from vkubelet.pods.volumes.renewal import Renewal
from vkubelet.pods.volumes.tokens import Tokens
from vkubelet.pods.volumes.trust import TrustBundles

logger = logging.getLogger(__name__)


class VolumeNode(NodeSource, AttachingNode, Protocol):
    """The node that the volumes are on."""


class VolumeManager:
    """One for the node."""

    def __init__(
        self,
        config: Config,
        *,
        references: References,
        client: ApiClient | None,
        recorder: Recorder,
        node: VolumeNode,
    ) -> None:
        """`client` is None where there is no API server."""
        layout = Layout.of(Path(config.root_dir), Path(config.run_dir))
        tokens = Tokens(client)
        self._memory = Memory(layout.memory)
        self._trust = TrustBundles(client, self._renew_all)
        self._renewal = Renewal()
        self._group: asyncio.TaskGroup | None = None
        self._pods: dict[str, PodVolumes] = {}
        self._csi = CsiOnDemand(
            config,
            layout,
            client=client,
            node=node,
            secrets=references,
            tokens=tokens,
            recorder=recorder,
            on_registered=self._retry_all,
        )
        self._persistent = Persistent(Claims(client, node), layout, self._csi)

        def allocatable() -> Mapping[str, int]:
            return node.view().allocatable

        collector = Collector(references, tokens, self._trust, allocatable)
        files = {kind: Files(kind, collector, layout, self._memory) for kind in PLUGINS}
        self._node = NodeVolumes(
            kinds={
                "csi": self._csi,
                "emptyDir": EmptyDir(layout, allocatable),
                "hostPath": HostPath(),
                "image": ImageVolumes(layout),
                "nfs": Nfs(layout),
                "persistentVolumeClaim": self._persistent,
                "ephemeral": self._persistent,
                **files,
            },
            begin=files["projected"].begin,
            layout=layout,
            objects=references,
            tokens=tokens,
            renewal=self._renewal,
            recorder=recorder,
            forget=self._forget,
            release=self._csi.release,
        )

    def open(self) -> None:
        """Get ready for pods: before any is mounted. Blocks. Raises OSError."""
        self._memory.open()
        self._csi.open()

    def recover(self) -> None:
        """Take charge of what `open` has found; before the cluster is told what this node uses."""
        self._csi.recover()

    def close(self) -> None:
        """Take away the node's file system in memory, unless some pod's volumes are on it. Blocks."""
        self._memory.close()

    def pod(self, pod: Pod, available: Callable[[], None]) -> PodVolumes:
        """The volumes of a pod that this node has taken. Nothing is done yet: `mount` sets them up.

        `available` is called when something that a mount failed for may be there now: worth another try.

        Also for a pod whose containers an earlier agent started: `mount` then finds what is there and
        brings it up to date, and `unmount` removes it.
        """
        volumes = PodVolumes(pod, self._node, available)
        if pod.spec.volumes:
            self._pods[pod.metadata.uid] = volumes
            ends = pod.metadata.deletion_timestamp or pod.status.phase in TERMINAL_PHASES
            if self._group is not None and not ends:
                self._group.create_task(volumes.begin(), name=f"volumes {pod.key}")
        return volumes

    async def remove_others(self, uids: Collection[str]) -> None:
        """Remove what an earlier agent left of pods that are not among `uids`, and of none.

        It takes as long as drivers make it.
        """
        found = await asyncio.to_thread(lambda: list(self._node.layout.uids()))
        # What came after `uids` were listed is among the pods before it makes anything.
        others = [uid for uid in found if uid not in uids and uid not in self._pods]
        self._csi.settle()
        await asyncio.gather(*map(self._remove_other, others))

    async def _remove_other(self, uid: str) -> None:
        await self._csi.release(uid)
        for path in self._node.layout.of_pod(uid):
            try:
                await asyncio.to_thread(remove, path)
            except OSError as error:
                logger.warning("volumes of a pod that is gone are left at %s: %s", path, error)

    async def run(self) -> NoReturn:
        """Keep current what guests see, until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            group = self._group
            group.create_task(self._renewal.run(), name="volume renewals")
            group.create_task(self._trust.run(), name="trust bundles")
            group.create_task(self._csi.run(), name="drivers' volumes")
        raise AssertionError("its tasks never end")

    def _forget(self, uid: str) -> None:
        self._pods.pop(uid, None)
        self._persistent.forget(uid)

    def _retry_all(self) -> None:
        """A driver has come that any pod may have waited for."""
        for volumes in self._pods.values():
            volumes.retry()

    def _renew_all(self) -> None:
        """Something that any pod's volumes may show has changed."""
        for volumes in self._pods.values():
            self._renewal.now(volumes)
