"""Lifecycle hooks: what is done for them, and what is told of those that fail."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from authority import Authority
from probed import answers, serving

from providers.base import ContainerState
from vkubelet.api.containers import LifecycleHandler
from vkubelet.api.objects import Pod
from vkubelet.pods.commands import Finished
from vkubelet.pods.hooks import HookRunner
from vkubelet.pods.interaction import CommandError
from vkubelet.pods.running import RunningContainer
from vkubelet.pods.services import HookError

POD = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
    "spec": {"hostNetwork": True, "containers": [{"name": "c"}]},
}
WHERE = 'for Container "c" in Pod "p_ns(u)" failed - error: '


class Node:
    """A hook runner, its commands, and its events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.result: Finished | Exception = Finished(0, b"", b"")
        self.cancelled = False
        self.hang = False
        self.end = asyncio.Event()
        self._hooks = HookRunner(cast("Any", self), cast("Any", self), "127.0.0.1")

    def event(self, ref: object, kind: str, reason: str, message: str) -> None:
        self.events.append((reason, message))

    async def run(self, running: RunningContainer, words: tuple[str, ...]) -> Finished:
        if self.hang:
            try:
                await asyncio.sleep(60)
            finally:
                self.cancelled = True
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    async def hook(self, **handler: Any) -> None:
        pod = msgspec.convert(POD, Pod)
        (spec,) = pod.spec.containers or ()
        running = RunningContainer(spec, ContainerState("id", {}, Path("/"), 1, 0), 0, self.end, Path)
        await self._hooks.run(pod, spec, running, msgspec.convert(handler, LifecycleHandler))

    async def complaint(self, **handler: Any) -> str:
        with pytest.raises(HookError) as caught:
            await self.hook(**handler)
        return str(caught.value)


@pytest.fixture
async def node() -> Node:
    return Node()


async def test_a_command(node: Node) -> None:
    await node.hook(exec={"command": ["x", "y"]})


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (Finished(3, b"out", b'"err"'), 'command \'x y\' exited with 3: "err", message: "out\\"err\\""'),
        (CommandError("exec failed: not found"), "exec failed: not found"),
    ],
)
async def test_a_command_that_fails(node: Node, result: Finished | Exception, why: str) -> None:
    node.result = result
    text = await node.complaint(exec={"command": ["x", "y"]})
    assert text == f"Exec lifecycle hook ([x y]) {WHERE}{why}"


async def test_a_hook_ends_with_its_container(node: Node) -> None:
    node.hang = True
    asyncio.get_running_loop().call_later(0.05, node.end.set)
    text = await node.complaint(exec={"command": ["x"]})
    assert text.endswith("container terminated before the hook finished")
    assert node.cancelled


async def test_a_hook_that_is_given_up_leaves_nothing(node: Node) -> None:
    node.hang = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await node.hook(exec={"command": ["x"]})
    assert node.cancelled


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_any_answer_is_a_success(node: Node, status: int) -> None:
    async with serving(answers(f"HTTP/1.1 {status} x\r\nContent-Length: 9\r\n\r\nshort".encode())) as server:
        await node.hook(httpGet={"port": server.port, "path": "/"})


async def test_nobody_answers(node: Node) -> None:
    text = await node.complaint(httpGet={"port": 1, "path": "/x"})
    why = 'Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused'
    assert text == f"HTTP lifecycle hook (/x) {WHERE}{why}"


async def test_a_port_that_is_not_named(node: Node) -> None:
    assert (await node.complaint(httpGet={"port": "web"})).endswith('port "web" not found')


async def test_https_that_is_plain_http_is_asked_again_and_told_of(node: Node) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with serving(plain) as server:
        await node.hook(httpGet={"port": server.port, "scheme": "HTTPS", "path": "/"})
    where = f"127.0.0.1:{server.port}"
    message = f"request to HTTPS lifecycle hook {where} got HTTP response, retry with HTTP succeeded"
    assert node.events == [("LifecycleHTTPFallback", message)]


async def test_https(node: Node, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path, "nobody").issue("server", serving=True))
    async with serving(answers(b"HTTP/1.1 200 OK\r\n\r\n"), context) as server:
        await node.hook(httpGet={"port": server.port, "scheme": "HTTPS", "path": "/"})
    assert node.events == []


async def test_a_sleep(node: Node) -> None:
    await node.hook(sleep={"seconds": 0})


async def test_a_sleep_whose_container_ends(node: Node) -> None:
    asyncio.get_running_loop().call_later(0.05, node.end.set)
    assert (await node.complaint(sleep={"seconds": 60})).startswith(f"Sleep lifecycle hook (60) {WHERE}")


@pytest.mark.parametrize("handler", [{}, {"tcpSocket": {"port": 1}}])
async def test_what_is_no_hook(node: Node, handler: dict[str, Any]) -> None:
    assert (await node.complaint(**handler)).startswith("Cannot run handler: invalid handler:")
