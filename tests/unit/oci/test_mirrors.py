"""A registry's hosts, as containerd's hosts.toml names them: who is asked for what, and who gets what."""

import asyncio
import base64
import json
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from authority import Authority

from oci import digests
from oci.auth import Credentials
from oci.errors import (
    NotFoundError,
    RegistryHostsError,
    RegistryProtocolError,
    RegistryUnavailableError,
    UnauthorizedError,
    VerificationError,
)
from oci.hosts import Host
from oci.images import ImageStore
from oci.manifest import MANIFEST
from oci.reference import parse
from oci.registry import Repository

MODULE = b"\0asm\1\0\0\0" + bytes(range(256)) * 4000
ME = Credentials("me", "pass:word")
BASIC = "Basic " + base64.b64encode(b"me:pass:word").decode()


@pytest.fixture
def configured(stores, registry, tmp_path: Path) -> Callable[..., ImageStore]:
    """A store that reads a hosts.toml for the registry `upstream.example`, or for another."""

    def opened(text: str, *, name: str = "upstream.example", insecure: tuple[str, ...] = ()) -> ImageStore:
        directory = tmp_path / "certs.d" / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "hosts.toml").write_text(text)
        return stores(
            *insecure, registry_config_dir=tmp_path / "certs.d", connect_timeout=1.0, read_timeout=1.0
        )

    return opened


async def test_a_mirror_is_asked_in_the_registrys_name(registry, configured) -> None:
    registry.image("library/x:latest", MODULE)
    store = configured(f'[host."http://{registry.address}"]', name="docker.io")
    image = await store.pull(parse("x"))
    assert image.module.read_bytes() == MODULE
    assert image.reference.name == "docker.io/library/x:latest"
    assert {request.query["ns"] for request in registry.requests} == {"docker.io"}
    assert registry.paths() == ["GET manifests/latest", f"GET blobs/{digests.of(MODULE)}"]


async def test_the_name_of_a_namespace_may_have_a_port(registry, configured) -> None:
    registry.image("me/app:v1", MODULE)
    store = configured(f'server = "http://{registry.address}"', name="upstream.example_5000_")
    await store.pull(parse("upstream.example:5000/me/app:v1"))
    assert {request.query_string for request in registry.requests} == {"ns=upstream.example:5000"}


async def test_a_path_of_the_mirror_takes_the_place_of_the_registry(registry, configured) -> None:
    descriptor = registry.blob(MODULE)
    manifest = json.dumps(registry.manifest(descriptor)).encode()
    registry.faults["GET /v2/hub-proxy/me/app/manifests/v1"] = registry.body(
        manifest, {"Content-Type": MANIFEST}
    )
    registry.faults["GET /v2/hub-proxy/me/app/blobs"] = registry.body(MODULE)
    store = configured(
        f'[host."http://{registry.address}/v2/hub-proxy"]\noverride_path = true', name="docker.io"
    )
    assert (await store.pull(parse("me/app:v1"))).module.read_bytes() == MODULE


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_what_a_mirror_does_not_give_the_next_host_does(
    registry, other_registry, configured, status: int
) -> None:
    registry.faults["/v2/"] = registry.status(status)
    other_registry.image("me/app:v1", MODULE)
    store = configured(
        f'server = "http://{other_registry.address}"\n'
        f'[host."http://127.0.0.1:1"]\n[host."http://{registry.address}"]'
    )
    image = await store.pull(parse("upstream.example/me/app:v1"))
    assert image.module.read_bytes() == MODULE
    assert registry.paths() == ["GET manifests/v1", f"GET blobs/{image.module_digest}"]


async def test_the_registry_itself_comes_last(registry, other_registry, configured) -> None:
    other_registry.image("me/app:v1", MODULE)
    registry.faults["/v2/"] = registry.status(404)
    name = other_registry.address.replace(":", "_") + "_"
    store = configured(f'[host."http://{registry.address}"]', name=name, insecure=(other_registry.address,))
    await store.pull(other_registry.reference("me/app:v1"))
    assert {request.query_string for request in registry.requests} == {f"ns={other_registry.address}"}
    assert {request.query_string for request in other_registry.requests} == {""}


