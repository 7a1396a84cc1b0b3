"""What the cluster is told of a storage driver on this node: the CSINode, and labels of the Node.

It exists because controllers and the scheduler find there who this node is for a driver, where it is in the
driver's topology and how many volumes it takes. The objects are a kubelet's, without its annotation about
in-tree drivers, of which this node has none. It must not know how a driver is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.objects import ObjectMeta
from vkubelet.api.struct import Struct
from vkubelet.csi.protocol import NodeGetInfoResponse

logger = logging.getLogger(__name__)

NODE_ID = "csi.volume.kubernetes.io/nodeid"
"""The node's annotation with its names for all drivers, as JSON."""
_CSI_NODES = "/apis/storage.k8s.io/v1/csinodes"
_TRIES = 4
_MOST = (1 << 31) - 1
"""The largest limit that the object can hold."""


class NodeInfoError(Exception):
    """The cluster could not be told; the text says why."""


class _Node(Struct):
    metadata: ObjectMeta


class NodeInfo:
    """One for the node. Use from one event loop."""

    def __init__(self, client: ApiClient, node_name: str) -> None:
        self._client = client
        self._name = node_name
        self._one_at_a_time = asyncio.Lock()

    async def install(self, driver: str, info: NodeGetInfoResponse) -> None:
        """Say that the driver is here. Raises NodeInfoError."""
        if not info.node_id:
            raise NodeInfoError("error adding CSI driver node info: driverNodeID must not be empty")
        topology = info.accessible_topology.segments if info.accessible_topology is not None else {}
        await self._surely(
            "error updating Node object with CSI driver node info",
            lambda: self._update_node(lambda meta: installed_patch(meta, driver, info.node_id, topology)),
        )
        await self._surely(
            "error updating CSINode object with CSI driver node info",
            lambda: self._update_csi_node(driver, csi_node_driver(driver, info)),
        )

    async def uninstall(self, driver: str) -> None:
        """Say that the driver is not here any more. Raises NodeInfoError."""
        await self._surely(
            "error uninstalling CSI driver from CSINode object",
            lambda: self._update_csi_node(driver, None),
        )
        await self._surely(
            "error removing CSI driver node info from Node object",
            lambda: self._update_node(lambda meta: uninstalled_patch(meta, driver)),
        )

    async def _surely(self, what: str, update: Callable[[], Awaitable[None]]) -> None:
        """Try a few times: others write these objects too."""
        pauses = Backoff(0.02, 1.0)
        for left in reversed(range(_TRIES)):
            try:
                async with self._one_at_a_time:
                    await update()
            except (ApiError, ApiUnavailableError, NodeInfoError, msgspec.DecodeError) as error:
                if not left:
                    raise NodeInfoError(f"{what}: {error}") from error
            else:
                return
            await asyncio.sleep(pauses.delay())

    async def _update_node(self, change: Callable[[ObjectMeta], dict[str, Any]]) -> None:
        patch = change((await self._node()).metadata)
        if patch:
            path = f"/api/v1/nodes/{self._name}/status"
            await self._client.patch(path, msgspec.json.encode({"metadata": patch}))

    async def _update_csi_node(self, driver: str, entry: dict[str, Any] | None) -> None:
        """Have exactly this entry for the driver in the CSINode."""
        path = f"{_CSI_NODES}/{self._name}"
        try:
            found: dict[str, Any] = msgspec.json.decode(await self._client.get(path))
        except ApiError as error:
            if error.status != 404:
                raise
            if entry is not None:
                new = new_csi_node(self._name, (await self._node()).metadata.uid)
                new["spec"]["drivers"] = [entry]
                await self._client.post(_CSI_NODES, msgspec.json.encode(new))
            return
        uid = (await self._node()).metadata.uid
        if not is_owned(found, self._name, uid):
            await self._client.delete(path)
            raise NodeInfoError(f"CSINode {self._name} was another node's of this name, and is deleted")
        changed = with_driver(found, driver, entry)
        if changed is not None:
            await self._client.put(path, msgspec.json.encode(changed))

    async def _node(self) -> _Node:
        return msgspec.json.decode(await self._client.get(f"/api/v1/nodes/{self._name}"), type=_Node)


def installed_patch(
    meta: ObjectMeta, driver: str, node_id: str, topology: Mapping[str, str]
) -> dict[str, Any]:
    """What the node's metadata lacks. Raises NodeInfoError if it contradicts the driver."""
    patch: dict[str, Any] = {}
    ids = _ids(meta)
    if ids.get(driver) != node_id:
        patch["annotations"] = {NODE_ID: _json({**ids, driver: node_id})}
    labels = meta.labels or {}
    for key, value in topology.items():
        if labels.get(key, value) != value:
            raise NodeInfoError(
                f'detected topology value collision: driver reported "{key}":"{value}" but existing label is '
                f'"{key}":"{labels[key]}"'
            )
    missing = {key: value for key, value in topology.items() if key not in labels}
    if missing:
        patch["labels"] = missing
    return patch


def uninstalled_patch(meta: ObjectMeta, driver: str) -> dict[str, Any]:
    """What takes the driver out of the node's metadata. Its topology stays: volumes may still be there."""
    ids = _ids(meta)
    if driver not in ids:
        return {}
    rest = {name: node_id for name, node_id in ids.items() if name != driver}
    return {"annotations": {NODE_ID: _json(rest) if rest else None}}


def csi_node_driver(driver: str, info: NodeGetInfoResponse) -> dict[str, Any]:
    """The driver's entry in the CSINode."""
    topology = info.accessible_topology.segments if info.accessible_topology is not None else {}
    entry: dict[str, Any] = {"name": driver, "nodeID": info.node_id, "topologyKeys": sorted(topology)}
    if info.max_volumes_per_node > 0:
        entry["allocatable"] = {"count": min(info.max_volumes_per_node, _MOST)}
    elif info.max_volumes_per_node < 0:
        logger.error("driver %s: a limit of %d volumes is none", driver, info.max_volumes_per_node)
    return entry


def new_csi_node(name: str, uid: str) -> dict[str, Any]:
    """A CSINode that goes with its node."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {"drivers": []},
    }


def is_owned(csi_node: Mapping[str, Any], name: str, uid: str) -> bool:
    """Whether it is of the node of this name and uid."""
    owners = csi_node["metadata"].get("ownerReferences") or ()
    return any(
        owner.get("kind") == "Node" and owner.get("name") == name and owner.get("uid") == uid
        for owner in owners
    )


def with_driver(
    csi_node: Mapping[str, Any], driver: str, entry: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The CSINode with exactly this entry for the driver; None if it is so already."""
    drivers = csi_node["spec"].get("drivers") or []
    present = [_comparable(one) for one in drivers if one["name"] == driver]
    if present == ([] if entry is None else [_comparable(entry)]):
        return None
    rest = [one for one in drivers if one["name"] != driver]
    return {
        **csi_node,
        "spec": {**csi_node["spec"], "drivers": rest if entry is None else [*rest, entry]},
    }


def _comparable(entry: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        entry["nodeID"],
        sorted(entry.get("topologyKeys") or ()),
        (entry.get("allocatable") or {}).get("count"),
    )


def _ids(meta: ObjectMeta) -> dict[str, str]:
    text = (meta.annotations or {}).get(NODE_ID, "")
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise NodeInfoError(
            f'failed to parse node\'s "{NODE_ID}" annotation value ("{text}") err={error}'
        ) from error


def _json(ids: Mapping[str, str]) -> str:
    return msgspec.json.encode(ids, order="sorted").decode()
