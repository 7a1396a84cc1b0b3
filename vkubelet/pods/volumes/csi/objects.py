"""How each driver wants to be used: the cluster's CSIDriver objects, watched from the first question on.

It exists because a node that meets no driver should not watch them. It must not know volumes.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

from vkubelet.api.client import ApiClient
from vkubelet.api.drivers import CSIDriver, CSIDriverSpec
from vkubelet.api.informer import Informer

_PATH = "/apis/storage.k8s.io/v1/csidrivers"
_SYNC_TIMEOUT = 10.0


class UnknownDriversError(Exception):
    """The API server has not told of the drivers; the text says so."""


class DriverObjects:
    """One for the node. Use from one event loop."""

    def __init__(self, client: ApiClient) -> None:
        self._asked = asyncio.Event()
        self._informer = Informer(
            client, _PATH, "", CSIDriver, on_change=lambda _: None, on_delete=lambda _: None
        )

    async def run(self) -> NoReturn:
        """Watch the objects from the first question on, until cancelled."""
        await self._asked.wait()
        await self._informer.run()

    async def get(self, driver: str) -> CSIDriverSpec | None:
        """How the driver wants to be used; None if it has no object. Raises UnknownDriversError."""
        self._asked.set()
        try:
            async with asyncio.timeout(_SYNC_TIMEOUT):
                await self._informer.synced.wait()
        except TimeoutError:
            raise UnknownDriversError("the API server has not listed its CSIDrivers yet") from None
        found = (one.spec for one in self._informer.items() if one.metadata.name == driver)
        return next(found, None)