async def test_all_hosts_are_named_when_none_has_it(registry, other_registry, configured) -> None:
    registry.faults["/v2/"] = registry.status(503, "busy", {"Retry-After": "9"})
    store = configured(
        f'server = "http://{registry.address}"\n'
        f'[host."http://127.0.0.1:1"]\n[host."http://{other_registry.address}"]'
    )
    with pytest.raises(RegistryUnavailableError) as caught:
        await store.pull(parse("upstream.example/me/app:v1"))
    assert str(caught.value) == (
        "registry upstream.example, repository me/app, reference v1: manifest v1: "
        "http://127.0.0.1:1: Connection refused; "
        f"http://{other_registry.address}: the registry answered 404 Not Found: not known to this registry; "
        f"http://{registry.address}: the registry answered 503 Service Unavailable: busy (retry after 9 s)"
    )
    assert caught.value.retry_after == 9.0


async def test_the_last_hosts_answer_is_the_kind_of_the_error(registry, other_registry, configured) -> None:
    registry.faults["/v2/"] = registry.status(503)
    store = configured(f'server = "http://{other_registry.address}"\n[host."http://{registry.address}"]')
    with pytest.raises(NotFoundError):
        await store.pull(parse("upstream.example/me/app:v1"))


async def test_a_mirror_that_may_not_resolve_is_asked_for_content_only(
    registry, other_registry, configured
) -> None:
    descriptor = registry.image("me/app:v1", MODULE)
    other_registry.image("me/app:v1", MODULE)
    store = configured(
        f'server = "http://{other_registry.address}"\n'
        f'[host."http://{registry.address}"]\ncapabilities = ["pull"]'
    )
    await store.pull(parse("upstream.example/me/app:v1"))
    assert registry.paths() == [f"GET blobs/{digests.of(MODULE)}"]
    assert other_registry.paths() == ["GET manifests/v1"]
    await store.pull(parse(f"upstream.example/me/app@{descriptor['digest']}"), ask=True)
    assert registry.paths()[1:] == [f"GET manifests/{descriptor['digest']}"]


async def test_nobody_may_be_asked(registry, configured) -> None:
    store = configured(f'server = "http://{registry.address}"\ncapabilities = ["push"]')
    with pytest.raises(RegistryHostsError, match="manifest v1: no host has the capability resolve"):
        await store.pull(parse("upstream.example/me/app:v1"))
    assert registry.requests == []


async def test_a_file_that_cannot_be_used_fails_the_pull_and_is_read_again(registry, configured) -> None:
    registry.image("me/app:v1", MODULE)
    store = configured(f'server = "http://{registry.address}"\nskip_verfy = true')
    reference = parse("upstream.example/me/app:v1")
    with pytest.raises(RegistryHostsError) as caught:
        await store.pull(reference)
    assert re.fullmatch(
        r"registry upstream\.example, repository me/app, reference v1: .*/upstream\.example/hosts\.toml: "
        r"line 2: Object contains unknown field `skip_verfy`",
        str(caught.value),
    )
    configured(f'server = "http://{registry.address}"')
    assert await store.pull(reference)


async def test_the_default_directory_is_for_all_others(registry, configured) -> None:
    registry.image("me/app:v1", MODULE)
    store = configured(f'server = "http://{registry.address}"', name="_default")
    assert await store.pull(parse("whatever.example/me/app:v1"))
    assert {request.query["ns"] for request in registry.requests} == {"whatever.example"}


