"""A node's volumes with drivers of a test's own and an API server that has what they need."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
from fake_node import RoomyNode
from storage_api import STORAGE, StorageApi

from vkubelet.api.client import ApiClient
from vkubelet.api.credentials import Credentials
from vkubelet.api.objects import Pod
from vkubelet.api.references import NoReferences, ObjectReferences
from vkubelet.api.storage import PersistentVolume
from vkubelet.config import Config
from vkubelet.pods.volumes.csi.wanted import attachment_name, persistent
from vkubelet.pods.volumes.manager import VolumeManager


class AttachingNode(RoomyNode):
    """A node whose volumes are attached when the test says so. `in_use` is what it reports."""

    def __init__(self) -> None:
        self.in_use: frozenset[str] = frozenset()
        self.attaches = asyncio.Event()
        self.attaches.set()

    def use_volumes(self, names: frozenset[str]) -> None:
        self.in_use = names

    async def attached(self, name: str) -> None:
        assert name in self.in_use
        await self.attaches.wait()


@dataclasses.dataclass
class CsiNode:
    """One agent's volumes; `crash` and `another` are an agent's end and the next one's start."""

    root: Path
    api: StorageApi | None
    manager: VolumeManager
    node: AttachingNode
    events: list[str]
    available: asyncio.Event

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  files tell nobody of their change
                await asyncio.sleep(0.01)

    def target(self, uid: str, name: str = "v") -> Path:
        return self.root / "pods" / uid / "volumes" / "kubernetes.io~csi" / name / "mount"

    def claim(self, name: str = "c", pv: str = "pv", **source: Any) -> None:
        """A claim that is bound to a volume of the driver, which is attached."""
        assert self.api is not None
        csi = {"driver": "d.example.com", "volumeHandle": "h", **source.pop("csi", {})}
        claim = self.api.put(
            f"/api/v1/namespaces/ns/persistentvolumeclaims/{name}",
            spec={"volumeName": pv},
            status={"phase": "Bound"},
        )
        reference = {"uid": claim["metadata"]["uid"]}
        spec = {"claimRef": reference, "csi": csi, "accessModes": ["ReadWriteOnce"], **source}
        found = self.api.put(f"/api/v1/persistentvolumes/{pv}", spec=spec)
        wanted = persistent(msgspec.convert(found, PersistentVolume), "v", read_only=False)
        self.attachment = f"{STORAGE}/volumeattachments/{attachment_name(wanted, 'n')}"
        self.api.put(self.attachment, status={"attached": True, "attachmentMetadata": {"device": "x"}})


@contextlib.asynccontextmanager
async def csi_node(root: Path, api: StorageApi | None) -> AsyncIterator[CsiNode]:
    """An agent of the node whose directory is `root`."""
    events: list[str] = []

    class Recorder:
        def event(self, _ref: object, _type: str, reason: str, message: str) -> None:
            events.append(f"{reason}: {message}")

    client = ApiClient(Credentials(api.url), Path("/nowhere")) if api is not None else None
    node = AttachingNode()
    manager = VolumeManager(
        Config(root_dir=str(root), run_dir=str(root / "run"), node_name="n"),
        references=ObjectReferences(client) if client is not None else NoReferences(),
        client=client,
        recorder=cast("Any", Recorder()),
        node=node,
    )
    await asyncio.to_thread(manager._csi.open)
    manager.recover()
    task = asyncio.create_task(manager.run())
    await asyncio.sleep(0)
    try:
        yield CsiNode(root, api, manager, node, events, asyncio.Event())
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if client is not None:
            await client.close()


def pod(uid: str = "u", *volumes: dict[str, Any], **spec: Any) -> Pod:
    """A pod that mounts these volumes, or a claim named `c`."""
    wanted = list(volumes) or [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in wanted]
    document = {
        "metadata": {"name": f"p-{uid}", "namespace": "ns", "uid": uid},
        "spec": {
            "serviceAccountName": "robot",
            "containers": [{"name": "main", "volumeMounts": mounts}],
            "volumes": wanted,
            **spec,
        },
    }
    return msgspec.convert(document, Pod)


def inline(name: str = "v", **source: Any) -> dict[str, Any]:
    return {"name": name, "csi": {"driver": "d.example.com", **source}}
