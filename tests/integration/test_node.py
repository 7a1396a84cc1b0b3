"""A node joins the real control plane: certificates, registration, lease, status, and coming back."""

from __future__ import annotations

import asyncio
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vkubelet.api.client import ApiClient, ApiError
from vkubelet.api.events import EventRecorder
from vkubelet.api.informer import PodInformer
from vkubelet.api.objects import ObjectReference, Pod
from vkubelet.api.times import parse
from vkubelet.config import Config
from vkubelet.node.certificates import CertificateError, ensure_client
from vkubelet.node.lease import LEASES
from vkubelet.node.node import Node, NodeImage, NodeNameTakenError, RegistrationError
from vkubelet.node.serving_certificate import ServingCertificate

pytestmark = pytest.mark.integration

Json = dict[str, Any]
NODES = "/api/v1/nodes"


@dataclass
class Joined:
    """One node in this process, and what a test may change of it."""

    config: Config
    client: ApiClient
    recorder: EventRecorder
    node: Node = field(init=False)
    why: str | None = None
    images: list[NodeImage] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"{NODES}/{self.config.node_name}"


@pytest.fixture
async def admin(cluster: Any) -> AsyncIterator[ApiClient]:
    client = await ApiClient.from_kubeconfig(cluster.kubeconfig)
    yield client
    await client.close()


async def make_node(cluster: Any, directory: Path, name: str, features: tuple[str, ...] = ()) -> Joined:
    """Bootstrap a node that is not registered yet."""
    config = Config(
        node_name=name,
        root_dir=str(directory),
        bootstrap_kubeconfig=str(cluster.bootstrap_kubeconfig),
        node_lease_duration_seconds=4,
        node_labels={"example.com/floor": "3"},
    )
    client = await ApiClient.from_kubeconfig(await ensure_client(config))
    recorder = EventRecorder(client, name, qps=0, burst=1)
    fresh = Joined(config, client, recorder)
    fresh.node = Node(
        config,
        client,
        recorder,
        port=lambda: 12345,
        images=lambda: fresh.images,
        ready=lambda: fresh.why,
        features=features,
    )
    return fresh


