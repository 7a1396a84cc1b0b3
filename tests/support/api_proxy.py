"""A proxy in front of a real API server, for one node, that fails as it is told.

It exists because a real API server can be stopped, but not be made to hang, refuse or cut what it sends. The
node's kubeconfig leads here; what it asks is asked for it by impersonation with the administrator's
credentials, so that the server sees the node itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import enum
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from authority import Authority
from looping import Loop, looping

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "host", "authorization", "keep-alive"}
_STATUS = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}


class Fault(enum.Enum):
    """What befalls every request, and what is under way."""

    RESET = "its connection is reset"
    HANG = "no answer comes, and nothing more of those that were on their way"
    CUT = "an answer ends as soon as it has begun"
    BUSY = 429
    BROKEN = 500
    AWAY = 503


class ApiProxy:
    """`asked` counts requests that met the fault."""

    def __init__(
        self, server: str, credentials: ssl.SSLContext, node: str, tls: ssl.SSLContext | None = None
    ) -> None:
        self._server, self._credentials, self._node, self._tls = server, credentials, node, tls
        self._fault: Fault | None = None
        self._over = asyncio.Event()
        self._over.set()
        self._under_way: set[asyncio.Transport] = set()
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self.asked = 0

    async def open(self) -> str:
        """Its URL."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._credentials, limit=0), auto_decompress=False
        )
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        host, port = self._runner.addresses[0][:2]
        return f"{'https' if self._tls else 'http'}://{host}:{port}"

    async def close(self) -> None:
        assert self._session is not None
        assert self._runner is not None
        self.set(None)
        await self._runner.cleanup()
        await self._session.close()

    def set(self, fault: Fault | None) -> None:
        """From now on, until it is another or none."""
        self._fault = fault
        self.asked = 0
        if fault is None:
            self._over.set()
        else:
            self._over.clear()
        if fault is not None and fault is not Fault.HANG:
            for transport in self._under_way:
                transport.abort()

    def show(self, certificate: Path, key: Path) -> None:
        """Show another certificate from now on, and end all connections that were made with the former."""
        assert self._tls is not None
        assert self._runner is not None
        assert self._runner.server is not None
        self._tls.load_cert_chain(certificate, key)
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._fault is not None:
            self.asked += 1
            return await self._fail(request, self._fault)
        return await self._forward(request, cut=False)

    async def _fail(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault is Fault.HANG:
            await self._over.wait()
        if fault is Fault.CUT:
            return await self._forward(request, cut=True)
        if isinstance(fault.value, int):
            body = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": _STATUS[fault.value],
                "message": "the proxy says so",
                "code": fault.value,
            }
            headers = {"Retry-After": "1"} if fault is Fault.BUSY else {}
            return web.json_response(body, status=fault.value, headers=headers)
        assert request.transport is not None
        request.transport.abort()
        raise ConnectionResetError

    async def _forward(self, request: web.Request, *, cut: bool) -> web.StreamResponse:
        assert self._session is not None
        assert isinstance(request.transport, asyncio.Transport)
        headers = [
            (name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP
        ]
        headers += [("Impersonate-User", f"system:node:{self._node}")]
        headers += [("Impersonate-Group", group) for group in ("system:nodes", "system:authenticated")]
        asking = self._session.request(
            request.method,
            f"{self._server}{request.raw_path}",
            headers=headers,
            data=await request.read() or None,
            skip_auto_headers=("Content-Type", "Accept-Encoding", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        transport = request.transport
        self._under_way.add(transport)
        try:
            async with asking as upstream:
                kept = [(n, v) for n, v in upstream.headers.items() if n.lower() not in _HOP_BY_HOP]
                answer = web.StreamResponse(status=upstream.status)
                answer.headers.extend(kept)
                await answer.prepare(request)
                async for piece in upstream.content.iter_any():
                    await self._over.wait()
                    await answer.write(piece[: len(piece) // 2] if cut else piece)
                    if cut:
                        transport.abort()
                await answer.write_eof()
                return answer
        finally:
            self._under_way.discard(transport)


class ApiProxyThread:
    """The proxy in a thread and loop of its own."""

    def __init__(self, proxy: ApiProxy, loop: Loop) -> None:
        self._proxy, self._loop = proxy, loop

    def set(self, fault: Fault | None) -> None:
        """See ApiProxy.set."""

        async def change() -> None:
            self._proxy.set(fault)

        self._loop.call(change())

    def show(self, files: tuple[Path, Path]) -> None:
        """See ApiProxy.show."""

        async def change() -> None:
            self._proxy.show(*files)

        self._loop.call(change())

    @property
    def asked(self) -> int:
        return self._proxy.asked


@contextlib.contextmanager
def api_proxy(
    admin: Path, node: str, kubeconfig: Path, authority: Authority | None = None
) -> Iterator[ApiProxyThread]:
    """One for the node of that name, whose `kubeconfig` is written; `admin` is the administrator's.

    With an `authority`, which the kubeconfig trusts, it serves TLS.
    """
    config = yaml.safe_load(admin.read_text())
    server = config["clusters"][0]["cluster"]["server"]
    tls = None if authority is None else authority.server(authority.issue("api", serving=True))
    proxy = ApiProxy(server, _credentials(config), node, tls)
    with looping() as loop:
        url = loop.call(proxy.open())
        try:
            kubeconfig.write_text(yaml.safe_dump(_kubeconfig(url, authority)))
            yield ApiProxyThread(proxy, loop)
        finally:
            loop.call(proxy.close())


def _credentials(config: dict[str, Any]) -> ssl.SSLContext:
    """The administrator's."""
    ca = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    context, user = ssl.create_default_context(cadata=ca), config["users"][0]["user"]
    with tempfile.NamedTemporaryFile() as pair:
        for half in ("client-certificate-data", "client-key-data"):
            pair.write(base64.b64decode(user[half]) + b"\n")
        pair.flush()
        context.load_cert_chain(pair.name)
    return context


def _kubeconfig(server: str, authority: Authority | None) -> dict[str, Any]:
    cluster = {"server": server}
    if authority is not None:
        cluster["certificate-authority-data"] = base64.b64encode(authority.pem.encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "of-no-use"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
