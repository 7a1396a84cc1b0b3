"""Every way in which a registry fails: the right type, a text that names all, and nothing left over."""

import socket
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from oci import digests
from oci.errors import (
    ImageError,
    InvalidManifestError,
    NotFoundError,
    NotWasmError,
    RegistryProtocolError,
    RegistryUnavailableError,
    StoreError,
    UnauthorizedError,
    VerificationError,
)
from oci.images import ImageStore
from oci.manifest import MANIFEST
from oci.reference import parse

SIZE = 3_000_000
MODULE = b"\0asm\1\0\0\0" + bytes(SIZE - 8)


@pytest.fixture
async def fails(registry, store: ImageStore, tmp_path: Path):
    """Pulls, and checks what any failure must hold to; returns the error."""

    async def pull(expected: type[ImageError], *words: str) -> ImageError:
        reference = registry.reference("me/app:v1")
        with pytest.raises(expected) as caught:
            await store.pull(reference)
        text = str(caught.value)
        for word in (f"registry {registry.address}", "repository me/app", "reference v1", *words):
            assert word in text
        assert type(caught.value) is expected
        assert store.get(reference) is None
        assert store.list() == []
        assert list((tmp_path / "images" / "ingest").iterdir()) == []
        digest = digests.of(MODULE).partition(":")[2]
        assert not (tmp_path / "images" / "blobs" / "sha256" / digest).exists()
        return caught.value

    return pull


class TestBlobs:
    @pytest.fixture(autouse=True)
    def image(self, registry):
        registry.image("me/app:v1", MODULE)

    async def test_cut_short(self, registry, fails):
        registry.faults["GET /v2/me/app/blobs"] = registry.cut(MODULE[:100], SIZE)
        await fails(RegistryUnavailableError, "blob sha256:", f"ended after 100 bytes, {SIZE - 100} short")

    async def test_shorter_than_the_manifest_says(self, registry, fails):
        registry.faults["GET /v2/me/app/blobs"] = registry.body(MODULE[:-1])
        await fails(VerificationError, f"is {SIZE - 1} bytes, the manifest says {SIZE}")

    async def test_shorter_without_saying_so(self, registry, fails):
        registry.faults["GET /v2/me/app/blobs"] = registry.chunked(MODULE[:-1])
        await fails(VerificationError, f"{SIZE - 1} bytes, the manifest says {SIZE}")

    async def test_longer_than_the_manifest_says(self, registry, fails):
        registry.faults["GET /v2/me/app/blobs"] = registry.chunked(MODULE + b"x")
        await fails(VerificationError, f"more than the {SIZE} bytes")

    async def test_swapped(self, registry, fails):
        other = b"\0asm\1\0\0\0" + bytes(SIZE - 9) + b"x"
        registry.faults["GET /v2/me/app/blobs"] = registry.body(other)
        await fails(VerificationError, f"blob {digests.of(MODULE)}: the content is {digests.of(other)}")

    async def test_endless(self, registry, fails):
        sent: list[int] = []
        registry.faults["GET /v2/me/app/blobs"] = registry.endless(sent)
        await fails(VerificationError, f"more than the {SIZE} bytes")
        # What is sent beyond the size is what fits into the sockets' buffers.
        assert sum(sent) < SIZE + 16_000_000

    async def test_missing(self, registry, fails):
        registry.blobs.clear()
        await fails(NotFoundError, digests.of(MODULE), "404", "not known to this registry")

    async def test_stalls(self, registry, fails):
        registry.faults["GET /v2/me/app/blobs"] = registry.hang(MODULE[:1000], SIZE)
        await fails(RegistryUnavailableError, "stopped answering")

    async def test_needs_more_than_the_disk_has(self, registry, fails):
        layer = registry.blob(MODULE) | {"size": 2**60}
        registry.document("me/app:v1", registry.manifest(layer))
        await fails(StoreError, f"needs {2**60} bytes")
        assert registry.paths("GET") == ["GET manifests/v1"]