@pytest.fixture
async def join(cluster: Any, admin: ApiClient, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`join(name, directory)` bootstraps a node that is not registered yet; all are removed afterwards."""
    joined: list[Joined] = []

    async def one(name: str, directory: str = "one", features: tuple[str, ...] = ()) -> Joined:
        joined.append(await make_node(cluster, tmp_path / directory, name, features))
        return joined[-1]

    yield one
    for each in joined:
        await each.client.close()
        with suppress(ApiError):
            await admin.delete(each.path)


@asynccontextmanager
async def living(one: Joined) -> AsyncIterator[asyncio.Task[Any]]:
    """Register and run the node and its events for the time of the block."""
    await one.node.register()
    tasks = [asyncio.create_task(part) for part in (one.node.run(), one.recorder.run())]
    try:
        yield tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(
    admin: ApiClient, path: str, name: str, true: Callable[[Json], bool], selector: str = "metadata.name={}"
) -> Json:
    """Watch the object `name` under `path` until it is as wanted."""
    query = {"watch": "1", "fieldSelector": selector.format(name), "timeoutSeconds": "60"}
    async with asyncio.timeout(60), aclosing(admin.watch(path, query, idle_timeout=60)) as lines:
        async for line in lines:
            event: Json = json.loads(line)
            if event["type"] != "DELETED" and true(event["object"]):
                return event["object"]  # type: ignore[no-any-return]
    raise AssertionError(f"{path}/{name} did not become what was waited for")


async def get(client: ApiClient, path: str) -> Json:
    document: Json = json.loads(await client.get(path))
    return document


def condition(node: Json, kind: str) -> Json:
    return next((entry for entry in node["status"].get("conditions", ()) if entry["type"] == kind), {})


def unique() -> str:
    return f"wasm-{uuid.uuid4().hex[:8]}"


async def test_the_bootstrap_makes_us_the_node_and_nobody_else(join: Callable[..., Any]) -> None:
    name = unique()
    one = await join(name)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await one.client.post(
        "/apis/authentication.k8s.io/v1/selfsubjectreviews", json.dumps(review).encode()
    )
    user = json.loads(answer)["status"]["userInfo"]
    assert user["username"] == f"system:node:{name}"
    assert "system:nodes" in user["groups"]
    with pytest.raises(ApiError, match="403 Forbidden"):
        await one.client.get(NODES)
    with pytest.raises(ApiError, match="403 Forbidden"):
        await one.client.get("/api/v1/namespaces/default/secrets")


async def test_a_refused_bootstrap_token_is_told(cluster: Any, tmp_path: Path) -> None:
    text = cluster.bootstrap_kubeconfig.read_text()
    token = next(line.split()[-1] for line in text.splitlines() if "token:" in line)
    wrong = tmp_path / "wrong.kubeconfig"
    wrong.write_text(text.replace(token, "aaaaaa.bbbbbbbbbbbbbbbb"))
    config = Config(node_name=unique(), root_dir=str(tmp_path), bootstrap_kubeconfig=str(wrong))
    with pytest.raises(
        CertificateError, match=r"wrong\.kubeconfig: refused: its token may have expired: 401"
    ):
        await ensure_client(config)


async def test_registration_is_whole_and_passes_node_restriction(
    join: Callable[..., Any], admin: ApiClient
) -> None:
    one = await join(unique())
    one.images = [NodeImage(names=["example.com/hello@sha256:abc", "example.com/hello:v1"], size_bytes=42)]
    async with living(one):
        node = await until(
            admin, NODES, one.config.node_name, lambda node: condition(node, "Ready").get("status") == "True"
        )
    labels = node["metadata"]["labels"]
    assert labels["kubernetes.io/arch"] == labels["kubernetes.io/os"] == "wasm32-wasi"
    assert labels["kubernetes.io/hostname"] == one.config.node_name
    assert labels["vkubelet.dev/wasm32-wasip2"] == "true"
    assert labels["example.com/floor"] == "3"
    taints = {(taint["key"], taint.get("value"), taint["effect"]) for taint in node["spec"]["taints"]}
    assert taints >= {
        ("kubernetes.io/arch", "wasm32-wasi", "NoSchedule"),
        ("kubernetes.io/arch", "wasm32-wasi", "NoExecute"),
    }
    status = node["status"]
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 12345
    assert status["addresses"][0] == {"type": "InternalIP", "address": one.node.host_ip}
    assert status["images"] == [{"names": one.images[0].names, "sizeBytes": 42}]
    assert status["nodeInfo"]["containerRuntimeVersion"].startswith("wasmtime://")
    assert status["capacity"].keys() == {"cpu", "memory", "ephemeral-storage", "pods"}
    assert condition(node, "MemoryPressure")["reason"] == "KubeletHasSufficientMemory"


async def test_a_label_that_is_not_ours_to_set_is_refused_with_its_name(
    join: Callable[..., Any],
) -> None:
    one = await join(unique())
    forbidden = Config(
        node_name=one.config.node_name,
        root_dir=one.config.root_dir,
        node_labels={"node-role.kubernetes.io/control-plane": ""},
    )
    node = Node(forbidden, one.client, one.recorder, port=lambda: 1, images=list, ready=lambda: None)
    with pytest.raises(RegistrationError, match=r"403 Forbidden: .*node-role\.kubernetes\.io/control-plane"):
        await node.register()


async def test_the_lease_is_renewed_and_belongs_to_the_node(
    join: Callable[..., Any], admin: ApiClient
) -> None:
    one = await join(unique())
    name = one.config.node_name
    async with living(one):
        first = await until(admin, LEASES, name, lambda lease: True)
        began = parse(first["spec"]["renewTime"])
        later = await until(admin, LEASES, name, lambda lease: parse(lease["spec"]["renewTime"]) >= began + 2)
    assert later["spec"]["leaseDurationSeconds"] == 4
    assert later["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": name, "uid": one.node.uid}
    ]


async def test_a_deleted_lease_comes_back(join: Callable[..., Any], admin: ApiClient) -> None:
    one = await join(unique())
    name = one.config.node_name
    async with living(one):
        first = await until(admin, LEASES, name, lambda lease: True)
        await admin.delete(f"{LEASES}/{name}")
        await until(admin, LEASES, name, lambda lease: lease["metadata"]["uid"] != first["metadata"]["uid"])


async def test_a_change_of_readiness_is_reported_when_woken(
    join: Callable[..., Any], admin: ApiClient
) -> None:
    one = await join(unique())
    one.why = "the launcher is down"
    name = one.config.node_name
    async with living(one):
        node = await until(admin, NODES, name, lambda node: bool(condition(node, "Ready")))
        ready = condition(node, "Ready")
        assert (ready["status"], ready["reason"], ready["message"]) == (
            "False",
            "KubeletNotReady",
            "the launcher is down",
        )
        one.why = None
        one.node.wake()
        await until(admin, NODES, name, lambda node: condition(node, "Ready")["status"] == "True")
        events = "/api/v1/namespaces/default/events"
        selector = "involvedObject.name={},reason=NodeReady,source=kubelet"
        event = await until(admin, events, name, lambda event: True, selector)
        assert event["involvedObject"]["uid"] == one.node.uid


async def test_a_deleted_node_registers_again(join: Callable[..., Any], admin: ApiClient) -> None:
    one = await join(unique())
    name = one.config.node_name
    async with living(one):
        first = await until(admin, NODES, name, lambda node: condition(node, "Ready")["status"] == "True")
        await admin.delete(one.path)
        second = await until(
            admin,
            NODES,
            name,
            lambda node: (
                node["metadata"]["uid"] != first["metadata"]["uid"]
                and condition(node, "Ready")["status"] == "True"
            ),
        )
        uid = second["metadata"]["uid"]
        assert second["spec"]["taints"], "it is a new node, with its taints"
        await until(admin, LEASES, name, lambda lease: lease["metadata"]["ownerReferences"][0]["uid"] == uid)


async def test_only_one_live_agent_has_the_name(join: Callable[..., Any], admin: ApiClient) -> None:
    name = unique()
    first, second = await join(name, "one"), await join(name, "two")
    async with living(first) as running:
        await until(admin, LEASES, name, lambda lease: True)
        with pytest.raises(NodeNameTakenError, match=f"node name '{name}' is taken"):
            await second.node.register()
        assert not running.done(), "the first one does not notice"
        await first.node.mark_not_ready()
    node = await get(admin, first.path)
    assert condition(node, "Ready")["reason"] == "NodeShutdown"
    async with living(second):
        taken = await until(admin, NODES, name, lambda node: condition(node, "Ready")["status"] == "True")
    assert taken["metadata"]["uid"] == node["metadata"]["uid"], "the node stays, the agent is another"


async def test_an_agent_whose_node_was_taken_over_ends(join: Callable[..., Any], admin: ApiClient) -> None:
    name = unique()
    first, second = await join(name, "one"), await join(name, "two")
    async with living(first) as running:
        await until(admin, LEASES, name, lambda lease: True)
        # As if the first one had been asleep for longer than its lease.
        patch = {"metadata": {"annotations": {"vkubelet.dev/instance": "another"}}}
        await admin.patch(second.path, json.dumps(patch).encode())
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(running, 30)
    assert caught.group_contains(NodeNameTakenError, match="taken over by the agent of instance another")


async def test_taints_that_were_removed_stay_removed(join: Callable[..., Any], admin: ApiClient) -> None:
    one = await join(unique())
    await one.node.register()
    await admin.patch(one.path, json.dumps({"spec": {"taints": None}}).encode())
    await one.node.register()
    node = await get(admin, one.path)
    assert "kubernetes.io/arch" not in {taint["key"] for taint in node["spec"].get("taints", ())}


async def test_declared_features_come_and_go_with_the_agent(
    join: Callable[..., Any], admin: ApiClient
) -> None:
    name = unique()
    new = await join(name, features=("ExtendWebSocketsToKubelet",))
    await new.node.register()
    assert (await get(admin, new.path))["status"]["declaredFeatures"] == ["ExtendWebSocketsToKubelet"]
    old = await join(name)
    await old.node.register()
    assert "declaredFeatures" not in (await get(admin, old.path))["status"]


async def test_the_server_spells_what_we_send_as_we_do(join: Callable[..., Any]) -> None:
    one = await join(unique())
    await one.node.register()
    one.node._posted = None
    one.node._report_at = float("inf")
    await one.node._sync()
    # Not by the object's version: controllers write to a new node too.
    assert one.node._posted is None, "nothing differed, so nothing was sent"


async def test_the_serving_certificate_is_signed_by_the_cluster(join: Callable[..., Any]) -> None:
    one = await join(unique())
    serving = ServingCertificate(one.config, one.client, one.node.host_ip)
    context = await serving.context(ssl.CERT_OPTIONAL)
    assert one.client.ca_data is not None
    trusting = ssl.create_default_context(cadata=one.client.ca_data.decode())

    async def bye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def trusted(port: int, name: str) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=name)
        except ssl.SSLCertVerificationError:
            return False
        writer.close()
        return True

    server = await asyncio.start_server(bye, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    renewing = asyncio.create_task(serving.run(lambda _: None, lambda *_: None))
    try:
        async with server, asyncio.timeout(60):
            while not await trusted(port, one.config.node_name):  # noqa: ASYNC110  only a handshake can tell
                await asyncio.sleep(0.05)
            assert await trusted(port, one.node.host_ip)
            assert not await trusted(port, "elsewhere")
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing


async def test_an_outage_of_the_api_server_is_lived_through(own_cluster: Any, tmp_path: Path) -> None:
    one = await make_node(own_cluster, tmp_path / "node", "wasm-1")
    name = one.config.node_name
    seen: asyncio.Queue[Pod] = asyncio.Queue()
    informer = PodInformer(one.client, name, on_change=seen.put_nowait, on_delete=seen.put_nowait)
    following = asyncio.create_task(informer.run())
    pods = "/api/v1/namespaces/default/pods"

    def pod(name_: str) -> bytes:
        spec = {
            "nodeName": name,
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": "example.com/hello"}],
        }
        return json.dumps({"metadata": {"name": name_}, "spec": spec}).encode()

    async with living(one) as running, asyncio.timeout(120):
        admin = await ApiClient.from_kubeconfig(own_cluster.kubeconfig)
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        await until(admin, accounts, "default", lambda account: True)
        await admin.post(pods, pod("before"))
        assert (await seen.get()).metadata.name == "before"
        before = await until(admin, LEASES, name, lambda lease: True)
        await admin.close()

        await asyncio.to_thread(own_cluster.stop)
        one.why = "something happened meanwhile"
        one.node.wake()
        one.recorder.event(ObjectReference(kind="Node", name=name), "Warning", "Meanwhile", "an event")
        await asyncio.to_thread(own_cluster.start)

        admin = await ApiClient.from_kubeconfig(own_cluster.kubeconfig)
        assert admin.server == one.client.server
        await until(admin, NODES, name, lambda node: condition(node, "Ready").get("message") == one.why)
        later = parse(before["spec"]["renewTime"]) + 1
        await until(admin, LEASES, name, lambda lease: parse(lease["spec"]["renewTime"]) > later)
        await until(admin, "/api/v1/namespaces/default/events", "Meanwhile", lambda event: True, "reason={}")
        await admin.post(pods, pod("after"))
        while (await seen.get()).metadata.name != "after":
            pass
        assert not running.done()
        await admin.close()
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    await one.client.close()
