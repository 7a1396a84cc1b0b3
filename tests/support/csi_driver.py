"""A storage driver in this process, over real sockets: it does as a driver should, or as the test says.

What it "mounts" is a directory with a file that tells which volume it is; a real driver would mount there.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from grpc_server import grpc_server

from vkubelet.csi.protocol import (
    GET_INFO,
    NODE_GET_CAPABILITIES,
    NODE_GET_INFO,
    NODE_PUBLISH,
    NODE_STAGE,
    NODE_UNPUBLISH,
    NODE_UNSTAGE,
    NOTIFY,
    STAGE_UNSTAGE_VOLUME,
    Empty,
    NodeGetCapabilitiesResponse,
    NodeGetInfoResponse,
    NodePublishVolumeRequest,
    NodeServiceCapability,
    NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest,
    NodeUnstageVolumeRequest,
    PluginInfo,
    RegistrationStatus,
    RpcCapability,
    Topology,
)
from vkubelet.rpc.messages import Message

NAME = "d.example.com"


class FakeDriver:
    """`root` is the node's directory, whose path must be short. `calls` are those about volumes."""

    def __init__(self, root: Path, name: str = NAME) -> None:
        self.name = name
        self.socket = root / "plugins_registry" / f"{name}-reg.sock"
        self.endpoint = root / "plugins" / name / "csi.sock"
        self.info = PluginInfo(
            type="CSIPlugin", name=name, endpoint=str(self.endpoint), supported_versions=["1.0.0"]
        )
        self.node = NodeGetInfoResponse(
            node_id="node-1", max_volumes_per_node=9, accessible_topology=Topology(segments={"zone": "a"})
        )
        self.can = {STAGE_UNSTAGE_VOLUME}
        self.calls: list[Message] = []
        self.statuses: list[RegistrationStatus] = []
        self.before: Callable[[Message], Awaitable[None]] = _nothing
        """Called before a volume's call is served: it may wait, or raise RefusedError."""
        self._changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The driver's process lives: it serves, and asks to be registered."""
        for path in (self.socket, self.endpoint):
            await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        node = {
            NODE_GET_INFO: self._get_info,
            NODE_GET_CAPABILITIES: self._capabilities,
            NODE_STAGE: self._stage,
            NODE_UNSTAGE: self._unstage,
            NODE_PUBLISH: self._publish,
            NODE_UNPUBLISH: self._unpublish,
        }
        async with (
            grpc_server(self.endpoint, node),
            grpc_server(self.socket, {GET_INFO: self._who, NOTIFY: self._told}),
        ):
            yield

    def names(self) -> list[str]:
        """What was asked, without the requests: `Stage`, `Publish` and so on."""
        return [type(call).__name__.removeprefix("Node").removesuffix("VolumeRequest") for call in self.calls]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def registered(self, times: int = 1) -> None:
        await self.until(lambda: sum(status.plugin_registered for status in self.statuses) >= times)

    async def _who(self, _: Empty) -> PluginInfo:
        return self.info

    async def _told(self, status: RegistrationStatus) -> Empty:
        self.statuses.append(status)
        self._changed.set()
        return Empty()

    async def _get_info(self, _: Empty) -> NodeGetInfoResponse:
        return self.node

    async def _capabilities(self, _: Empty) -> NodeGetCapabilitiesResponse:
        found = [NodeServiceCapability(rpc=RpcCapability(type=one)) for one in sorted(self.can)]
        return NodeGetCapabilitiesResponse(capabilities=[NodeServiceCapability(), *found])

    async def _stage(self, request: NodeStageVolumeRequest) -> Empty:
        await self._begin(request)
        await asyncio.to_thread(_show, Path(request.staging_target_path), request.volume_id)
        return Empty()

    async def _unstage(self, request: NodeUnstageVolumeRequest) -> Empty:
        await self._begin(request)
        await asyncio.to_thread(_hide, Path(request.staging_target_path))
        return Empty()

    async def _publish(self, request: NodePublishVolumeRequest) -> Empty:
        await self._begin(request)
        await asyncio.to_thread(_show, Path(request.target_path), request.volume_id)
        return Empty()

    async def _unpublish(self, request: NodeUnpublishVolumeRequest) -> Empty:
        await self._begin(request)
        await asyncio.to_thread(_hide, Path(request.target_path))
        return Empty()

    async def _begin(self, request: Message) -> None:
        self.calls.append(request)
        self._changed.set()
        await self.before(request)


def _show(where: Path, volume: str) -> None:
    where.mkdir(exist_ok=True)
    (where / "volume").write_text(volume)


def _hide(where: Path) -> None:
    shutil.rmtree(where, ignore_errors=True)


async def _nothing(request: Any) -> None:
    pass