class TestManifests:
    async def test_unknown(self, registry, fails):
        await fails(NotFoundError, "manifest v1", "404 Not Found", "not known to this registry")

    async def test_not_json(self, registry, fails):
        registry.document("me/app:v1", b"<html>log in</html>", "text/html")
        await fails(InvalidManifestError, "manifest: JSON is malformed")

    async def test_of_no_shape(self, registry, fails):
        registry.document("me/app:v1", {"schemaVersion": 2, "layers": [{"mediaType": 1}]})
        await fails(InvalidManifestError, "`$")

    async def test_of_the_first_schema(self, registry, fails):
        registry.document("me/app:v1", {"schemaVersion": 1, "name": "x", "fsLayers": []})
        await fails(InvalidManifestError, "schemaVersion is 1")

    async def test_of_another_type(self, registry, fails):
        document = registry.manifest(registry.blob(MODULE)) | {"mediaType": "application/vnd.helm"}
        registry.document("me/app:v1", document)
        await fails(InvalidManifestError, "application/vnd.helm")

    async def test_of_an_image_for_linux(self, registry, fails):
        layer = registry.blob(b"tar", "application/vnd.oci.image.layer.v1.tar+gzip")
        config_type = "application/vnd.oci.image.config.v1+json"
        config = b'{"os": "linux", "architecture": "arm64", "config": {"Cmd": ["/bin/sh"]}}'
        registry.document("me/app:v1", registry.manifest(layer, config=config, config_type=config_type))
        await fails(NotWasmError, "for linux/arm64 and runs /bin/sh, which is no WebAssembly")

    async def test_of_a_hundred_megabytes(self, registry, fails):
        sent: list[int] = []
        registry.faults["GET"] = registry.endless(sent)
        await fails(InvalidManifestError, "larger than 4194304 bytes")
        assert sum(sent) < 32_000_000

    async def test_not_what_its_header_says(self, registry, fails):
        headers = {"Docker-Content-Digest": digests.of(b"another")}
        registry.faults["GET"] = registry.body(b"{}", headers)
        await fails(VerificationError, digests.of(b"another"), digests.of(b"{}"))

    async def test_not_what_was_asked_for(self, registry, store):
        registry.faults["GET"] = registry.body(b"{}")
        wanted = digests.of(b"wanted")
        with pytest.raises(VerificationError) as caught:
            await store.pull(registry.reference(f"me/app@{wanted}"))
        assert f"reference {wanted}" in str(caught.value)
        assert f"the content is {digests.of(b'{}')}, expected {wanted}" in str(caught.value)

    async def test_not_of_the_size_in_the_index(self, registry, fails):
        entry = registry.image("me/app:wasm", MODULE)
        platform = {"os": "wasi", "architecture": "wasm"}
        registry.index("me/app:v1", entry | {"size": entry["size"] + 1, "platform": platform})
        await fails(VerificationError, "the index says")

    async def test_an_index_that_says_it_is_a_manifest(self, registry, fails):
        inner = registry.index("me/app:inner")
        platform = {"os": "wasi", "architecture": "wasm"}
        registry.index("me/app:v1", inner | {"mediaType": MANIFEST, "platform": platform})
        await fails(InvalidManifestError, "an index in an index")


class TestStatuses:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (401, UnauthorizedError),
            (403, UnauthorizedError),
            (404, NotFoundError),
            (429, RegistryUnavailableError),
            (500, RegistryUnavailableError),
            (503, RegistryUnavailableError),
            (400, RegistryProtocolError),
            (204, RegistryProtocolError),
            (304, RegistryProtocolError),
        ],
    )
    @pytest.mark.parametrize("path", ["manifests", "blobs"])
    async def test_is_told(self, registry, fails, status: int, error: type[ImageError], path: str):
        registry.image("me/app:v1", MODULE)
        registry.faults[f"GET /v2/me/app/{path}"] = registry.status(status, "because\nof this")
        words = [] if status in (204, 304) else ["because of this"]
        await fails(error, path[:-1], f"answered {status}", *words)
        # Nothing is asked again: when to do that is the pod's back-off's decision.
        assert sum(path in request for request in registry.paths()) == 1

    @pytest.mark.parametrize("status", [429, 503])
    async def test_keeps_when_to_ask_again(self, registry, fails, status: int):
        registry.faults["GET"] = registry.status(status, "slow down", {"Retry-After": "17"})
        error = await fails(RegistryUnavailableError, "retry after 17 s")
        assert error.retry_after == 17.0

    async def test_keeps_when_to_ask_again_as_a_date(self, registry, fails):
        when = formatdate(time.time() + 3600, usegmt=True)
        registry.faults["GET"] = registry.status(429, "slow down", {"Retry-After": when})
        error = await fails(RegistryUnavailableError)
        assert 3000 < error.retry_after <= 3600

    @pytest.mark.parametrize("header", ["", "soon", "-1", "Mon, 99 Foo"])
    async def test_passes_over_what_is_no_time(self, registry, fails, header: str):
        registry.faults["GET"] = registry.status(429, "", {"Retry-After": header})
        assert (await fails(RegistryUnavailableError)).retry_after is None


