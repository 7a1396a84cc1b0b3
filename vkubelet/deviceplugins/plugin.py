"""One device plugin: every call to it, each with a deadline, and the stream that tells of its devices.

It exists because a plugin is a stranger's process: it may hang, die or answer nonsense, and each of these is
to be a failure with a text. It must not know what is done with the answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from vkubelet.deviceplugins.messages import (
    ALLOCATE,
    GET_OPTIONS,
    GET_PREFERRED_ALLOCATION,
    LIST_AND_WATCH,
    PRE_START_CONTAINER,
    AllocateRequest,
    ContainerAllocateRequest,
    ContainerAllocateResponse,
    ContainerPreferredAllocationRequest,
    DevicePluginOptions,
    Empty,
    ListAndWatchResponse,
    PreferredAllocationRequest,
    PreStartContainerRequest,
)
from vkubelet.pods.devices import DeviceError
from vkubelet.rpc.client import RpcError, call, library, plugin_channel, rpc_error
from vkubelet.rpc.messages import DecodeError, decode, encode

CONNECT_TIMEOUT = 10.0
PRE_START_TIMEOUT = 30.0
"""Both are the kubelet's."""
ALLOCATE_TIMEOUT = 60.0
"""Where a kubelet waits for ever; for what a plugin is asked while a pod is admitted."""


class DevicePlugin:
    """A plugin that listens at `socket`."""

    def __init__(self, resource: str, socket: Path) -> None:
        self.resource = resource
        self.socket = socket
        self.options = DevicePluginOptions()

    async def connect(self) -> None:
        """Find out what calls it wants. Raises DeviceError."""
        aio = await library()
        deadline = asyncio.get_running_loop().time() + CONNECT_TIMEOUT
        try:
            # A plugin may register a moment before it listens.
            async with plugin_channel(aio, self.socket) as channel, asyncio.timeout_at(deadline):
                await channel.channel_ready()
        except TimeoutError:
            raise DeviceError("failed to dial device plugin: context deadline exceeded") from None
        except RpcError as error:
            raise DeviceError(f"failed to dial device plugin: {error}") from error
        try:
            self.options = await call(self.socket, GET_OPTIONS, Empty(), timeout=CONNECT_TIMEOUT)
        except RpcError as error:
            raise DeviceError(f"failed to get device plugin options: {error}") from error

    async def watch(self) -> AsyncIterator[ListAndWatchResponse]:
        """All its devices, again with each change, until it is gone, which raises RpcError if it says how."""
        aio = await library()
        async with plugin_channel(aio, self.socket) as channel:
            try:
                async for data in channel.unary_stream(LIST_AND_WATCH.path)(encode(Empty())):
                    yield decode(data, LIST_AND_WATCH.response)
            except aio.AioRpcError as error:
                raise rpc_error(error.code().name, error.details() or "") from error
            except DecodeError as error:
                raise RpcError("Internal", f"the answer cannot be read: {error}") from error

    async def allocate(self, devices: list[str]) -> ContainerAllocateResponse:
        """What a container that gets these devices needs. Raises DeviceError."""
        request = AllocateRequest(container_requests=[ContainerAllocateRequest(device_ids=devices)])
        try:
            response = await call(self.socket, ALLOCATE, request, timeout=ALLOCATE_TIMEOUT)
        except RpcError as error:
            raise DeviceError(str(error)) from error
        if not response.container_responses:
            raise DeviceError(f"no containers return in allocation response {response}")
        return response.container_responses[0]

    async def preferred(
        self, available: Collection[str], must_include: Collection[str], size: int
    ) -> list[str]:
        """Which devices it would rather give; none if it does not care. Raises DeviceError."""
        if not self.options.get_preferred_allocation_available:
            return []
        container = ContainerPreferredAllocationRequest(
            available=sorted(available), must_include=sorted(must_include), allocation_size=size
        )
        request = PreferredAllocationRequest(container_requests=[container])
        try:
            response = await call(self.socket, GET_PREFERRED_ALLOCATION, request, timeout=ALLOCATE_TIMEOUT)
        except RpcError as error:
            text = f"device plugin GetPreferredAllocation rpc failed with err: {error}"
            raise DeviceError(text) from error
        return response.container_responses[0].device_ids if response.container_responses else []

    async def pre_start(self, devices: list[str]) -> None:
        """A container with these devices is about to start. Raises DeviceError."""
        request = PreStartContainerRequest(device_ids=devices)
        try:
            await call(self.socket, PRE_START_CONTAINER, request, timeout=PRE_START_TIMEOUT)
        except RpcError as error:
            raise DeviceError(f"device plugin PreStartContainer rpc failed with err: {error}") from error
