"""A registry that misbehaves on demand, over real sockets, and stores that pull from it."""

import asyncio
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from oci import digests
from oci.artifact import WASM_CONFIG, WASM_LAYER
from oci.images import ImageStore
from oci.manifest import INDEX, MANIFEST
from oci.reference import Reference, parse

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MODULE = b"\0asm\1\0\0\0" + b"the module"


class Registry:
    """Serves what was put into it; `faults` answer instead where their text occurs in `METHOD /path`."""

    def __init__(self) -> None:
        self.address = ""
        self.scheme = "http"
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.faults: dict[str, Handler] = {}
        self.requests: list[web.Request] = []
        self.stuck = asyncio.Event()
        self.asked = asyncio.Condition()

    def blob(self, data: bytes, media_type: str = WASM_LAYER) -> dict[str, Any]:
        digest = digests.of(data)
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def document(self, path: str, document: object, media_type: str = MANIFEST) -> dict[str, Any]:
        """Serve a manifest as REPOSITORY:TAG and by its digest; returns its descriptor."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        repository, _, tag = path.partition(":")
        digest = digests.of(data)
        for name in (tag, digest):
            self.manifests[f"/v2/{repository}/manifests/{name}"] = (media_type, data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def image(
        self, path: str, module: bytes = MODULE, config: bytes = b"{}", config_type: str = WASM_CONFIG
    ) -> dict[str, Any]:
        """Serve a wasm artifact; returns its manifest's descriptor."""
        return self.document(path, self.manifest(self.blob(module), config=config, config_type=config_type))

    def manifest(
        self, *layers: dict[str, Any], config: bytes = b"{}", config_type: str = WASM_CONFIG
    ) -> dict[str, Any]:
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(config, config_type),
            "layers": list(layers),
        }

    def index(self, path: str, *entries: dict[str, Any]) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}
        return self.document(path, document, INDEX)

    def reference(self, path: str) -> Reference:
        return parse(f"{self.address}/{path}")

    def paths(self, method: str = "") -> list[str]:
        """The requests so far, as `METHOD last/two`."""
        return [
            f"{request.method} {'/'.join(request.path.split('/')[-2:])}"
            for request in self.requests
            if request.method.startswith(method)
        ]

    async def until_asked(self, text: str) -> None:
        """Wait for a request with `text` in `METHOD /path`."""
        async with self.asked:
            await self.asked.wait_for(lambda: any(text in _line(request) for request in self.requests))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        async with self.asked:
            self.requests.append(request)
            self.asked.notify_all()
        for text, handler in self.faults.items():
            if text in _line(request):
                return await handler(request)
        return self.serve(request)

    def serve(self, request: web.Request) -> web.StreamResponse:
        if request.path in self.manifests:
            media_type, data = self.manifests[request.path]
            headers = {"Content-Type": media_type, "Docker-Content-Digest": digests.of(data)}
            return web.Response(body=data, headers=headers)
        data = self.blobs.get(request.path.rpartition("/")[2], b"")
        return web.Response(body=data) if data else _problem(404, "UNKNOWN", "not known to this registry")

    # Ways to answer.

    @staticmethod
    def status(code: int, message: str = "", headers: dict[str, str] | None = None) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            return _problem(code, "CODE", message, headers)

        return answer

    @staticmethod
    def body(data: bytes, headers: dict[str, str] | None = None) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(body=data, headers=headers)

        return answer

    def hang(self, after: bytes = b"", length: int | None = None) -> Handler:
        """Answer the beginning, and then nothing more."""

        async def answer(request: web.Request) -> web.StreamResponse:
            if length is not None:
                response = web.StreamResponse()
                response.content_length = length
                await response.prepare(request)
                await response.write(after)
            await self.stuck.wait()
            raise ConnectionResetError

        return answer

    @staticmethod
    def chunked(data: bytes) -> Handler:
        """Answer without saying how long it is."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(data)
            return response

        return answer

    @staticmethod
    def cut(after: bytes, length: int) -> Handler:
        """Announce `length` bytes and end the connection before."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            response.content_length = length
            await response.prepare(request)
            await response.write(after)
            assert request.transport is not None
            request.transport.close()
            return response

        return answer

    @staticmethod
    def endless(sent: list[int], status: int = 200, headers: dict[str, str] | None = None) -> Handler:
        """Send until nobody reads any more; `sent` counts the bytes."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(status=status, headers=headers)
            response.enable_chunked_encoding()
            await response.prepare(request)
            while True:
                await response.write(bytes(65536))
                sent.append(65536)

        return answer

    @staticmethod
    def redirect(location: str) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": location})

        return answer


def _line(request: web.Request) -> str:
    return f"{request.method} {request.path_qs}"


def _problem(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    body = {"errors": [{"code": code, "message": message}]}
    return web.json_response(body, status=status, headers=headers)


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Registry]:
    registry = Registry()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", registry.handle)
    runner = web.AppRunner(application, shutdown_timeout=0, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    registry.address = f"127.0.0.1:{runner.addresses[0][1]}"
    registry.scheme = "https" if tls else "http"
    try:
        yield registry
    finally:
        registry.stuck.set()
        await runner.cleanup()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[ssl.SSLContext | None], Awaitable[Registry]]]:
    """Serves another registry, over TLS with a context."""
    async with AsyncExitStack() as stack:
        yield lambda tls: stack.enter_async_context(serving(tls))


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving() as served:
        yield served


@pytest.fixture
async def other_registry() -> AsyncIterator[Registry]:
    async with serving() as served:
        yield served


@pytest.fixture
async def tls_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Registry]:
    """A registry over TLS, with a certificate that this process trusts."""
    pem = tmp_path / "tls.pem"
    pem.write_bytes(_certificate())
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    async with serving(context) as served:
        yield served


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


Stores = Callable[..., ImageStore]


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    """Opens the image store of this test, again and again, as restarts do."""

    def opened(*insecure: str, **options: Any) -> ImageStore:
        store = ImageStore(tmp_path / "images", insecure_registries=insecure, **options)
        store.open()
        return store

    return opened


@pytest.fixture
def store(stores: Stores, registry: Registry, other_registry: Registry) -> ImageStore:
    """A store that may ask both registries over plain HTTP and waits a second for an answer."""
    return stores(registry.address, other_registry.address, read_timeout=1.0, connect_timeout=1.0)


@pytest.fixture
def configured(stores: Stores, tmp_path: Path) -> Callable[..., ImageStore]:
    """A store that reads a hosts.toml for the registry `upstream.example`, or for another."""

    def opened(text: str, *, name: str = "upstream.example", insecure: tuple[str, ...] = ()) -> ImageStore:
        directory = tmp_path / "certs.d" / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "hosts.toml").write_text(text)
        return stores(
            *insecure, registry_config_dir=tmp_path / "certs.d", connect_timeout=1.0, read_timeout=1.0
        )

    return opened
