"""Registries behind a proxy, which is a real socket here: who is asked by it, and what it may see."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from authority import Authority

from oci.errors import RegistryUnavailableError
from oci.reference import parse

MODULE = b"\0asm\1\0\0\0" + b"the module"


class Proxy:
    """Tunnels every CONNECT, whatever host it names, to one address; forwards plain requests there too."""

    def __init__(self) -> None:
        self.address = ""
        self.target = ("", 0)
        self.heads: list[bytes] = []
        self.refusal = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            if self.refusal:
                writer.write(self.refusal)
                writer.close()
                return
            there, back = await asyncio.open_connection(*self.target)
            if head.startswith(b"CONNECT "):
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                back.write(head)
            await asyncio.gather(self.copy(reader, back), self.copy(there, writer))

    @staticmethod
    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    made = Proxy()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    async with server:
        yield made


def _target(registry) -> tuple[str, int]:
    host, _, port = registry.address.partition(":")
    return host, int(port)


async def test_over_tls_by_a_tunnel(proxy, serve, stores, tmp_path: Path, monkeypatch) -> None:
    """The proxy sees the host's name and its own password, and nothing of what is said through it."""
    authority = Authority(tmp_path, "an authority")
    secure = await serve(authority.server(authority.issue(None, serving=True)))
    secure.image("me/app:v1", MODULE)
    proxy.target = _target(secure)
    directory = tmp_path / "certs.d" / "10.9.8.7_5000_"
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text(
        "skip_verify = true\n[header]\nauthorization = 'Basic cmVnaXN0cnk='\n"
    )
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@{proxy.address}")
    store = stores(registry_config_dir=tmp_path / "certs.d")
    image = await store.pull(parse("10.9.8.7:5000/me/app:v1"))
    assert image.module.read_bytes() == MODULE
    for head in proxy.heads:
        assert head.startswith(b"CONNECT 10.9.8.7:5000 HTTP/1.")
        assert b"cmVnaXN0cnk" not in head
        assert base64.b64encode(b"me:secret") in head
    assert all("Proxy-Authorization" not in request.headers for request in secure.requests)


async def test_over_plain_http(proxy, registry, stores, monkeypatch) -> None:
    registry.image("me/app:v1", MODULE)
    proxy.target = _target(registry)
    monkeypatch.setenv("http_proxy", proxy.address)
    assert await stores("upstream.example").pull(parse("upstream.example/me/app:v1"))
    assert proxy.heads[0].startswith(b"GET http://upstream.example/v2/me/app/manifests/v1 HTTP/1.1")


@pytest.mark.parametrize("direct", ["", "127.0.0.0/8"])
async def test_this_machine_is_asked_directly(proxy, registry, stores, monkeypatch, direct: str) -> None:
    registry.image("me/app:v1", MODULE)
    monkeypatch.setenv("HTTP_PROXY", proxy.address)
    monkeypatch.setenv("NO_PROXY", direct)
    assert await stores(registry.address).pull(registry.reference("me/app:v1"))
    assert proxy.heads == []


@pytest.mark.parametrize(
    ("refusal", "cause"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication Required"),
        (b"nonsense\r\n\r\n", ""),
    ],
)
async def test_one_that_refuses(proxy, stores, monkeypatch, refusal: bytes, cause: str) -> None:
    proxy.refusal = refusal
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@{proxy.address}")
    with pytest.raises(RegistryUnavailableError) as caught:
        await stores().pull(parse("upstream.example/me/app:v1"))
    text = str(caught.value)
    assert cause in text
    assert "secret" not in text
    if cause:
        assert f"manifest v1: proxy {proxy.address}: " in text


async def test_one_that_is_not_there(stores, monkeypatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:1")
    with pytest.raises(RegistryUnavailableError, match=r"proxy 127\.0\.0\.1:1: Connection refused") as caught:
        await stores().pull(parse("upstream.example/me/app:v1"))
    assert "secret" not in str(caught.value)


async def test_one_that_cannot_be_used(stores, monkeypatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:secret@127.0.0.1:1")
    with pytest.raises(RegistryUnavailableError, match="HTTPS_PROXY is no URL of a proxy") as caught:
        await stores().pull(parse("upstream.example/me/app:v1"))
    assert "secret" not in str(caught.value)


async def test_a_redirect_takes_its_own_way(proxy, registry, other_registry, stores, monkeypatch) -> None:
    """From a host behind the proxy to one of this machine, without the credentials of either."""
    registry.image("me/app:v1", MODULE)
    other_registry.blobs = registry.blobs
    proxy.target = _target(registry)
    registry.faults["GET /v2/me/app/blobs"] = registry.redirect(f"http://{other_registry.address}/b/")
    other_registry.faults["GET /b/"] = other_registry.body(MODULE)
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@{proxy.address}")
    assert await stores("upstream.example").pull(parse("upstream.example/me/app:v1"))
    (asked,) = other_registry.requests
    assert "Proxy-Authorization" not in asked.headers
    assert "Authorization" not in asked.headers
