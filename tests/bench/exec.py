"""exec at the node's own port: from the request to the exit status, many at once, and bytes through it.

The client speaks WebSocket to the kubelet API as an API server does, with the API server's certificate. What
kubectl and the API server add is measured beside it, in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop
from guests import build_guest

from oci.push import push_module
from tests.bench.cluster import Cluster, fresh
from tests.bench.node import Vkubelet, running
from tests.bench.node_figures import percentile
from vkubelet.dev import kubectl
from vkubelet.dev.build import cluster_binary
from vkubelet.dev.layout import default_cache
from vkubelet.dev.report import Report

PROTOCOL = "v5.channel.k8s.io"
STDIN, ERROR, CLOSE = 0, 3, 255
POD = "bench"
BLOCK = 32 * 1024
"""Bytes in one message: what kubectl and the API server copy at once."""
COMMANDS = {
    "the container's own module": ("actor", "exit", "0"),
    "a toolbox command": ("true",),
    "a toolbox shell": ("sh", "-c", "exit 0"),
}


@dataclass(frozen=True)
class Port:
    """The kubelet API of the node, as the API server reaches it."""

    session: aiohttp.ClientSession
    url: str

    @asynccontextmanager
    async def exec(
        self, *command: str, stdin: bool = False
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A command's WebSocket."""
        query = [("command", word) for word in command] + [("output", "1"), ("error", "1")]
        query += [("input", "1")] if stdin else []
        path = f"{self.url}/exec/default/{POD}/main"
        options = aiohttp.ClientWSTimeout(ws_close=10)
        async with self.session.ws_connect(
            path, params=query, protocols=[PROTOCOL], max_msg_size=0, timeout=options
        ) as socket:
            yield socket

    async def run(self, *command: str) -> float:
        """Seconds from the request to the exit status, which must be 0."""
        begin = time.perf_counter()
        async with self.exec(*command) as socket:
            await finish(socket)
            return time.perf_counter() - begin

    async def upload(self, size: int, *command: str) -> float:
        """Megabytes a second of standard input."""
        block = bytes((STDIN,)) + bytes(BLOCK)
        async with self.exec(*command, stdin=True) as socket:
            begin = time.perf_counter()
            for _ in range(size // BLOCK):
                await socket.send_bytes(block)
            await socket.send_bytes(bytes((CLOSE, STDIN)))
            await finish(socket)
            return size / (time.perf_counter() - begin) / 1e6

    async def download(self, *command: str) -> float:
        """Megabytes a second of standard output."""
        async with self.exec(*command) as socket:
            begin = time.perf_counter()
            received = await finish(socket)
            return received / (time.perf_counter() - begin) / 1e6


async def finish(socket: aiohttp.ClientWebSocketResponse) -> int:
    """Bytes of output until the status, which must be Success."""
    received = 0
    async for message in socket:
        if message.data[0] == ERROR and len(message.data) > 1:
            status = json.loads(message.data[1:])
            if status["status"] != "Success":
                raise RuntimeError(status["message"])
            return received
        received += len(message.data) - 1
    raise RuntimeError("the node closed the connection before it sent a status")


async def show_latency(name: str, run: Callable[[], Awaitable[float]], runs: int) -> None:
    """Median and 99th percentile, one command after the other."""
    await run()
    times = sorted([await run() * 1000 for _ in range(runs)])
    print(f"  {name:44} {statistics.median(times):8.1f} {percentile(times, 0.99):8.1f} ms", flush=True)


async def hold(port: Port, count: int) -> float:
    """Milliseconds for `count` open streams to answer, all at once, after all are open."""
    async with asyncio.TaskGroup() as group:
        ready, answered = asyncio.Barrier(count + 1), asyncio.Barrier(count + 1)

        async def one() -> None:
            async with port.exec("cat", stdin=True) as socket:
                await ready.wait()
                await socket.send_bytes(bytes((STDIN,)) + b"ping")
                while (await socket.receive_bytes())[1:] != b"ping":
                    pass
                await answered.wait()

        for _ in range(count):
            group.create_task(one())
        await ready.wait()
        begin = time.perf_counter()
        await answered.wait()
        return (time.perf_counter() - begin) * 1000


async def measure(port: Port, cluster: Cluster, runs: int, size: int) -> None:
    """Print everything."""
    print("from the request to the exit status, at the node's own port:       median      p99")
    for name, command in COMMANDS.items():
        await show_latency(name, lambda command=command: port.run(*command), runs)
    print("the same through the API server, with kubectl's own start:")

    async def with_kubectl() -> float:
        begin = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            kubectl.binary(), "exec", POD, "--", *COMMANDS["the container's own module"],
            env=kubectl.environment(cluster.ready.kubeconfig), stdout=subprocess.DEVNULL,
        )  # fmt: skip
        if await process.wait() != 0:
            raise RuntimeError("kubectl exec failed")
        return time.perf_counter() - begin

    await show_latency("kubectl exec, the container's own module", with_kubectl, max(runs // 10, 3))
    print(f"200 streams, all of them answering after {await hold(port, 200):.0f} ms")
    print("bytes through the node, client included:")
    blocks = str(size // (1 << 20))
    for name, figure in (
        ("into cat > /dev/null", await port.upload(size, "sh", "-c", "cat > /dev/null")),
        ("into tar xf - (kubectl cp to a pod)", await upload_tar(port, size)),
        ("out of a file by cat", await port.download("sh", "-c", "cat /big")),
        ("out of tar cf - (kubectl cp from a pod)", await port.download("tar", "cf", "-", "/big")),
    ):
        print(f"  {name:44} {figure:8.0f} MB/s")
    print(f"({blocks} MiB each)")


async def upload_tar(port: Port, size: int) -> float:
    """Megabytes a second of one file in an archive, which is left as /big."""
    header = bytearray(512)
    header[0:3] = b"big"
    header[100:108] = b"0000644\0"
    header[108:116] = header[116:124] = b"0000000\0"
    header[124:136] = b"%011o\0" % size
    header[136:148] = b"%011o\0" % 0
    header[156:157] = b"0"
    header[257:265] = b"ustar\x0000"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    block = bytes((STDIN,)) + bytes(BLOCK)
    async with port.exec("tar", "xmf", "-", "-C", "/", stdin=True) as socket:
        begin = time.perf_counter()
        await socket.send_bytes(bytes((STDIN,)) + bytes(header))
        for _ in range(size // BLOCK):
            await socket.send_bytes(block)
        await socket.send_bytes(bytes((STDIN,)) + bytes(1024))
        await socket.send_bytes(bytes((CLOSE, STDIN)))
        await finish(socket)
        return size / (time.perf_counter() - begin) / 1e6


def manifest(image: str) -> str:
    """A pod that sleeps."""
    container = {"name": "main", "image": image, "args": ["sleep", "86400"]}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": POD},
            "spec": {
                "nodeName": Vkubelet.node,
                "tolerations": [{"operator": "Exists"}],
                "containers": [container],
            },
        }
    )


def reached(config: Path) -> tuple[int, ssl.SSLContext]:
    """The node's port, and TLS as the API server speaks it there. Blocks. Raises DevError."""
    path = "{.status.daemonEndpoints.kubeletEndpoint.Port}"
    number = kubectl.run(config, ["get", "node", Vkubelet.node, "-o", f"jsonpath={path}"])
    pki = config.parent / "pki"
    tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    tls.load_cert_chain(pki / "apiserver-kubelet-client.crt", pki / "apiserver-kubelet-client.key")
    return int(number), tls


async def bench(cluster: Cluster, runs: int, size: int) -> None:
    """Start a pod, and talk to its node."""
    config = cluster.ready.kubeconfig
    image = f"{cluster.ready.registry}/bench/actor:v1"
    await asyncio.to_thread(push_module, build_guest("actor"), image, insecure=True)
    await asyncio.to_thread(kubectl.run, config, ["apply", "-f", "-"], stdin=manifest(image))
    running = "--for=jsonpath={.status.phase}=Running"
    await asyncio.to_thread(kubectl.run, config, ["wait", f"pod/{POD}", running, "--timeout=60s"])
    number, tls = reached(config)
    connector = aiohttp.TCPConnector(ssl=tls, limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=connector) as session:
        await measure(Port(session, f"https://127.0.0.1:{number}"), cluster, runs, size)


def main() -> None:
    """Measure in a fresh cluster."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="commands of each kind, one after the other")
    parser.add_argument("--size", type=int, default=512, help="MiB through a stream")
    options = parser.parse_args()
    with (
        fresh(cluster_binary(default_cache(), Report())) as cluster,
        running(cluster.ready, cluster.directory),
    ):
        uvloop.run(bench(cluster, options.runs, options.size << 20))


if __name__ == "__main__":
    main()