class TestWhoGetsWhat:
    @pytest.fixture
    def locked(self, registry):
        """A registry that wants a password."""
        registry.image("me/app:v1", MODULE)

        async def answer(request: web.Request) -> web.StreamResponse:
            if "Authorization" in request.headers:
                return registry.serve(request)
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="mirror"'})

        registry.faults["/v2/"] = answer
        return registry

    async def test_a_mirror_over_plain_http_gets_no_password(self, locked, configured) -> None:
        store = configured(f'server = "http://{locked.address}"')
        with pytest.raises(UnauthorizedError):
            await store.pull(parse("upstream.example/me/app:v1"), credentials=ME)
        assert all("Authorization" not in request.headers for request in locked.requests)

    async def test_one_of_a_registry_without_tls_does(self, locked, configured) -> None:
        store = configured(f'server = "http://{locked.address}"', insecure=("upstream.example",))
        assert await store.pull(parse("upstream.example/me/app:v1"), credentials=ME)
        assert {request.headers.get("Authorization") for request in locked.requests} == {None, BASIC}

    async def test_one_that_may_not_resolve_does_not(self, locked, other_registry, configured) -> None:
        descriptor = other_registry.image("me/app:v1", MODULE)
        store = configured(
            f'server = "http://{other_registry.address}"\n'
            f'[host."http://{locked.address}"]\ncapabilities = ["pull"]',
            insecure=("upstream.example",),
        )
        reference = parse(f"upstream.example/me/app@{descriptor['digest']}")
        assert await store.pull(reference, credentials=ME)
        assert all("Authorization" not in request.headers for request in locked.requests)

    async def test_headers_are_the_hosts_own(self, locked, other_registry, configured) -> None:
        """Not another host's, nor where the host sends one."""
        other_registry.blobs = locked.blobs
        locked.faults = {
            "GET /v2/me/app/blobs": locked.redirect(
                f"http://{other_registry.address}/blob/{digests.of(MODULE)}"
            ),
            **locked.faults,
        }
        store = configured(
            f'server = "http://{locked.address}"\n[header]\nauthorization = "Basic bWlycm9yOm93bg=="\n'
            'x-team = ["a", "b"]'
        )
        assert await store.pull(parse("upstream.example/me/app:v1"))
        assert {request.headers["x-team"] for request in locked.requests} == {"a, b"}
        (stored,) = other_registry.requests
        assert "Authorization" not in stored.headers
        assert "x-team" not in stored.headers

    async def test_a_token_service_elsewhere_gets_no_header(
        self, registry, other_registry, configured
    ) -> None:
        registry.image("me/app:v1", MODULE)
        other_registry.faults["GET /token"] = other_registry.body(b'{"token":"abc"}')

        async def answer(request: web.Request) -> web.StreamResponse:
            if request.headers.get("Authorization") == "Bearer abc":
                return registry.serve(request)
            challenge = f'Bearer realm="http://{other_registry.address}/token",service="s"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})

        registry.faults["/v2/"] = answer
        store = configured(f'server = "http://{registry.address}"\n[header]\nx-key = "secret"')
        assert await store.pull(parse("upstream.example/me/app:v1"))
        assert "x-key" not in other_registry.requests[0].headers


