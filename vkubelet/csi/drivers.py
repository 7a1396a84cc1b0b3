"""The storage drivers that are registered on this node.

It exists so that whoever needs a driver finds it by its name, as it is now, and hears when it comes. It must
not know how a driver registers, nor what it is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

from vkubelet.csi.protocol import NODE_GET_CAPABILITIES, Empty
from vkubelet.csi.versions import Version
from vkubelet.rpc.client import Method, Request, Response, call

PREFIX = "kubernetes.io/csi: "
"""What the kubelet's messages about drivers begin with."""
_FIRST_LOOK = 10.0
"""Seconds that those who were there before the node may take to register."""


class DriverNotFoundError(Exception):
    """No driver of this name is registered; the text is the kubelet's."""

    def __init__(self, name: str) -> None:
        found = f"driver name {name} not found in the list of registered CSI drivers"
        super().__init__(found if name else "driver name is empty")


@dataclasses.dataclass(frozen=True, slots=True)
class Driver:
    """A driver that is registered: where it serves, and the highest version of CSI that it speaks."""

    name: str
    endpoint: Path
    version: Version

    async def ask(self, method: Method[Request, Response], request: Request, deadline: float) -> Response:
        """Ask it once, until the event loop's time `deadline` at the latest. Raises RpcError."""
        left = max(deadline - asyncio.get_running_loop().time(), 0.0)
        return await call(self.endpoint, method, request, timeout=left)

    async def capabilities(self, deadline: float) -> frozenset[int]:
        """What it can do on a node. Raises RpcError."""
        found = await self.ask(NODE_GET_CAPABILITIES, Empty(), deadline)
        return frozenset(one.rpc.type for one in found.capabilities if one.rpc is not None)


class Drivers:
    """One for the node. Use from one event loop."""

    def __init__(self, on_registered: Callable[[], None]) -> None:
        """`on_registered` is called with each driver that comes: who was refused for want of it may retry."""
        self._on_registered = on_registered
        self._drivers: dict[str, Driver] = {}
        self._news = asyncio.Event()
        self.looked = asyncio.Event()
        """Set once every driver that was there at the node's start has had its chance."""

    def known(self, name: str) -> Driver | None:
        """The driver, if it is registered."""
        return self._drivers.get(name)

    async def get(self, name: str) -> Driver:
        """The driver. Raises DriverNotFoundError, but not before those that are there could register."""
        if name not in self._drivers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_LOOK):
                    await self.looked.wait()
        found = self._drivers.get(name)
        if found is None:
            raise DriverNotFoundError(name)
        return found

    async def news(self, seconds: float) -> None:
        """Wait until a driver registers, so long at most: whoever failed for want of one may try again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def add(self, driver: Driver) -> None:
        """A driver has registered."""
        self._drivers[driver.name] = driver
        self._news.set()
        self._news = asyncio.Event()
        self._on_registered()

    def remove(self, driver: Driver) -> None:
        """A driver is gone, unless another of its name has taken its place."""
        if self._drivers.get(driver.name) is driver:
            del self._drivers[driver.name]
