"""Taking storage drivers by the sockets that they put into the node's plugin directory.

It exists to hold the kubelet's plugin registration (pkg/kubelet/pluginmanager): a socket that appears is
asked who it is, taken or refused, and told so; a socket that is gone takes its driver with it; one made anew
is another. What fails is tried again with a back-off for as long as the socket is there. It must not know
what a driver is asked for later.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path
from typing import NoReturn

from vkubelet.api.backoff import Backoff
from vkubelet.csi import versions
from vkubelet.csi.directory import Identity
from vkubelet.csi.drivers import Driver, Drivers
from vkubelet.csi.node_info import NodeInfo, NodeInfoError
from vkubelet.csi.protocol import (
    GET_INFO,
    NODE_GET_INFO,
    NOTIFY,
    Empty,
    PluginInfo,
    RegistrationStatus,
)
from vkubelet.rpc.client import RpcError, call

logger = logging.getLogger(__name__)

CSI_PLUGIN = "CSIPlugin"
INFO_TIMEOUT, NOTIFY_TIMEOUT, DRIVER_TIMEOUT = 10.0, 5.0, 120.0
"""Seconds; the kubelet's."""
RETRY_FIRST, RETRY_LIMIT = 0.5, 122.0


class RegistrationError(Exception):
    """A plugin is not taken; the text is what it is told."""


@dataclasses.dataclass
class _Socket:
    """A socket that is there: its registration, which goes on until it has succeeded, and then its driver."""

    identity: Identity
    task: asyncio.Task[None] | None = None
    driver: Driver | None = None


class Registration:
    """One for the node. Use from one event loop."""

    def __init__(self, drivers: Drivers, node_info: NodeInfo) -> None:
        self._drivers = drivers
        self._node_info = node_info
        self._sockets: dict[Path, _Socket] = {}
        self._found: dict[Path, Identity] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._telling = asyncio.Lock()

    async def run(self) -> NoReturn:
        """Register what comes and forget what goes, until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._settle()
            await asyncio.get_running_loop().create_future()
        raise AssertionError("only cancellation ends it")

    def follow(self, found: dict[Path, Identity]) -> None:
        """These sockets are there now, and no others."""
        self._found = found
        self._settle()

    def _settle(self) -> None:
        found, group = self._found, self._group
        if found is None or group is None:
            return
        for path, socket in list(self._sockets.items()):
            if found.get(path) == socket.identity:
                continue
            del self._sockets[path]
            if socket.task is not None:
                socket.task.cancel()
            if socket.driver is not None:
                logger.info("storage driver %s is gone from %s", socket.driver.name, path)
                self._discard(socket, group)
        first, attempts = not self._sockets, []
        for path, identity in found.items():
            if path not in self._sockets:
                socket = self._sockets[path] = _Socket(identity)
                attempts.append(attempt := asyncio.Event())
                registering = self._register_surely(path, socket, attempt, group)
                socket.task = group.create_task(registering, name=f"registration at {path}")
        if first and not self._drivers.looked.is_set():
            group.create_task(self._looked(attempts), name="first registrations")

    async def _looked(self, attempts: list[asyncio.Event]) -> None:
        for attempt in attempts:
            await attempt.wait()
        self._drivers.looked.set()

    async def _register_surely(
        self, path: Path, socket: _Socket, tried: asyncio.Event, group: asyncio.TaskGroup
    ) -> None:
        pauses = Backoff(RETRY_FIRST, RETRY_LIMIT)
        while True:
            try:
                await self._register(path, socket, group)
            except (RegistrationError, RpcError) as error:
                logger.warning("the plugin at %s is not registered: %s", path, error)
            except Exception:
                # A defect of ours costs this plugin a pause, and nobody else anything.
                logger.exception("the plugin at %s is not registered", path)
            else:
                return
            finally:
                tried.set()
            await asyncio.sleep(pauses.delay())

    async def _register(self, path: Path, socket: _Socket, group: asyncio.TaskGroup) -> None:
        """Take the plugin, and tell it. Raises RegistrationError and RpcError."""
        info = await call(path, GET_INFO, Empty(), timeout=INFO_TIMEOUT)
        try:
            driver = accepted(info, path, self._drivers.known(info.name))
            socket.driver = driver
            self._drivers.add(driver)
            await self._install(driver)
        except RegistrationError as error:
            self._discard(socket, group)
            await call(path, NOTIFY, RegistrationStatus(error=str(error)), timeout=NOTIFY_TIMEOUT)
            raise
        try:
            await call(path, NOTIFY, RegistrationStatus(plugin_registered=True), timeout=NOTIFY_TIMEOUT)
        except RpcError:
            self._discard(socket, group)
            raise
        logger.info("storage driver %s is registered, at %s", driver.name, driver.endpoint)

    async def _install(self, driver: Driver) -> None:
        """Ask the driver who this node is, and tell the cluster. Raises RegistrationError."""
        try:
            deadline = asyncio.get_running_loop().time() + DRIVER_TIMEOUT
            info = await driver.ask(NODE_GET_INFO, Empty(), deadline)
            async with self._telling:
                await self._node_info.install(driver.name, info)
        except (RpcError, NodeInfoError) as error:
            raise RegistrationError(
                f"RegisterPlugin error -- plugin registration failed with err: {error}"
            ) from error

    def _discard(self, socket: _Socket, group: asyncio.TaskGroup) -> None:
        """The driver, if it was taken, is to be found no more. The cluster is told whatever becomes of the
        socket meanwhile.
        """
        driver, socket.driver = socket.driver, None
        if driver is not None:
            self._drivers.remove(driver)
            group.create_task(self._tell_gone(driver.name), name=f"end of {driver.name}")

    async def _tell_gone(self, name: str) -> None:
        """Tell the cluster, unless the driver is back by then."""
        async with self._telling:
            if self._drivers.known(name) is not None:
                return
            try:
                await self._node_info.uninstall(name)
            except NodeInfoError as error:
                logger.warning("storage driver %s: %s", name, error)


def accepted(info: PluginInfo, path: Path, known: Driver | None) -> Driver:
    """The driver that a plugin says it is. Raises RegistrationError: it is none, or one too many."""
    if info.type != CSI_PLUGIN:
        raise RegistrationError(
            f"RegisterPlugin error -- no handler registered for plugin type: {info.type} at socket {path}"
        )
    endpoint = info.endpoint or str(path)
    problem = _problem(info, known)
    if isinstance(problem, str):
        raise RegistrationError(
            f"RegisterPlugin error -- plugin validation failed with err: validation failed for CSI Driver "
            f"{info.name} at endpoint {endpoint}: kubernetes.io/csi: ValidatePlugin for CSI driver "
            f'"{info.name}" failed. {problem}'
        )
    return Driver(info.name, Path(endpoint), problem)


def _problem(info: PluginInfo, known: Driver | None) -> versions.Version | str:
    """The version to speak with the plugin, or why there is none."""
    if not info.supported_versions:
        return "Plugin returned an empty list for supported versions"
    try:
        version = versions.highest(info.supported_versions)
    except versions.UnsupportedVersionError as error:
        listed = versions.go_list(info.supported_versions)
        return f"None of the versions specified {listed} are supported. err={error}"
    if known is not None and known.version >= version:
        return (
            "Another driver with the same name is already registered with a higher supported version: "
            f'"{versions.shown(known.version)}"'
        )
    return version