class TestTls:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        made = Authority(tmp_path, "a private authority")
        directory = tmp_path / "certs.d" / "upstream.example"
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_text(made.pem)
        return made

    @pytest.fixture
    async def secure(self, authority: Authority, serve):
        """A registry with a certificate of that authority."""
        served = await serve(authority.server(authority.issue(None, serving=True)))
        served.image("me/app:v1", MODULE)
        return served

    async def test_a_private_authority(self, secure, configured) -> None:
        store = configured(f'server = "https://{secure.address}"\nca = "ca.crt"')
        assert await store.pull(parse("upstream.example/me/app:v1"))

    async def test_none(self, secure, configured) -> None:
        store = configured(f'server = "https://{secure.address}"')
        with pytest.raises(RegistryUnavailableError) as caught:
            await store.pull(parse("upstream.example/me/app:v1"))
        text = str(caught.value)
        assert "manifest v1: its certificate is not trusted: self-signed certificate" in text
        assert "name it as `ca` in the registry's hosts.toml" in text

    async def test_one_that_is_not_verified(self, secure, configured) -> None:
        store = configured(f'server = "https://{secure.address}"\nskip_verify = true')
        assert await store.pull(parse("upstream.example/me/app:v1"))

    async def test_of_another_name(self, secure, configured) -> None:
        port = secure.address.rpartition(":")[2]
        store = configured(f'server = "https://localhost:{port}"\nca = "ca.crt"')
        with pytest.raises(RegistryUnavailableError) as caught:
            await store.pull(parse("upstream.example/me/app:v1"))
        assert "Hostname mismatch, certificate is not valid for 'localhost'" in str(caught.value)
        assert "ask by a name that is in the certificate" in str(caught.value)

    async def test_expired(self, authority: Authority, serve, configured) -> None:
        served = await serve(authority.server(authority.issue(None, serving=True, days=-1)))
        store = configured(f'server = "https://{served.address}"\nca = "ca.crt"')
        with pytest.raises(RegistryUnavailableError, match=r"certificate has expired \(renew it"):
            await store.pull(parse("upstream.example/me/app:v1"))

    @pytest.mark.parametrize("how", ["pair", "docker"])
    async def test_a_clients_certificate(
        self, authority: Authority, serve, configured, tmp_path: Path, how: str
    ) -> None:
        context = authority.server(authority.issue(None, serving=True))
        context.verify_mode = ssl.CERT_REQUIRED
        served = await serve(context)
        served.image("me/app:v1", MODULE)
        certificate, key = authority.issue("node")
        store = configured(f'server = "https://{served.address}"\nca = "ca.crt"')
        with pytest.raises(RegistryUnavailableError, match=r"CERTIFICATE_REQUIRED|(?i:closed|reset)"):
            await store.pull(parse("upstream.example/me/app:v1"))
        reference = parse("upstream.example/me/app:v1")
        if how == "pair":
            configured(
                f'server = "https://{served.address}"\nca = "ca.crt"\nclient = [["{certificate}", "{key}"]]'
            )
        else:
            directory = tmp_path / "certs.d" / served.address
            directory.mkdir()
            (directory / "ca.crt").write_text(authority.pem)
            (directory / "node.cert").write_bytes(certificate.read_bytes())
            (directory / "node.key").write_bytes(key.read_bytes())
            reference = served.reference("me/app:v1")
        assert await store.pull(reference)

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            ('ca = "missing.crt"', "missing.crt: No such file or directory"),
            ('ca = "hosts.toml"', "hosts.toml: no certificates of authorities in it"),
            ('client = "ca.crt"', "ca.crt: no certificate with its key"),
        ],
    )
    async def test_a_file_that_cannot_be_used(self, secure, configured, line: str, error: str) -> None:
        store = configured(f'server = "https://{secure.address}"\n{line}')
        with pytest.raises(RegistryHostsError) as caught:
            await store.pull(parse("upstream.example/me/app:v1"))
        assert error in str(caught.value)
        assert secure.requests == []

    async def test_plain_http_where_tls_was_spoken_of(self, registry, configured) -> None:
        registry.image("me/app:v1", MODULE)
        store = configured(f'server = "http://{registry.address}"\nskip_verify = true')
        assert await store.pull(parse("upstream.example/me/app:v1"))

    async def test_the_machines_authorities(
        self, secure, stores, authority: Authority, tmp_path: Path, monkeypatch
    ) -> None:
        """As OpenSSL's and Go's programs find them."""
        (tmp_path / "machine.pem").write_text(authority.pem)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "machine.pem"))
        assert await stores().pull(secure.reference("me/app:v1"))


