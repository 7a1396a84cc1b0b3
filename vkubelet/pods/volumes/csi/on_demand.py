"""Drivers' volumes, once there is a driver, a volume of one, or something that one has given before.

It exists because most nodes never meet a driver, and what speaks with one takes half a megabyte (and with
gRPC's library, which the first call imports, ten more). It must not know how any of it is done.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vkubelet.api.client import ApiClient
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod
from vkubelet.api.references import References
from vkubelet.api.storage import PersistentVolume
from vkubelet.api.volumes import Volume
from vkubelet.config import Config
from vkubelet.csi.directory import Identity, PluginDirectory
from vkubelet.pods.volumes.attaching import AttachingNode
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.kinds import Mounted, Prepared
from vkubelet.pods.volumes.layout import Layout
from vkubelet.pods.volumes.tokens import Tokens

if TYPE_CHECKING:
    from vkubelet.pods.volumes.csi.volumes import CsiVolumes

REGISTRY = "plugins_registry"
"""The kubelet's name of the directory that plugins put their sockets into."""


class CsiOnDemand:
    """See CsiVolumes, and Kind. Use from one event loop."""

    renewed = False

    def __init__(
        self,
        config: Config,
        layout: Layout,
        *,
        client: ApiClient | None,
        node: AttachingNode,
        secrets: References,
        tokens: Tokens,
        recorder: Recorder,
        on_registered: Callable[[], None],
    ) -> None:
        """`client` is None where there is no API server, `on_registered` hears of each driver."""

        def make() -> CsiVolumes:
            from vkubelet.pods.volumes.csi.composition import csi_volumes

            if client is None:
                # As with a kubelet by itself: what a driver is to be told, the API server knows.
                raise SetUpError(
                    "kubernetes.io/csi: failed to get a kubernetes client: "
                    "this node runs without an API server",
                    step="MountVolume.NewMounter initialization failed",
                )
            return csi_volumes(
                config,
                layout,
                client=client,
                node=node,
                secrets=secrets,
                tokens=tokens,
                recorder=recorder,
                on_registered=on_registered,
            )

        self._root = Path(config.root_dir)
        self._make = make
        self._volumes: CsiVolumes | None = None
        self._alone = client is None
        self._making = asyncio.Lock()
        self._directory = PluginDirectory(self._root / REGISTRY, self._look)
        self._sockets: dict[Path, Identity] | None = None
        self._group: asyncio.TaskGroup | None = None

    def open(self) -> None:
        """Find what earlier agents have left. Blocks."""
        given = (
            *self._root.glob("plugins/kubernetes.io/csi/*/*/vol_data.json"),
            *self._root.glob("pods/*/volumes/kubernetes.io~csi"),
        )
        if given and not self._alone:
            self._volumes = self._make()
            self._volumes.open()

    def recover(self) -> None:
        """Count what was found as in use; before `run`, and before the cluster is told what is."""
        if self._volumes is not None:
            self._volumes.recover()

    async def run(self) -> NoReturn:
        """Do what goes on while pods run, until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            if not self._alone:
                self._group.create_task(self._directory.run(), name="plugins' sockets")
            if self._volumes is not None:
                self._begin(self._volumes)
            await asyncio.get_running_loop().create_future()
        raise AssertionError("only cancellation ends it")

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        """See Kind."""
        return await (await self._needed()).prepare(pod, volume)

    async def prepare_persistent(
        self, pod: Pod, volume: PersistentVolume, outer_name: str, *, read_only: bool
    ) -> Callable[[], Mounted]:
        """See CsiVolumes."""
        return await (await self._needed()).prepare_persistent(pod, volume, outer_name, read_only=read_only)

    async def release(self, uid: str) -> None:
        """See CsiVolumes. What is not there yet has given nothing."""
        if self._volumes is not None:
            await self._volumes.release(uid)

    def settle(self) -> None:
        """See CsiVolumes."""
        if self._volumes is not None:
            self._volumes.settle()

    async def _look(self, sockets: dict[Path, Identity]) -> None:
        self._sockets = sockets
        if sockets:
            await self._needed()
        if self._volumes is not None:
            self._volumes.follow(sockets)

    async def _needed(self) -> CsiVolumes:
        async with self._making:
            if self._volumes is None:
                self._volumes = await asyncio.to_thread(self._make)
                self._begin(self._volumes)
            return self._volumes

    def _begin(self, volumes: CsiVolumes) -> None:
        if self._group is not None:
            # They are for all pods, whichever was the first to need them: what they log is about none.
            nobody = contextvars.Context()
            self._group.create_task(volumes.run(), name="drivers' volumes", context=nobody)
        if self._sockets is not None:
            volumes.follow(self._sockets)
