"""Registration over real sockets and a real directory: drivers that come, go, come back, hang and fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from csi_driver import NAME, FakeDriver
from grpc_server import RefusedError, grpc_server
from storage_api import CSI_NODE, StorageApi, storage_api
from waiting import until

from vkubelet.api.client import ApiClient
from vkubelet.api.credentials import Credentials
from vkubelet.csi import registration
from vkubelet.csi.directory import Identity, PluginDirectory, look
from vkubelet.csi.drivers import Driver, DriverNotFoundError, Drivers
from vkubelet.csi.node_info import NodeInfo
from vkubelet.csi.protocol import GET_INFO, Empty, PluginInfo
from vkubelet.csi.registration import Registration, RegistrationError, accepted
from vkubelet.rpc.client import call


@pytest.fixture
def root(short_path: Path) -> Path:
    return short_path


@pytest.fixture
async def api() -> AsyncIterator[StorageApi]:
    async with storage_api() as made:
        yield made


class Node:
    """A node that drivers register with."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.drivers = Drivers(self.came.set)
        self.sockets: dict[Path, Identity] = {}

    async def gone(self, name: str) -> None:
        async with asyncio.timeout(10):
            while self.drivers.known(name) is not None:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.01)


@pytest.fixture
async def info(api: StorageApi) -> AsyncIterator[NodeInfo]:
    client = ApiClient(Credentials(api.url), Path("/nowhere"))
    yield NodeInfo(client, "n")
    await client.close()


