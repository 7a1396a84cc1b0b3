"""A registry's hosts, as containerd's hosts.toml names them: who is asked for what, and who gets what."""

import asyncio
import base64
import json
import re

import pytest
from aiohttp import web

from oci import digests
from oci.credentials import Credentials
from oci.errors import (
    NotFoundError,
    RegistryHostsError,
    RegistryUnavailableError,
    UnauthorizedError,
    VerificationError,
)
from oci.hosts import Host
from oci.manifest import MANIFEST
from oci.reference import parse
from oci.registry import Repository

MODULE = b"\0asm\1\0\0\0" + bytes(range(256)) * 4000
ME = Credentials("me", "pass:word")
BASIC = "Basic " + base64.b64encode(b"me:pass:word").decode()


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
