"""Environments from objects that come and go, with the real references over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from object_server import ObjectServer, object_server

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient
from vkubelet.api.configuration import Service, ServiceMeta, ServicePort, ServiceSpec
from vkubelet.api.containers import (
    Container,
    EnvFromSource,
    EnvFromTarget,
    EnvVar,
    EnvVarSource,
    FileKeySelector,
    KeySelector,
)
from vkubelet.api.credentials import Credentials
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.api.references import NoReferences, ObjectReferences
from vkubelet.pods.downward import ConfigValueError
from vkubelet.pods.sources import Environments, Place


class Services:
    """Knows these services, or none yet."""

    def __init__(self, *known: Service, read: bool = True) -> None:
        self._known = known
        self._read = read

    async def in_namespace(self, namespace: str, timeout: float) -> list[Service]:
        if not self._read:
            raise TimeoutError
        return [service for service in self._known if service.metadata.namespace == namespace]


def service(name: str, namespace: str) -> Service:
    spec = ServiceSpec(cluster_ip="10.1.1.1", ports=[ServicePort(port=443)])
    return Service(metadata=ServiceMeta(name=name, namespace=namespace), spec=spec)


def pod(**spec: object) -> Pod:
    meta = ObjectMeta(name="web", namespace="default", uid="u")
    return Pod(metadata=meta, spec=PodSpec(**spec))  # type: ignore[arg-type]


def place(volume: Path | None = None) -> Place:
    return Place("web", "10.0.0.9", {}, lambda _: volume)


WANTS_SETTINGS = Container(
    name="c",
    env_from=[EnvFromSource(config_map_ref=EnvFromTarget(name="settings"))],
    env=[
        EnvVar(name="PASSWORD", value_from=EnvVarSource(secret_key_ref=KeySelector(name="key", key="k"))),
    ],
)


class Called(asyncio.Event):
    """A start's promise of a call."""

    def __call__(self) -> None:
        self.set()

    async def once(self) -> None:
        async with asyncio.timeout(10):
            await self.wait()
        self.clear()


@pytest.fixture
async def server() -> AsyncIterator[ObjectServer]:
    async with object_server() as running:
        yield running


@pytest.fixture
async def environments(server: ObjectServer) -> AsyncIterator[Environments]:
    client = ApiClient(Credentials(server.url), Path("/nowhere"))
    references = ObjectReferences(client, backoff=lambda: Backoff(0.001, 0.01))
    task = asyncio.create_task(references.run())
    yield Environments(references, None)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await client.close()


async def test_what_is_there_is_read_at_each_start_and_not_watched(
    server: ObjectServer, environments: Environments
) -> None:
    called = Called()
    server.put("secrets", "key", data={"k": "YQ=="})
    for value in ("1", "2"):
        server.put("configmaps", "settings", data={"a": value})
        made = await environments.make(pod(), WANTS_SETTINGS, [], place(), called)
        assert made.declared == {"a": value, "PASSWORD": "a"}
    assert sorted(server.asked) == ["get key"] * 2 + ["get settings"] * 2
    assert not called.is_set()


async def test_who_waits_is_called_for_each_step_until_all_is_there(
    server: ObjectServer, environments: Environments
) -> None:
    called = Called()
    with pytest.raises(ConfigValueError, match=r'^configmap "settings" not found$'):
        await environments.make(pod(), WANTS_SETTINGS, [], place(), called)
    server.put("configmaps", "settings", data={"a": "1"})
    await called.once()
    with pytest.raises(ConfigValueError, match=r'^secret "key" not found$'):
        await environments.make(pod(), WANTS_SETTINGS, [], place(), called)
    server.put("secrets", "key", data={"other": "YQ=="})
    await called.once()
    with pytest.raises(ConfigValueError, match=r"^couldn't find key k in Secret default/key$"):
        await environments.make(pod(), WANTS_SETTINGS, [], place(), called)
    server.put("secrets", "key", data={"k": "YQ=="})
    await called.once()
    made = await environments.make(pod(), WANTS_SETTINGS, [], place(), called)
    assert made.declared == {"a": "1", "PASSWORD": "a"}
    await server.unwatched("configmaps", "settings")
    await server.unwatched("secrets", "key")
    assert server.asked.count("list settings") == 1


async def test_a_pod_that_ended_waits_for_nothing(server: ObjectServer, environments: Environments) -> None:
    called = Called()
    waiting = pod(containers=[WANTS_SETTINGS])
    with pytest.raises(ConfigValueError):
        await environments.make(waiting, WANTS_SETTINGS, [], place(), called)
    await server.watched("configmaps", "settings")
    environments.forget(waiting)
    await server.unwatched("configmaps", "settings")


async def test_services_are_told_of_as_the_pod_wants_it() -> None:
    known = Services(service("kubernetes", "default"), service("db", "default"))
    environments = Environments(NoReferences(), known)
    plain = Container(name="c", env=[EnvVar(name="API", value="$(KUBERNETES_SERVICE_HOST)")])
    made = await environments.make(pod(), plain, [], place(), Called())
    assert made.declared["DB_SERVICE_PORT"] == "443"
    assert made.declared["API"] == "10.1.1.1"
    made = await environments.make(pod(enable_service_links=False), plain, [], place(), Called())
    assert "DB_SERVICE_PORT" not in made.declared
    assert made.declared["API"] == "10.1.1.1"


async def test_without_services_only_a_static_pod_starts() -> None:
    environments = Environments(NoReferences(), Services(read=False))
    plain = Container(name="c")
    with pytest.raises(ConfigValueError, match=r"^services have not yet been read at least once"):
        await environments.make(pod(), plain, [], place(), Called())
    static = pod()
    static.metadata.annotations = {"kubernetes.io/config.source": "file"}
    assert (await environments.make(static, plain, [], place(), Called())).declared == {}


async def test_a_node_by_itself_has_no_objects() -> None:
    environments = Environments(NoReferences(), None)
    with pytest.raises(ConfigValueError, match=r"^couldn't get configMap default/settings, no kubeClient"):
        await environments.make(pod(), WANTS_SETTINGS, [], place(), Called())


async def test_a_variable_from_a_file_of_a_volume(tmp_path: Path) -> None:
    environments = Environments(NoReferences(), None)
    source = EnvVarSource(file_key_ref=FileKeySelector(volume_name="v", path="a.env", key="K"))
    container = Container(name="c", env=[EnvVar(name="V", value_from=source)])
    with pytest.raises(ConfigValueError, match=r'^cannot find the volume "v" referenced by FileKeyRef$'):
        await environments.make(pod(), container, [], place(), Called())
    with pytest.raises(ConfigValueError, match=r"^couldn't parse env file: a\.env: No such file"):
        await environments.make(pod(), container, [], place(tmp_path), Called())
    (tmp_path / "a.env").write_text("K='x'\n")
    made = await environments.make(pod(), container, [], place(tmp_path), Called())
    assert made.declared == {"V": "x"}
