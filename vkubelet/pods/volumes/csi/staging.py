"""Volumes of drivers that are on the node for whichever of its pods use them: attached, and staged once.

It exists because several pods may use one volume: the first makes it ready, the others find it so, and after
the last it is taken back, for as long as that takes. It must not know what pods are, but for their uids.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from providers.faultpoints import reached
from vkubelet.api.backoff import Backoff
from vkubelet.csi.drivers import DriverNotFoundError, Drivers
from vkubelet.csi.protocol import NODE_UNSTAGE, STAGE_UNSTAGE_VOLUME, NodeUnstageVolumeRequest
from vkubelet.pods.volumes.csi.attachments import Attachments
from vkubelet.pods.volumes.csi.records import Given, Records
from vkubelet.pods.volumes.csi.wanted import EPHEMERAL
from vkubelet.pods.volumes.errors import os_text
from vkubelet.rpc.client import RpcError

logger = logging.getLogger(__name__)

TIMEOUT = 120.0
"""Seconds for one step of a volume; the kubelet's."""
RETRY_FIRST, RETRY_LIMIT = 0.5, 122.0

Key = tuple[str, str]


@dataclasses.dataclass
class _Volume:
    """`users` are the uids of pods; `ready` is whether it is staged for sure, by this agent."""

    users: set[str] = dataclasses.field(default_factory=set)
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    ready: bool = False


class Staging:
    """One for the node. Use from one event loop."""

    def __init__(self, drivers: Drivers, records: Records, attachments: Attachments) -> None:
        self._drivers = drivers
        self._records = records
        self._attachments = attachments
        self._volumes: dict[Key, _Volume] = {}
        self._group: asyncio.TaskGroup | None = None
        self._settled = False

    def recover(self, published: dict[str, list[Given]], staged: list[Given]) -> None:
        """Take over what earlier agents have left: all of it counts as in use until somebody lets go."""
        for uid, found in published.items():
            for given in found:
                if given.lifecycle != EPHEMERAL:
                    self._use(given.key, uid)
        for given in staged:
            self._use(given.key, None)

    async def run(self) -> NoReturn:
        """Take back what is used no more, until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            if self._settled:
                self.settle()
            await asyncio.get_running_loop().create_future()
        raise AssertionError("only cancellation ends it")

    def hold(self, key: Key, uid: str, *, attach: bool) -> None:
        """A pod uses the volume from now on; `attach` is whether the cluster must know."""
        volume = self._volumes.setdefault(key, _Volume())
        volume.users.add(uid)
        if attach:
            self._attachments.hold(key)
        else:
            self._attachments.release(key)

    async def stage(self, key: Key, work: Callable[[], Awaitable[None]]) -> None:
        """Have `work` done, which stages the volume, unless it is staged; what it raises is raised."""
        volume = self._volumes[key]
        async with volume.lock:
            if not volume.ready:
                await work()
                volume.ready = True

    def leave(self, uid: str) -> None:
        """The pod uses no volume any more: nothing is published for it."""
        for key, volume in self._volumes.items():
            if uid in volume.users:
                volume.users.discard(uid)
                self._settle(key, volume)

    def settle(self) -> None:
        """All pods are known: take back what none of them uses, at the latest when `run` begins."""
        self._settled = True
        for key, volume in self._volumes.items():
            self._settle(key, volume)

    def _use(self, key: Key, uid: str | None) -> None:
        volume = self._volumes.setdefault(key, _Volume())
        if uid is not None:
            volume.users.add(uid)
        self._attachments.hold(key)

    def _settle(self, key: Key, volume: _Volume) -> None:
        if not volume.users and self._group is not None:
            driver, handle = key
            self._group.create_task(self._take_back(key, volume), name=f"end of {driver} {handle}")

    async def _take_back(self, key: Key, volume: _Volume) -> None:
        """Unstage the volume and let it be detached, unless somebody uses it again."""
        pauses = Backoff(RETRY_FIRST, RETRY_LIMIT)
        while True:
            async with volume.lock:
                if volume.users or self._volumes.get(key) is not volume:
                    return
                try:
                    await self._unstage(key, volume)
                except (DriverNotFoundError, RpcError, OSError) as error:
                    cause = os_text(error) if isinstance(error, OSError) else error
                    logger.warning("volume %s of driver %s is not unstaged: %s", key[1], key[0], cause)
                else:
                    if not volume.users:
                        del self._volumes[key]
                        self._attachments.release(key)
                    return
            await self._drivers.news(pauses.delay())

    async def _unstage(self, key: Key, volume: _Volume) -> None:
        given = await asyncio.to_thread(self._records.staged_of, key)
        if given is not None:
            driver = await self._drivers.get(given.driver)
            deadline = asyncio.get_running_loop().time() + TIMEOUT
            if STAGE_UNSTAGE_VOLUME in await driver.capabilities(deadline):
                request = NodeUnstageVolumeRequest(
                    volume_id=given.handle, staging_target_path=str(given.path)
                )
                volume.ready = False
                await driver.ask(NODE_UNSTAGE, request, deadline)
                reached("csi-unstaged")
            await asyncio.to_thread(self._records.forget, given.path)
        volume.ready = False
