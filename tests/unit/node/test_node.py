"""Registration and reports, against an API server that keeps what it is given."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from vkubelet.api.client import ApiClient
from vkubelet.api.events import EventRecorder
from vkubelet.api.objects import ObjectMeta
from vkubelet.config import Config
from vkubelet.node.node import Node, NodeNameTakenError, RegistrationError
from vkubelet.node.status import INSTANCE, NodeObject

Store = Any
PATH = "/api/v1/nodes/wasm-1"


class Fakes:
    port = 10250
    why: str | None = None


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
def make(config: Config, client: ApiClient, fakes: Fakes) -> Callable[[], Node]:
    def build() -> Node:
        recorder = EventRecorder(client, config.node_name, qps=0, burst=1)
        return Node(
            config,
            client,
            recorder,
            port=lambda: fakes.port,
            images=list,
            ready=lambda: fakes.why,
        )

    return build


async def test_a_new_node_is_created_whole(store: Store, make: Callable[[], Node]) -> None:
    node = make()
    await node.register()
    created = store.objects[PATH]
    assert created["metadata"]["labels"]["kubernetes.io/arch"] == "wasm32-wasi"
    assert len(created["spec"]["taints"]) == 2
    assert created["status"]["conditions"][-1]["status"] == "True"
    assert created["status"]["addresses"][0]["address"] == node.host_ip
    assert node.uid == created["metadata"]["uid"]


async def test_our_own_node_is_adopted_with_labels_and_without_taints(
    store: Store, make: Callable[[], Node]
) -> None:
    await make().register()
    kept = store.objects[PATH]
    kept["spec"]["taints"] = []
    kept["metadata"]["labels"] = {"theirs": "x"}
    store.requests.clear()
    await make().register()
    assert store.objects[PATH]["spec"]["taints"] == []
    assert store.objects[PATH]["metadata"]["labels"]["theirs"] == "x"
    assert store.objects[PATH]["metadata"]["labels"]["kubernetes.io/os"] == "wasm32-wasi"
    assert [verb for verb, _, _ in store.requests] == ["POST", "GET", "PATCH"]


async def test_taking_over_guards_against_another_that_does_the_same(
    store: Store, make: Callable[[], Node]
) -> None:
    await make().register()
    version = store.objects[PATH]["metadata"]["resourceVersion"]
    store.requests.clear()
    await make().register()
    assert store.of("PATCH")[0]["metadata"]["resourceVersion"] == version


async def test_faults_are_waited_out(store: Store, make: Callable[[], Node]) -> None:
    store.faults += [500, 429, 503]
    await make().register()
    assert PATH in store.objects


@pytest.mark.parametrize("code", [401, 403, 422])
async def test_a_refusal_is_told_at_once(store: Store, make: Callable[[], Node], code: int) -> None:
    store.faults.append(code)
    with pytest.raises(RegistrationError, match=f"node 'wasm-1' not registered: {code}"):
        await make().register()
    assert len(store.requests) == 1


async def test_stopping_is_reported_once_and_stays(store: Store, make: Callable[[], Node]) -> None:
    node = make()
    await node.register()
    await node.mark_not_ready()
    ready = store.objects[PATH]["status"]["conditions"][-1]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "NodeShutdown")
    store.requests.clear()
    await node.mark_not_ready()
    assert store.requests == [], "nothing changed"


async def test_stopping_survives_an_api_server_that_is_away(
    store: Store, make: Callable[[], Node], caplog: pytest.LogCaptureFixture
) -> None:
    node = make()
    await node.register()
    store.faults.append(500)
    await node.mark_not_ready()
    assert "not reported as not ready: 500" in caplog.text


async def test_only_the_difference_is_sent(store: Store, make: Callable[[], Node], fakes: Fakes) -> None:
    node = make()
    await node.register()
    fakes.port = 10255
    fakes.why = "the launcher is down"
    store.requests.clear()
    await node._sync()
    (patch,) = store.of("PATCH")
    assert patch.keys() == {"status"}
    assert patch["status"].keys() == {"daemonEndpoints", "conditions"}
    assert store.objects[PATH]["status"]["conditions"][-1]["message"] == "the launcher is down"
    store.requests.clear()
    await node._sync()
    assert store.requests == []


async def test_another_agent_on_our_node_ends_us(store: Store, make: Callable[[], Node]) -> None:
    node = make()
    await node.register()
    seen = NodeObject(
        metadata=ObjectMeta(name="wasm-1", uid=node.uid, resource_version="99", annotations={INSTANCE: "x"})
    )
    with pytest.raises(NodeNameTakenError, match="taken over by the agent of instance x"):
        node._changed(seen)


async def test_an_older_version_is_not_taken_for_news(store: Store, make: Callable[[], Node]) -> None:
    node = make()
    await node.register()
    store.put(PATH, store.objects[PATH])
    await node.register()
    stale = NodeObject(metadata=ObjectMeta(name="wasm-1", uid="old", resource_version="1"))
    node._changed(stale)
    assert node.uid != "old"
    node._deleted(stale)
    assert not node._gone, "a former object's deletion is no news either"


async def test_lost_annotation_and_labels_are_put_back(store: Store, make: Callable[[], Node]) -> None:
    node = make()
    await node.register()
    kept = store.objects[PATH]
    kept["metadata"]["labels"].pop("kubernetes.io/arch")
    kept["metadata"]["annotations"].clear()
    store.put(PATH, kept)
    metadata = ObjectMeta(name="wasm-1", uid=node.uid, resource_version=str(store.version), labels={"a": "b"})
    node._changed(NodeObject(metadata=metadata))
    await asyncio.wait_for(node._sync(), 10)
    assert store.objects[PATH]["metadata"]["labels"]["kubernetes.io/arch"] == "wasm32-wasi"
    assert INSTANCE in store.objects[PATH]["metadata"]["annotations"]


async def test_pressure_is_shown_for_as_long_as_it_is_told(store: Store, make: Callable[[], Node]) -> None:
    node = make()
    node.press(frozenset({"MemoryPressure"}))
    await node.register()
    assert _pressure(store) == "True"
    node.press(frozenset())
    await node.mark_not_ready()  # which reports whatever else is new
    assert _pressure(store) == "False"


def _pressure(store: Store) -> str:
    conditions = store.objects[PATH]["status"]["conditions"]
    return str(next(item["status"] for item in conditions if item["type"] == "MemoryPressure"))


async def test_a_volume_is_reported_as_in_use_and_waited_for_until_it_is_attached(
    store: Store, make: Callable[[], Node]
) -> None:
    node = make()
    await node.register()
    node.use_volumes(frozenset({"kubernetes.io/csi/d^h"}))
    waiting = asyncio.create_task(node.attached("kubernetes.io/csi/d^h"))
    await node._sync()
    assert store.objects[PATH]["status"]["volumesInUse"] == ["kubernetes.io/csi/d^h"]
    await asyncio.sleep(0)
    assert not waiting.done()
    shown = store.objects[PATH]
    shown["status"]["volumesAttached"] = [{"name": "kubernetes.io/csi/d^h", "devicePath": ""}]
    store.put(PATH, shown)
    node._changed(msgspec.convert(store.objects[PATH], NodeObject))
    await asyncio.wait_for(waiting, 10)
    node.use_volumes(frozenset())
    await node._sync()
    assert not store.objects[PATH]["status"].get("volumesInUse")


async def test_what_the_host_lacks_is_told_until_it_does_not(
    store: Store, make: Callable[[], Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, told = make(), []
    monkeypatch.setattr(node, "event", lambda *event: told.append(event))
    node.limited("no cgroups: read-only", {"seccomp": "", "landlock": "Operation not supported"})
    await node.register()
    annotations = store.objects[PATH]["metadata"]["annotations"]
    assert annotations["vkubelet.dev/limited"] == "no cgroups: read-only"
    assert annotations["vkubelet.dev/sandbox"] == "seccomp"
    running = asyncio.create_task(node.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert told == [
        ("Normal", "Starting", "Starting kubelet."),
        (
            "Warning",
            "LimitedHost",
            "some limits of pods are not enforced on this host: no cgroups: read-only",
        ),
    ]
    await make().register()
    assert store.objects[PATH]["metadata"]["annotations"].get("vkubelet.dev/limited") is None


async def test_what_another_node_of_the_name_had_is_not_this_ones(
    store: Store, make: Callable[[], Node]
) -> None:
    await make().register()
    kept = store.objects[PATH]["status"]
    for field in ("capacity", "allocatable"):
        kept[field]["example.com/widget"] = "4"
    await make().register()
    assert store.objects[PATH]["status"]["capacity"]["example.com/widget"] == "4"
    node = make()
    node.recreated()
    await node.register()
    shown = store.objects[PATH]["status"]
    assert (shown["capacity"]["example.com/widget"], shown["allocatable"]["example.com/widget"]) == ("0", "0")
    assert node.view().allocatable["example.com/widget"] == 0


async def test_devices_of_plugins_are_the_nodes_and_fit(store: Store, make: Callable[[], Node]) -> None:
    node = make()
    await node.prepare()
    node.offer({"example.com/widget": 3}, {"example.com/widget": 2})
    await node.register()
    status = store.objects[PATH]["status"]
    assert (status["capacity"]["example.com/widget"], status["allocatable"]["example.com/widget"]) == (
        "3",
        "2",
    )
    assert node.view().allocatable["example.com/widget"] == 2
    node.offer({"example.com/widget": 3}, {"example.com/widget": 0})
    # What the API server still shows is not what is here.
    assert node.view().allocatable["example.com/widget"] == 0
    await node.mark_not_ready()
    assert store.objects[PATH]["status"]["allocatable"]["example.com/widget"] == "0"