class TestConnections:
    async def test_refused(self, store):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{unused.getsockname()[1]}"
            with pytest.raises(RegistryUnavailableError) as caught:
                await store.pull(parse(f"{address}/me/app:v1"))
        assert f"registry {address}" in str(caught.value)
        assert "Connection refused" in str(caught.value)

    async def test_of_no_host(self, store):
        with pytest.raises(RegistryUnavailableError, match=r"registry no\.such\.host\.invalid"):
            await store.pull(parse("no.such.host.invalid/me/app:v1"))

    async def test_answered_with_nothing(self, registry, fails):
        registry.faults["GET"] = registry.hang()
        await fails(RegistryUnavailableError, "manifest v1", "stopped answering")

    async def test_ended_at_once(self, registry, fails):
        async def end(request):
            request.transport.abort()
            await registry.stuck.wait()

        registry.faults["GET"] = end
        await fails(RegistryUnavailableError, "closed connection without response")

    async def test_over_tls_unless_listed(self, registry, stores):
        store = stores("127.0.0.1:1")
        with pytest.raises(RegistryUnavailableError, match="insecure registry"):
            await store.pull(registry.reference("me/app:v1"))
        assert registry.requests == []

    async def test_to_an_untrusted_certificate(self, tls_registry, stores, monkeypatch):
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(RegistryUnavailableError, match=r"(?i)certificate"):
            await stores().pull(tls_registry.reference("me/app:v1"))


class TestRedirects:
    async def test_in_circles(self, registry, fails):
        registry.faults["GET"] = registry.redirect("/v2/me/app/manifests/v1?signature=secret")
        error = await fails(RegistryProtocolError, "more than 5 redirects")
        assert "secret" not in str(error)
        assert len(registry.requests) == 6

    async def test_with_an_endless_body(self, registry, store):
        sent: list[int] = []
        registry.image("me/app:v1", MODULE)
        path = f"/v2/me/other/blobs/{digests.of(MODULE)}"
        registry.faults["GET /v2/me/app/blobs"] = registry.endless(sent, 307, {"Location": path})
        image = await store.pull(registry.reference("me/app:v1"))
        assert image.module.read_bytes() == MODULE
        assert sum(sent) < 16_000_000

    @pytest.mark.parametrize("location", ["http://[x/", "http://h:99999999/", "ftp://h/x", "http:///x"])
    async def test_to_nowhere(self, registry, fails, location: str):
        registry.faults["GET"] = registry.redirect(location)
        await fails(RegistryProtocolError)

    async def test_out_of_tls(self, tls_registry, registry, stores):
        registry.image("me/app:v1", MODULE)
        tls_registry.faults["GET"] = tls_registry.redirect(f"http://{registry.address}/v2/x?signature=secret")
        with pytest.raises(RegistryProtocolError, match="leaves TLS") as caught:
            await stores(registry.address).pull(tls_registry.reference("me/app:v1"))
        assert "secret" not in str(caught.value)
        assert registry.requests == []

    async def test_to_another_host(self, registry, other_registry, store):
        registry.image("me/app:v1", MODULE)
        other_registry.blobs = registry.blobs
        registry.faults["GET /v2/me/app/blobs"] = registry.redirect(
            f"http://{other_registry.address}/store/{digests.of(MODULE)}?signature=secret"
        )
        image = await store.pull(registry.reference("me/app:v1"))
        assert image.module.read_bytes() == MODULE
