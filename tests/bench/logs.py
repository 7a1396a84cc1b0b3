"""How fast a log reaches its client, against the floor: the same bytes from memory through the same stack.

Run from the repository's root: `python -m tests.bench.logs [megabytes of log]`. The client is a process of
its own that does nothing but decrypt. `filter` is the log's way through the filter alone, without a socket.
In the end, what following costs while nothing is written.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from aiohttp import web

from tests.unit.server.conftest import Authority, Directory
from vkubelet.pods.directory import LogSource
from vkubelet.server.app import KubeletServer
from vkubelet.server.auth import AlwaysAllow, KubeletAuth
from vkubelet.server.cri_log import LogFilter
from vkubelet.server.log_file import BLOCK
from vkubelet.server.log_options import decode
from vkubelet.server.log_reader import LogReader
from vkubelet.server.log_stream import pieces
from vkubelet.server.logs import LogRoutes

CLIENT = """
import socket, ssl, sys, time
port, path, certificate, key, ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(certificate, key)
plain = socket.create_connection(("127.0.0.1", int(port)))
plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
connection = context.wrap_socket(plain, server_hostname="127.0.0.1")
begin = time.perf_counter()
connection.sendall(f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n".encode())
buffer = bytearray(2**18)
total = connection.recv_into(buffer)
assert buffer.startswith(b"HTTP/1.1 200 "), bytes(buffer[:total])
while size := connection.recv_into(buffer):
    total += size
print(total, time.perf_counter() - begin)
"""

FOLLOWERS = 500
# Seconds of silence.
SILENT = 5

QUERIES = {
    "plain": "",
    "timestamps": "timestamps=true",
    "since": "sinceTime=2026-11-24T02:00:00Z",
    "one stream": "stream=Stdout",
    "limit": "limitBytes=1000000000000",
    "tail 10": "tailLines=10",
}


def make_log(path: Path, size: int, content: int) -> None:
    """`size` bytes of lines with `content` bytes each."""
    tail = b"x" * (content - 9) + b"\n"
    with path.open("wb") as file:
        for number in range(size // (content + 41)):
            file.write(b"2026-11-24T02:00:00.%09dZ stdout F %08d " % (number, number) + tail)


async def measure(port: int, path: str, files: tuple[Path, ...]) -> tuple[int, float]:
    """Bytes received and seconds, the better of two."""
    results = []
    for _ in range(2):
        command = [sys.executable, "-c", CLIENT, str(port), path, *map(str, files)]
        client = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        output, _ = await client.communicate()
        total, seconds = output.split()
        results.append((float(seconds), int(total)))
    seconds_taken, received = min(results)
    return received, seconds_taken


async def floor(data: bytes, tls: ssl.SSLContext, files: tuple[Path, ...]) -> float:
    """MB/s of a bare aiohttp response with `data`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for offset in range(0, len(data), BLOCK):
            await response.write(data[offset : offset + BLOCK])
        return response

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    received, seconds = await measure(runner.addresses[0][1], "/", files)
    await runner.cleanup()
    return received / seconds / 1e6


async def silence(port: int, tls: ssl.SSLContext, pods: Directory, directory: Path) -> None:
    """Print this process' CPU time while logs are followed and silent; the clients are in it too."""
    for number in range(FOLLOWERS):
        path = directory / str(number) / "0.log"
        path.parent.mkdir()
        path.touch()
        pods.logs["silent", str(number), "main"] = LogSource(path, asyncio.Event())
    clients = []
    for number in range(FOLLOWERS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        request = f"GET /containerLogs/silent/{number}/main?follow=true HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(request.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        clients.append(writer)
    used = time.process_time()
    await asyncio.sleep(SILENT)
    used = time.process_time() - used
    print(f"{FOLLOWERS} followers of silent logs: {used / SILENT * 1000:.3f} ms of CPU a second")
    for writer in clients:
        writer.transport.abort()


async def bench(size: int, directory: Path) -> None:
    """Print a table a length of lines."""
    authority = Authority(directory, "authority")
    ca = directory / "ca.pem"
    ca.write_text(authority.pem)
    files = (*authority.issue("client"), ca)
    tls = authority.server(authority.issue("server", serving=True))
    source = LogSource(directory / "0.log", asyncio.Event())
    source.end.set()
    pods = Directory({("default", "web", "main"): source})
    reader = LogReader()
    server = KubeletServer(
        address="127.0.0.1",
        port=0,
        tls=tls,
        healthy=lambda: None,
        auth=KubeletAuth("bench", AlwaysAllow()),
        groups=[LogRoutes(pods, reader)],
    )
    port = await server.start()
    for content in (20, 100, 1000, 16000):
        make_log(source.path, size, content)
        data = source.path.read_bytes()
        print(f"lines of {content} bytes, {len(data) / 1e6:.0f} MB of log:")
        most = await floor(data, tls, files)
        print(f"  {'floor':12} {most:8.0f} MB/s")
        for name, query in QUERIES.items():
            log = LogFilter(decode(dict([query.split("=")] if query else []), 0))
            begin = time.perf_counter()
            for piece in pieces(data if name != "tail 10" else b""):
                log.feed(piece)
            alone = time.perf_counter() - begin
            path = f"/containerLogs/default/web/main?{query}"
            received, seconds = await measure(port, path, files)
            if name == "tail 10":
                print(f"  {name:12} {seconds * 1000:8.1f} ms")
                continue
            read = len(data) / 1e6
            print(
                f"  {name:12} {received / seconds / 1e6:8.0f} MB/s received"
                f" ({received / seconds / 1e6 / most:4.0%} of the floor),"
                f" {read / seconds:6.0f} MB/s of log, filter alone {read / alone:6.0f} MB/s of log"
            )
    await silence(port, authority.client(files[:2]), pods, directory)
    await server.close()
    reader.close()


if __name__ == "__main__":
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as temporary:
        uvloop.run(bench(megabytes * 10**6, Path(temporary)))