@pytest.fixture
async def node(root: Path, info: NodeInfo, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(registration, "RETRY_FIRST", 0.05)
    async with running(root, info) as made:
        yield made


@contextlib.asynccontextmanager
async def running(root: Path, info: NodeInfo) -> AsyncIterator[Node]:
    made = Node()
    taking = Registration(made.drivers, info)

    async def look(sockets: dict[Path, Identity]) -> None:
        taking.follow(sockets)
        made.sockets = sockets

    watching = PluginDirectory(root / "plugins_registry", look)
    tasks = [asyncio.create_task(part) for part in (taking.run(), watching.run())]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_driver_that_comes_is_known_to_node_and_cluster(
    root: Path, node: Node, api: StorageApi
) -> None:
    driver = FakeDriver(root)
    with pytest.raises(DriverNotFoundError) as error:
        await node.drivers.get(NAME)
    assert str(error.value) == f"driver name {NAME} not found in the list of registered CSI drivers"
    async with driver.serving():
        await driver.registered()
        assert await node.drivers.get(NAME) == Driver(NAME, driver.endpoint, (1, 0, 0))
        assert node.came.is_set()
        (entry,) = api.objects[CSI_NODE]["spec"]["drivers"]
        assert entry["nodeID"] == "node-1"
    await node.gone(NAME)
    await api.until(lambda: not api.objects[CSI_NODE]["spec"]["drivers"])


async def test_one_that_goes_while_it_is_taken_back_does_not_stay_in_the_cluster(
    root: Path, node: Node, info: NodeInfo, api: StorageApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, gone, taken_back = FakeDriver(root), asyncio.Event(), asyncio.Event()
    uninstall = info.uninstall

    async def held_up(name: str) -> None:
        taken_back.set()
        await gone.wait()
        await uninstall(name)

    async def refusing(status: object) -> Empty:
        raise RefusedError("INTERNAL", "no")

    monkeypatch.setattr(info, "uninstall", held_up)
    monkeypatch.setattr(driver, "_told", refusing)
    async with driver.serving():
        await taken_back.wait()
    await until(lambda: not node.sockets)
    gone.set()
    await api.until(lambda: not api.objects[CSI_NODE]["spec"]["drivers"])


async def test_a_driver_that_was_there_before_is_waited_for(root: Path, info: NodeInfo) -> None:
    driver = FakeDriver(root)
    async with driver.serving(), running(root, info) as node:
        assert (await node.drivers.get(NAME)).endpoint == driver.endpoint


async def test_a_driver_that_comes_back_is_registered_again(root: Path, node: Node, api: StorageApi) -> None:
    driver = FakeDriver(root)
    for times in (1, 2, 3):
        async with driver.serving():
            await driver.registered(times)
    await node.gone(NAME)


async def test_a_socket_that_is_replaced_is_another(root: Path, node: Node) -> None:
    old, new = FakeDriver(root), FakeDriver(root)
    new.endpoint = root / "new.sock"
    new.info.endpoint = str(new.endpoint)
    async with old.serving():
        await old.registered()
        old.socket.unlink()
        async with new.serving():
            await new.registered()
            found = node.drivers.known(NAME)
            assert found is not None
            assert found.endpoint == new.endpoint


async def test_directories_below_are_looked_at_too(root: Path, node: Node) -> None:
    driver = FakeDriver(root)
    driver.socket = root / "plugins_registry" / "a" / "b" / "reg.sock"
    async with driver.serving():
        await driver.registered()
    await node.gone(NAME)


async def test_the_directory_may_be_made_anew(root: Path, node: Node) -> None:
    driver = FakeDriver(root)
    async with driver.serving():
        await driver.registered()
    await node.gone(NAME)
    driver.socket.parent.rmdir()
    async with driver.serving():
        await driver.registered(2)


async def test_a_driver_without_an_endpoint_serves_where_it_registers(root: Path, node: Node) -> None:
    driver = FakeDriver(root)
    driver.endpoint, driver.info.endpoint = driver.socket, ""
    handlers = {GET_INFO: driver._who}
    driver.socket.parent.mkdir(parents=True, exist_ok=True)
    async with grpc_server(driver.socket, handlers):
        info = await call(driver.socket, GET_INFO, Empty(), timeout=10)
    assert accepted(info, driver.socket, None).endpoint == driver.socket


async def test_what_is_refused_is_told_and_tried_again(root: Path, node: Node, api: StorageApi) -> None:
    driver = FakeDriver(root)
    driver.node.node_id = ""
    async with driver.serving():
        await driver.until(lambda: driver.statuses)
        assert driver.statuses[0].error == (
            "RegisterPlugin error -- plugin registration failed with err: "
            "error adding CSI driver node info: driverNodeID must not be empty"
        )
        assert node.drivers.known(NAME) is None
        driver.node.node_id = "node-1"
        await driver.registered()
        assert node.drivers.known(NAME) is not None


async def test_a_cluster_that_cannot_be_told_delays_a_driver(root: Path, node: Node, api: StorageApi) -> None:
    driver = FakeDriver(root)
    api.failures = [500] * 4
    async with driver.serving():
        await driver.registered()
    assert [status.plugin_registered for status in driver.statuses] == [False, True]


async def test_a_plugin_that_hangs_holds_up_no_other(
    root: Path, info: NodeInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "INFO_TIMEOUT", 0.2)
    (root / "plugins_registry").mkdir()
    driver = FakeDriver(root)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(root / "plugins_registry" / "silent.sock"))
        silent.listen()
        async with running(root, info) as node, driver.serving():
            await driver.registered()
            await node.drivers.looked.wait()


async def test_a_plugin_that_cannot_be_told_is_not_registered(
    root: Path, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FakeDriver(root)
    told = driver._told
    refusals = [1, 2]

    async def refusing(status: object) -> Empty:
        if refusals:
            refusals.pop()
            raise RefusedError("INTERNAL", "no")
        return await told(status)  # type: ignore[arg-type]

    monkeypatch.setattr(driver, "_told", refusing)
    async with driver.serving():
        await driver.registered()
    assert not refusals


INVALID = (
    "RegisterPlugin error -- plugin validation failed with err: validation failed for CSI Driver d at "
    'endpoint /s: kubernetes.io/csi: ValidatePlugin for CSI driver "d" failed. '
)


def plugin(*versions: str) -> PluginInfo:
    return PluginInfo(type="CSIPlugin", name="d", supported_versions=list(versions))


@pytest.mark.parametrize(
    ("info", "known", "message"),
    [
        (
            PluginInfo(type="DevicePlugin", name="d"),
            None,
            "RegisterPlugin error -- no handler registered for plugin type: DevicePlugin at socket /s",
        ),
        (plugin(), None, f"{INVALID}Plugin returned an empty list for supported versions"),
        (
            plugin("0.3.0"),
            None,
            f'{INVALID}None of the versions specified ["0.3.0"] are supported. '
            "err=highest supported version reported is 0.3.0, must be v1.x",
        ),
        (
            plugin("1.0"),
            Driver("d", Path("/other"), (1, 0)),
            f"{INVALID}Another driver with the same name is already registered with a higher supported "
            'version: "1.0"',
        ),
    ],
)
def test_what_no_node_takes_is_refused(info: PluginInfo, known: Driver | None, message: str) -> None:
    with pytest.raises(RegistrationError) as error:
        accepted(info, Path("/s"), known)
    assert str(error.value) == message


def test_a_newer_driver_takes_the_place_of_an_older() -> None:
    info = PluginInfo(type="CSIPlugin", name="d", endpoint="/e", supported_versions=["1.5.0"])
    assert accepted(info, Path("/s"), Driver("d", Path("/o"), (1, 0))) == Driver("d", Path("/e"), (1, 5, 0))


def test_only_sockets_in_sight_count(root: Path) -> None:
    registry = root / "registry"
    assert look(registry) == ({registry}, {})
    (registry / ".hidden").mkdir()
    (registry / "file").touch()
    (registry / "link").symlink_to(root / "s")
    sockets = []
    for name in ("a.sock", ".b.sock", ".hidden/c.sock"):
        made = socket.socket(socket.AF_UNIX)
        made.bind(os.fspath(registry / name))
        sockets.append(made)
    directories, found = look(registry)
    assert directories == {registry}
    assert set(found) == {registry / "a.sock"}
    before = found[registry / "a.sock"]
    (registry / "a.sock").chmod(0o600)
    assert look(registry)[1][registry / "a.sock"] == before
    for made in sockets:
        made.close()
