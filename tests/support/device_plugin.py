"""A device plugin that does as a test says: in the test's process, or as one of its own that reads commands.

As a process: `python device_plugin.py DIRECTORY RESOURCE ENDPOINT ANSWER`. Each line of its standard input is
a JSON object of devices and their health, which replaces those it has; its output is a line for each thing
that happens. ANSWER, in JSON, is what Allocate answers, with the devices in the variable DEVICES.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec

from vkubelet.deviceplugins.messages import (
    ALLOCATE,
    GET_OPTIONS,
    GET_PREFERRED_ALLOCATION,
    LIST_AND_WATCH,
    PRE_START_CONTAINER,
    REGISTER,
    VERSION,
    AllocateRequest,
    AllocateResponse,
    ContainerAllocateResponse,
    ContainerPreferredAllocationResponse,
    Device,
    DevicePluginOptions,
    Empty,
    ListAndWatchResponse,
    PreferredAllocationRequest,
    PreferredAllocationResponse,
    PreStartContainerRequest,
    RegisterRequest,
)
from vkubelet.rpc.client import Method, call
from vkubelet.rpc.messages import decode, encode

Answer = Callable[[list[str]], ContainerAllocateResponse]


class FakePlugin:
    """Devices by their health. `before_allocate` may wait or fail; `answer` is what Allocate answers.

    `raw` are answers, by method, that are sent as they are.
    """

    def __init__(self, directory: Path, resource: str, devices: dict[str, str], endpoint: str = "") -> None:
        self.directory = directory
        self.resource = resource
        self.devices = devices
        self.endpoint = endpoint or f"{resource.replace('/', '-')}.sock"
        self.options = DevicePluginOptions()
        self.allocated: list[list[str]] = []
        self.started: list[list[str]] = []
        self.preferring: list[PreferredAllocationRequest] = []
        self.preferred: list[str] = []
        self.before_allocate: Callable[[], Awaitable[None] | None] = lambda: None
        self.before_start: Callable[[], Awaitable[None] | None] = lambda: None
        self.answer: Answer = lambda devices: ContainerAllocateResponse(envs={"DEVICES": ",".join(devices)})
        self.raw: dict[str, bytes] = {}
        self._changed = asyncio.Condition()
        self._server: Any = None

    @property
    def socket(self) -> Path:
        return self.directory / self.endpoint

    async def start(self) -> None:
        self._server = grpc.aio.server()
        unary = {
            GET_OPTIONS: self._get_options,
            GET_PREFERRED_ALLOCATION: self._get_preferred,
            ALLOCATE: self._allocate,
            PRE_START_CONTAINER: self._pre_start,
        }
        handlers = {
            method.path.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(self._unary(method, serve))
            for method, serve in unary.items()
        }
        handlers["ListAndWatch"] = grpc.unary_stream_rpc_method_handler(self._watch)
        service = LIST_AND_WATCH.path.split("/")[1]
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self.socket.unlink(missing_ok=True)
        self._server.add_insecure_port(f"unix:{self.socket}")
        await self._server.start()

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)
        self.socket.unlink(missing_ok=True)

    async def register(self, **changes: str) -> None:
        request = RegisterRequest(version=VERSION, endpoint=self.endpoint, resource_name=self.resource)
        for name, value in changes.items():
            setattr(request, name, value)
        await call(self.directory / "kubelet.sock", REGISTER, request, timeout=30)

    async def update(self, devices: dict[str, str]) -> None:
        async with self._changed:
            self.devices = devices
            self._changed.notify_all()

    def _unary(self, method: Method[Any, Any], serve: Callable[[Any], Awaitable[Any]]) -> Any:
        async def handle(data: bytes, context: Any) -> bytes:
            try:
                answer = await serve(decode(data, method.request))
            except ValueError as error:
                await context.abort(grpc.StatusCode.UNKNOWN, str(error))
            return self.raw.get(method.path, encode(answer))

        return handle

    async def _get_options(self, request: Empty) -> DevicePluginOptions:
        return self.options

    async def _watch(self, data: bytes, context: Any) -> AsyncIterator[bytes]:
        while True:
            devices = self.devices
            shown = [Device(id=name, health=health) for name, health in devices.items()]
            yield self.raw.get(LIST_AND_WATCH.path, encode(ListAndWatchResponse(devices=shown)))
            async with self._changed:
                await self._changed.wait_for(lambda seen=devices: self.devices is not seen)

    async def _get_preferred(self, request: PreferredAllocationRequest) -> PreferredAllocationResponse:
        self.preferring.append(request)
        answer = ContainerPreferredAllocationResponse(device_ids=self.preferred)
        return PreferredAllocationResponse(container_responses=[answer])

    async def _allocate(self, request: AllocateRequest) -> AllocateResponse:
        waited = self.before_allocate()
        if waited is not None:
            await waited
        (container,) = request.container_requests
        self.allocated.append(container.device_ids)
        return AllocateResponse(container_responses=[self.answer(container.device_ids)])

    async def _pre_start(self, request: PreStartContainerRequest) -> Empty:
        waited = self.before_start()
        if waited is not None:
            await waited
        self.started.append(request.device_ids)
        return Empty()


@contextlib.asynccontextmanager
async def running(plugin: FakePlugin) -> AsyncIterator[FakePlugin]:
    """The plugin, serving and registered."""
    await plugin.start()
    try:
        await plugin.register()
        yield plugin
    finally:
        await plugin.stop()


async def _main(directory: str, resource: str, endpoint: str, text: str) -> None:
    plugin = FakePlugin(Path(directory), resource, {}, endpoint)
    always = msgspec.json.decode(text, type=ContainerAllocateResponse)

    def answer(devices: list[str]) -> ContainerAllocateResponse:
        print("allocate", *devices, flush=True)
        return msgspec.structs.replace(always, envs={**always.envs, "DEVICES": ",".join(devices)})

    plugin.answer = answer
    await plugin.start()
    registered = False
    while line := await asyncio.to_thread(sys.stdin.readline):
        await plugin.update(json.loads(line))
        if not registered:
            await plugin.register()
            registered = True
        print("devices", *plugin.devices, flush=True)
    await plugin.stop()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