class TestBrokenBlobs:
    """A host that breaks off a blob is asked for the rest of it; then the next one is."""

    @staticmethod
    def breaking(registry, *, at: int, ranges: bool = True, times: int = 1):
        """Serves a blob, and ends the connection `times` times after `at` bytes of what was asked for."""
        left = [times]

        async def answer(request: web.Request) -> web.StreamResponse:
            start = int(request.headers.get("Range", "bytes=0-")[6:-1]) if ranges else 0
            response = web.StreamResponse(status=206 if start else 200)
            if start:
                response.headers["Content-Range"] = f"bytes {start}-{len(MODULE) - 1}/{len(MODULE)}"
            response.content_length = len(MODULE) - start
            await response.prepare(request)
            left[0] -= 1
            if left[0] < 0:
                await response.write(MODULE[start:])
                return response
            await response.write(MODULE[start : start + at])
            assert request.transport is not None
            request.transport.close()
            return response

        registry.faults["GET /v2/me/app/blobs"] = answer

    async def test_is_continued(self, registry, store) -> None:
        registry.image("me/app:v1", MODULE)
        self.breaking(registry, at=300_000, times=3)
        image = await store.pull(registry.reference("me/app:v1"))
        assert image.module.read_bytes() == MODULE
        asked = [request.headers.get("Range") for request in registry.requests if "/blobs/" in request.path]
        assert asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]

    async def test_is_begun_again_by_a_host_that_knows_no_ranges(self, registry, store) -> None:
        registry.image("me/app:v1", MODULE)
        self.breaking(registry, at=300_000, ranges=False)
        image = await store.pull(registry.reference("me/app:v1"))
        assert image.module.read_bytes() == MODULE

    async def test_is_given_up_after_a_while(self, registry, store) -> None:
        registry.image("me/app:v1", MODULE)
        self.breaking(registry, at=1000, times=100)
        with pytest.raises(RegistryUnavailableError, match="ended after 1000 bytes"):
            await store.pull(registry.reference("me/app:v1"))
        assert sum("/blobs/" in request.path for request in registry.requests) == 6

    async def test_is_given_up_when_nothing_more_comes(self, registry, store) -> None:
        registry.image("me/app:v1", MODULE)
        self.breaking(registry, at=0, times=100)
        with pytest.raises(RegistryUnavailableError):
            await store.pull(registry.reference("me/app:v1"))
        assert sum("/blobs/" in request.path for request in registry.requests) == 1

    @pytest.mark.parametrize("given", ["", "bytes 0-99/100", "bytes 300000-400000/1024008", "lines 1-2/3"])
    async def test_with_another_part_than_was_asked_for(self, registry, store, given: str) -> None:
        registry.image("me/app:v1", MODULE)

        async def answer(request: web.Request) -> web.StreamResponse:
            if "Range" in request.headers:
                return web.Response(status=206, body=MODULE[:100], headers={"Content-Range": given})
            return await registry.cut(MODULE[:300_000], len(MODULE))(request)

        registry.faults["GET /v2/me/app/blobs"] = answer
        with pytest.raises(RegistryProtocolError, match="asked for what follows byte 300000") as caught:
            await store.pull(registry.reference("me/app:v1"))
        assert repr(given) in str(caught.value)

    async def test_is_continued_by_the_next_host(self, registry, other_registry, configured) -> None:
        registry.image("me/app:v1", MODULE)
        self.breaking(other_registry, at=-1, times=0)
        registry.faults["GET /v2/me/app/blobs"] = registry.cut(MODULE[:300_000], len(MODULE))
        store = configured(f'server = "http://{other_registry.address}"\n[host."http://{registry.address}"]')
        image = await store.pull(parse("upstream.example/me/app:v1"))
        assert image.module.read_bytes() == MODULE
        assert [request.headers["Range"] for request in other_registry.requests] == ["bytes=300000-"]


@pytest.mark.parametrize("cut", [False, True])
async def test_a_mirror_that_gives_something_else_is_not_believed(
    registry, other_registry, configured, cut: bool
) -> None:
    wrong = bytes(len(MODULE))
    registry.image("me/app:v1", MODULE)
    other_registry.image("me/app:v1", MODULE)
    registry.faults["GET /v2/me/app/blobs"] = (
        registry.cut(wrong[:300_000], len(MODULE)) if cut else registry.body(wrong)
    )
    store = configured(f'server = "http://{other_registry.address}"\n[host."http://{registry.address}"]')
    image = await store.pull(parse("upstream.example/me/app:v1"))
    assert image.module.read_bytes() == MODULE
    other_registry.faults["GET /v2/me/app/blobs"] = registry.body(wrong)
    image.module.unlink()
    with pytest.raises(VerificationError):
        await store.pull(parse("upstream.example/me/app:v1"))


async def test_a_push_goes_to_the_one_that_takes_it(registry, other_registry) -> None:
    """Not to a mirror."""
    reference = parse("upstream.example/me/app:v1")
    hosts = (
        Host(f"http://{registry.address}/v2", frozenset({"pull", "resolve"})),
        Host(f"http://{other_registry.address}/v2"),
    )
    other_registry.faults["PUT"] = other_registry.status(201)
    repository = Repository(reference, insecure=False, hosts=hosts)
    await asyncio.to_thread(repository.upload_manifest, MANIFEST, b"{}")
    repository.close()
    assert registry.requests == []
    assert other_registry.paths() == ["PUT manifests/v1"]
