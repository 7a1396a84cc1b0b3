"""The node object and its patches."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.objects import ObjectMeta
from vkubelet.config import Config, Taint
from vkubelet.node import quantity, status
from vkubelet.node.conditions import conditions
from vkubelet.node.facts import Facts, Resources
from vkubelet.node.status import NodeImage, NodeObject, NodeStatus, Posted
from vkubelet.node.view import node_view

NOW = 1_700_000_000.0
CONFIG = Config(node_name="wasm-1", node_labels={"zone": "a"})
FACTS = Facts(
    capacity=Resources(millicores=1500, memory=2048 * 1024, storage=5000 * 1024, pods=1000),
    allocatable=Resources(millicores=1000, memory=1024 * 1024 + 1, storage=4500 * 1024, pods=1000),
    machine_id="m",
    system_uuid="s",
    boot_id="b",
    kernel_version="6.1",
    os_image="Debian",
    container_runtime_version="wasmtime://50.0.1",
    kubelet_version="v1.37.2-vkubelet.0.1.0",
    operating_system="linux",
    architecture="wasm-wasi",
)


def make(now: float = NOW, facts: Facts = FACTS, **changed: Any) -> NodeStatus:
    arguments: dict[str, Any] = {
        "host_ip": "10.0.0.1",
        "port": 10250,
        "conditions": conditions(conditions((), (), None, NOW), (), None, now),
        "images": (),
        "features": (),
    }
    return status.node_status(CONFIG, facts, **{**arguments, **changed})


def test_the_new_node_has_labels_taints_annotation_and_status() -> None:
    parts = {"no-new-privs": "", "landlock": "not supported", "seccomp": ""}
    node = status.new_node(CONFIG, make(), status.own_annotations("instance-1", "no cgroups", parts))
    assert node["metadata"] == {
        "name": "wasm-1",
        "labels": {
            "kubernetes.io/arch": "wasm32-wasi",
            "kubernetes.io/os": "wasm32-wasi",
            "kubernetes.io/hostname": "wasm-1",
            "beta.kubernetes.io/arch": "wasm32-wasi",
            "beta.kubernetes.io/os": "wasm32-wasi",
            "type": "vkubelet",
            "vkubelet.dev/wasm32-wasip1": "true",
            "vkubelet.dev/wasm32-wasip2": "true",
            "zone": "a",
        },
        "annotations": {
            "vkubelet.dev/instance": "instance-1",
            "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            "vkubelet.dev/limited": "no cgroups",
            "vkubelet.dev/sandbox": "no-new-privs,seccomp",
        },
    }
    assert node["spec"]["taints"] == [
        {"key": "kubernetes.io/arch", "value": "wasm32-wasi", "effect": "NoSchedule"},
        {"key": "kubernetes.io/arch", "value": "wasm32-wasi", "effect": "NoExecute"},
    ]
    assert node["status"]["capacity"] == {
        "cpu": "1500m",
        "memory": "2Mi",
        "ephemeral-storage": "5000Ki",
        "pods": "1k",
    }
    assert node["status"]["allocatable"]["memory"] == "1Mi"
    assert node["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    assert node["status"]["addresses"] == [
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "Hostname", "address": "wasm-1"},
    ]


def test_configured_taints_replace_the_wasm_ones() -> None:
    config = Config(node_name="n", register_with_taints=(Taint(key="k", effect="NoSchedule"),))
    assert status.new_node(config, make(), {})["spec"] == {"taints": [{"key": "k", "effect": "NoSchedule"}]}
    assert status.new_node(Config(node_name="n", register_with_taints=()), make(), {})["spec"] == {}


def test_the_largest_images_are_shown_with_a_few_names() -> None:
    images = [NodeImage(names=[f"i{size}@sha256:x", *"abcdef"], size_bytes=size) for size in range(60)]
    shown = make(images=images).images
    assert shown is not None
    assert [image.size_bytes for image in shown] == list(range(59, 9, -1))
    assert {len(image.names or ()) for image in shown} == {5}


def test_declared_features_are_sorted_and_unique() -> None:
    assert make(features=["b", "a", "b"]).declared_features == ["a", "b"]


def test_nothing_changed_is_no_patch_and_heartbeats_are_no_change() -> None:
    assert status.status_patch(make(NOW + 50), make(), None, due=False) == {}


def test_a_due_report_sends_the_conditions_alone() -> None:
    patch = status.status_patch(make(NOW + 50), make(), None, due=True)
    assert patch.keys() == {"conditions"}
    assert {entry["lastHeartbeatTime"] for entry in patch["conditions"]} == {"2023-11-14T22:14:10Z"}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"port": 10251}, "daemonEndpoints"),
        ({"images": [NodeImage(names=["a"], size_bytes=1)]}, "images"),
        ({"features": ["ExtendWebSocketsToKubelet"]}, "declaredFeatures"),
        ({"host_ip": "10.0.0.2"}, "addresses"),
    ],
)
def test_a_patch_has_what_changed_and_the_heartbeat(changed: dict[str, Any], field: str) -> None:
    assert status.status_patch(make(**changed), make(), None, due=False).keys() == {field, "conditions"}
    back = status.status_patch(make(), make(**changed), None, due=False)
    assert back.keys() == {field, "conditions"}, "and what is no more is sent as empty"


def test_addresses_replace_each_other() -> None:
    patch = status.status_patch(make(host_ip="10.0.0.2"), make(), None, due=False)
    assert patch["addresses"][-1] == {"$patch": "replace"}


def test_what_others_wrote_is_left_alone() -> None:
    shown = msgspec.to_builtins(make())
    shown["capacity"]["example.com/gpu"] = shown["allocatable"]["example.com/gpu"] = "4"
    shown["conditions"].append({"type": "NetworkUnavailable", "status": "False"})
    shown["nodeInfo"]["swap"] = {"capacity": 1}
    assert status.status_patch(make(), msgspec.convert(shown, NodeStatus), None, due=False) == {}


def test_capacity_that_others_gave_can_be_allocated() -> None:
    shown = msgspec.to_builtins(make())
    shown["capacity"] |= {"example.com/new": "4", "example.com/more": "2", "hugepages-2Mi": "0"}
    shown["allocatable"] |= {"example.com/more": "1", "example.com/gone": "3"}
    patch = status.status_patch(make(), msgspec.convert(shown, NodeStatus), None, due=False)
    assert patch["allocatable"] == {"example.com/new": "4", "example.com/more": "2", "example.com/gone": None}
    assert patch.keys() == {"allocatable", "conditions"}


def test_configured_resources_are_the_nodes_own() -> None:
    own = replace(FACTS, capacity=replace(FACTS.capacity, extended={"example.com/widget": 4}))
    own = replace(own, allocatable=own.capacity)
    wanted = make(facts=own)
    assert (wanted.capacity or {})["example.com/widget"] == "4"
    patch = status.status_patch(wanted, make(), None, due=False)
    assert patch["capacity"]["example.com/widget"] == "4"
    changed = msgspec.to_builtins(wanted)
    changed["allocatable"]["example.com/widget"] = "3"
    patch = status.status_patch(wanted, msgspec.convert(changed, NodeStatus), None, due=False)
    assert patch["allocatable"]["example.com/widget"] == "4"


def test_admission_sees_what_others_gave() -> None:
    config = Config(node_name="n", node_labels={"zone": "a"})
    unseen = node_view(config, FACTS, None)
    assert unseen.labels["zone"] == "a"
    assert unseen.taints == config.register_with_taints
    assert unseen.allocatable == {
        "cpu": FACTS.allocatable.millicores,
        "memory": FACTS.allocatable.memory,
        "ephemeral-storage": FACTS.allocatable.storage,
        "pods": FACTS.allocatable.pods,
    }
    node = NodeObject(metadata=ObjectMeta(labels={"zone": "b"}))
    node.spec.taints = [status.Taint(key="k", effect="NoExecute", time_added="2026-01-01T00:00:00Z")]
    node.status.allocatable = {"example.com/gpu": "1k", "memory": "1"}
    seen = node_view(
        config, replace(FACTS, allocatable=replace(FACTS.allocatable, extended={"example.com/own": 2})), node
    )
    assert seen.labels == {"zone": "b"}
    assert seen.taints == (Taint(key="k", effect="NoExecute"),)
    assert seen.allocatable["memory"] == FACTS.allocatable.memory
    assert seen.allocatable["example.com/gpu"] == 1000
    assert seen.allocatable["example.com/own"] == 2


def test_a_field_that_the_server_drops_is_sent_once() -> None:
    wanted, shown = make(features=["X"]), make()
    assert "declaredFeatures" in status.status_patch(wanted, shown, None, due=False)
    own = status.own_resources(wanted)
    posted = Posted(status.comparable(wanted, own), status.comparable(shown, own))
    assert status.status_patch(wanted, shown, posted, due=False) == {}
    assert "declaredFeatures" in status.status_patch(make(features=["Y"]), shown, posted, due=False)
    somebody = make(features=["X"], port=1)
    assert "daemonEndpoints" in status.status_patch(wanted, somebody, posted, due=False)


def test_metadata_of_an_existing_node() -> None:
    wanted, mine = {"a": "1", "b": "2"}, status.own_annotations("me", "", {"seccomp": "not here"})
    there = {"vkubelet.dev/instance": "me", status.ATTACHING: "true", "theirs": "x"}
    found = ObjectMeta(labels={"a": "1", "theirs": "x"}, annotations=there)
    assert status.metadata_patch(wanted, mine, found) == {"labels": {"b": "2"}}
    found.labels = wanted
    assert status.metadata_patch(wanted, mine, found) == {}
    limited = status.own_annotations("you", "no cgroups", {})
    assert status.metadata_patch(wanted, limited, found) == {
        "annotations": {"vkubelet.dev/instance": "you", "vkubelet.dev/limited": "no cgroups"}
    }
    found.annotations = {**there, "vkubelet.dev/limited": "no cgroups"}
    assert status.metadata_patch(wanted, mine, found) == {"annotations": {"vkubelet.dev/limited": None}}


def test_status_is_a_function_of_its_arguments() -> None:
    facts = replace(FACTS)
    images = [NodeImage(names=["b"], size_bytes=1), NodeImage(names=["a"], size_bytes=1)]
    one, two = make(images=images), make(images=reversed(images))
    assert one == two
    assert facts == FACTS
    assert [image.names for image in images] == [["b"], ["a"]], "its arguments stay what they were"


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (1023, "0"), (1024, "1Ki"), (1024**2, "1Mi"), (1025 * 1024, "1025Ki"), (3 * 1024**4, "3Ti")],
)
def test_binary_quantities(amount: int, text: str) -> None:
    assert quantity.binary(amount) == text


@pytest.mark.parametrize(
    ("thousandths", "text"),
    [(0, "0"), (1500, "1500m"), (2000, "2"), (110_000, "110"), (1_000_000, "1k"), (250, "250m")],
)
def test_decimal_quantities(thousandths: int, text: str) -> None:
    assert quantity.decimal(thousandths) == text


@given(st.integers(0, 2**60))
def test_quantities_never_promise_more(amount: int) -> None:
    text = quantity.binary(amount)
    number = int(text.rstrip("KMGTPEi"))
    unit = text.lstrip("0123456789")
    value = number * 1024 ** ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].index(unit)
    assert amount - 1024 < value <= amount


def test_a_volume_is_attached_once_the_cluster_says_so_and_knows_that_it_is_in_use() -> None:
    def shown(in_use: list[str], attached: list[str]) -> status.ShownStatus:
        volumes = [status.AttachedVolume(name=name) for name in attached]
        return status.ShownStatus(volumes_in_use=in_use, volumes_attached=volumes)

    assert status.is_attached(shown(["v", "w"], ["v"]), "v")
    assert not status.is_attached(shown(["v", "w"], ["v"]), "w")
    assert not status.is_attached(shown([], ["v"]), "v")
    assert not status.is_attached(status.ShownStatus(), "v")
