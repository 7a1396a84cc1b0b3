"""What the cluster is told of a driver: nothing of others' is lost, and nothing is told twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from storage_api import CSI_NODE, NODE, StorageApi, storage_api

from vkubelet.api.client import ApiClient
from vkubelet.api.credentials import Credentials
from vkubelet.api.objects import ObjectMeta
from vkubelet.csi.node_info import (
    NODE_ID,
    NodeInfo,
    NodeInfoError,
    csi_node_driver,
    installed_patch,
    uninstalled_patch,
    with_driver,
)
from vkubelet.csi.protocol import NodeGetInfoResponse, Topology

INFO = NodeGetInfoResponse(
    node_id="id-1", max_volumes_per_node=9, accessible_topology=Topology(segments={"z": "a", "r": "b"})
)
ENTRY = {"name": "d", "nodeID": "id-1", "topologyKeys": ["r", "z"], "allocatable": {"count": 9}}


@pytest.mark.parametrize(
    ("annotations", "labels", "patch"),
    [
        ({}, {}, {"annotations": {NODE_ID: '{"d":"id"}'}, "labels": {"z": "a"}}),
        ({NODE_ID: '{"e":"x"}'}, {"z": "a"}, {"annotations": {NODE_ID: '{"d":"id","e":"x"}'}}),
        ({NODE_ID: '{"d":"old"}'}, {"z": "a"}, {"annotations": {NODE_ID: '{"d":"id"}'}}),
        ({NODE_ID: '{"d":"id"}'}, {"z": "a", "y": "b"}, {}),
    ],
)
def test_the_node_gets_what_it_lacks(
    annotations: dict[str, str], labels: dict[str, str], patch: dict[str, Any]
) -> None:
    meta = ObjectMeta(annotations=annotations, labels=labels)
    assert installed_patch(meta, "d", "id", {"z": "a"}) == patch


def test_a_driver_that_contradicts_the_node_is_refused() -> None:
    with pytest.raises(NodeInfoError) as error:
        installed_patch(ObjectMeta(labels={"z": "b"}), "d", "id", {"z": "a"})
    assert str(error.value) == (
        'detected topology value collision: driver reported "z":"a" but existing label is "z":"b"'
    )


def test_an_annotation_that_is_no_json_is_told() -> None:
    with pytest.raises(NodeInfoError, match="failed to parse node's"):
        uninstalled_patch(ObjectMeta(annotations={NODE_ID: "{"}), "d")


@pytest.mark.parametrize(
    ("ids", "patch"),
    [
        ("", {}),
        ('{"e":"x"}', {}),
        ('{"d":"y","e":"x"}', {"annotations": {NODE_ID: '{"e":"x"}'}}),
        ('{"d":"y"}', {"annotations": {NODE_ID: None}}),
    ],
)
def test_the_node_loses_only_the_driver(ids: str, patch: dict[str, Any]) -> None:
    assert uninstalled_patch(ObjectMeta(annotations={NODE_ID: ids}), "d") == patch


@pytest.mark.parametrize(
    ("limit", "allocatable"), [(0, None), (5, {"count": 5}), (1 << 40, {"count": (1 << 31) - 1}), (-1, None)]
)
def test_a_limit_of_volumes_is_told_if_it_is_one(limit: int, allocatable: dict[str, int] | None) -> None:
    entry = csi_node_driver("d", NodeGetInfoResponse(node_id="id", max_volumes_per_node=limit))
    assert entry.get("allocatable") == allocatable
    assert entry["topologyKeys"] == []


def test_a_csi_node_keeps_what_is_not_ours() -> None:
    other = {"name": "e", "nodeID": "x", "topologyKeys": None}
    node = {"metadata": {"annotations": {"a": "b"}}, "spec": {"drivers": [other, {**ENTRY, "nodeID": "o"}]}}
    changed = with_driver(node, "d", ENTRY)
    assert changed == {"metadata": {"annotations": {"a": "b"}}, "spec": {"drivers": [other, ENTRY]}}
    assert with_driver(changed, "d", {**ENTRY, "topologyKeys": ["z", "r"]}) is None
    assert with_driver(changed, "d", None) == {**node, "spec": {"drivers": [other]}}
    assert with_driver(node, "f", None) is None


@pytest.fixture
async def api() -> AsyncIterator[StorageApi]:
    async with storage_api() as made:
        yield made


@pytest.fixture
async def node_info(api: StorageApi) -> AsyncIterator[NodeInfo]:
    client = ApiClient(Credentials(api.url), Path("/nowhere"))
    yield NodeInfo(client, "n")
    await client.close()


async def test_a_driver_comes_and_goes(api: StorageApi, node_info: NodeInfo) -> None:
    await node_info.install("d", INFO)
    assert api.objects[CSI_NODE]["spec"] == {"drivers": [ENTRY]}
    (owner,) = api.objects[CSI_NODE]["metadata"]["ownerReferences"]
    meta = api.objects[NODE]["metadata"]
    assert owner == {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": meta["uid"]}
    assert meta["annotations"] == {NODE_ID: '{"d":"id-1"}'}
    assert meta["labels"] == {"z": "a", "r": "b"}
    api.asked.clear()
    await node_info.install("d", INFO)
    assert all(asked.startswith("GET") for asked in api.asked)
    await node_info.uninstall("d")
    assert api.objects[CSI_NODE]["spec"] == {"drivers": []}
    assert meta["annotations"] == {}
    assert meta["labels"] == {"z": "a", "r": "b"}
    await node_info.uninstall("d")


async def test_failures_are_outlived_for_a_while(api: StorageApi, node_info: NodeInfo) -> None:
    api.failures = [500, 409]
    await node_info.install("d", INFO)
    assert api.objects[CSI_NODE]["spec"] == {"drivers": [ENTRY]}
    api.failures = [500] * 4
    with pytest.raises(NodeInfoError, match=r"error updating Node object .*: 500: not now"):
        await node_info.install("d", INFO)


async def test_a_former_nodes_object_is_replaced(api: StorageApi, node_info: NodeInfo) -> None:
    api.put(CSI_NODE, spec={"drivers": [ENTRY]})
    await node_info.install("d", NodeGetInfoResponse(node_id="id-2"))
    assert api.objects[CSI_NODE]["spec"] == {"drivers": [{"name": "d", "nodeID": "id-2", "topologyKeys": []}]}
    assert api.objects[CSI_NODE]["metadata"]["ownerReferences"]


async def test_a_driver_must_know_the_node(node_info: NodeInfo) -> None:
    with pytest.raises(NodeInfoError, match="driverNodeID must not be empty"):
        await node_info.install("d", NodeGetInfoResponse())


async def test_nothing_is_made_for_a_driver_that_goes(api: StorageApi, node_info: NodeInfo) -> None:
    await node_info.uninstall("d")
    assert CSI_NODE not in api.objects
