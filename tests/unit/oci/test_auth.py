"""Challenges answered, and what a password or token must never do."""

import base64
import json
import logging
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from oci.auth import Challenge, parse_challenges
from oci.credentials import Credentials
from oci.errors import RegistryProtocolError, RegistryUnavailableError, UnauthorizedError
from oci.images import ImageStore

ME = Credentials("me", "pass:word")
BASIC = "Basic " + base64.b64encode(b"me:pass:word").decode()


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        (
            'Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"',
            [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"})],
        ),
        ("BASIC Realm=here", [("basic", {"realm": "here"})]),
        (
            'Negotiate, Basic realm="a \\"b\\"", Bearer realm = "x" , error=y',
            [("negotiate", {}), ("basic", {"realm": 'a "b"'}), ("bearer", {"realm": "x", "error": "y"})],
        ),
        ("", []),
        ('realm="x"', []),
    ],
)
def test_challenges(header: str, challenges: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(header) == [Challenge(*challenge) for challenge in challenges]


@given(st.text() | st.text('Bb ,="\\', max_size=30))
def test_any_header_is_read(header: str) -> None:
    for challenge in parse_challenges(header):
        assert challenge.scheme


class TokenService:
    """Makes a registry ask for a token of another server's."""

    def __init__(self, registry, service) -> None:
        self.registry = registry
        self.service = service
        self.challenge = (
            f'Bearer realm="http://{service.address}/token",service="reg",scope="repository:me/app:pull"'
        )
        self.token = json.dumps({"token": "abc"}).encode()
        registry.image("me/app:v1")
        registry.faults["/v2/"] = self.answer
        service.faults["GET /token"] = self.give

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") == "Bearer abc":
            return self.registry.serve(request)
        headers = {"WWW-Authenticate": self.challenge}
        return web.json_response({"errors": [{"message": "denied"}]}, status=401, headers=headers)

    async def give(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self.token)


@pytest.fixture
def tokens(registry, other_registry) -> TokenService:
    return TokenService(registry, other_registry)


async def test_an_anonymous_token_is_asked_for_once(tokens: TokenService, registry, store: ImageStore):
    image = await store.pull(registry.reference("me/app:v1"))
    assert image.module.exists()
    (asked,) = tokens.service.requests
    assert dict(asked.query) == {"service": "reg", "scope": "repository:me/app:pull"}
    assert "Authorization" not in asked.headers
    assert registry.paths() == ["GET manifests/v1", "GET manifests/v1", f"GET blobs/{image.module_digest}"]


@pytest.mark.parametrize(
    "token", [b'{"access_token":"abc"}', b'{"token":"","access_token":"abc","expires_in":3}']
)
async def test_a_token_has_two_names(tokens: TokenService, registry, store: ImageStore, token: bytes):
    tokens.token = token
    assert await store.pull(registry.reference("me/app:v1"))


async def test_a_password_buys_a_token(tokens: TokenService, registry, store: ImageStore):
    assert await store.pull(registry.reference("me/app:v1"), credentials=ME)
    assert tokens.service.requests[0].headers["Authorization"] == BASIC
    assert all(request.headers.get("Authorization") != BASIC for request in registry.requests)


async def test_an_identity_token_buys_a_token(tokens: TokenService, registry, store: ImageStore):
    """As OAuth 2's refresh token (distribution's docs/spec/auth/oauth.md)."""
    posted = []

    async def give(request: web.Request) -> web.StreamResponse:
        posted.append(dict(await request.post()))
        return web.Response(body=b'{"access_token":"abc"}')

    tokens.service.faults = {"POST /token": give}
    assert await store.pull(registry.reference("me/app:v1"), credentials=Credentials("", "", "refresh-me"))
    assert posted == [
        {
            "grant_type": "refresh_token",
            "service": "reg",
            "scope": "repository:me/app:pull",
            "client_id": "vkubelet",
            "refresh_token": "refresh-me",
        }
    ]
    assert all("refresh-me" not in str(request.headers) for request in registry.requests)


async def test_a_registry_token_is_sent_as_it_is(tokens: TokenService, registry, store: ImageStore):
    assert await store.pull(registry.reference("me/app:v1"), credentials=Credentials("", "", "", "abc"))
    assert tokens.service.requests == []
    with pytest.raises(RegistryProtocolError, match="no text that can be sent"):
        await store.pull(registry.reference("me/app:v1"), credentials=Credentials("", "", "", "a\nb: c"))


async def test_a_refused_token_is_not_tried_for_ever(tokens: TokenService, registry, store: ImageStore):
    tokens.token = b'{"token":"expired"}'
    with pytest.raises(UnauthorizedError, match="answered 401 Unauthorized: denied"):
        await store.pull(registry.reference("me/app:v1"))
    assert len(registry.requests) == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, UnauthorizedError),
        (403, UnauthorizedError),
        (404, RegistryProtocolError),
        (429, RegistryUnavailableError),
        (503, RegistryUnavailableError),
    ],
)
async def test_a_token_service_that_refuses(tokens: TokenService, registry, store, status: int, error: type):
    tokens.service.faults["GET /token"] = registry.status(status, "", {"Retry-After": "5"})
    with pytest.raises(error, match=f"token service 127.0.0.1 answered {status}") as caught:
        await store.pull(registry.reference("me/app:v1"), credentials=ME)
    assert type(caught.value) is error
    assert getattr(caught.value, "retry_after", 5.0) == 5.0
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    "token",
    [b"", b"no", b"{}", b'{"token":1}', b'{"token":"a\\nb: c"}', b'{"token":"\xc3\xa9"}', b"[" * 9000],
)
async def test_a_token_service_that_gives_none(tokens: TokenService, registry, store, token: bytes):
    tokens.token = token
    with pytest.raises(RegistryProtocolError, match=r"token service 127\.0\.0\.1 gave no token"):
        await store.pull(registry.reference("me/app:v1"))


@pytest.mark.parametrize("realm", ["token", "ftp://h/token", "http://[x", "file:///etc/passwd"])
async def test_a_realm_that_is_no_token_service(tokens: TokenService, registry, store, realm: str):
    tokens.challenge = f'Bearer realm="{realm}"'
    with pytest.raises(RegistryProtocolError, match="the token service"):
        await store.pull(registry.reference("me/app:v1"), credentials=ME)


async def test_no_password_leaves_tls(tls_registry, other_registry, stores):
    TokenService(tls_registry, other_registry)
    with pytest.raises(RegistryProtocolError, match="is not over TLS"):
        await stores().pull(tls_registry.reference("me/app:v1"), credentials=ME)
    assert other_registry.requests == []


async def test_basic_is_only_answered_with_credentials(registry, store: ImageStore):
    registry.image("me/app:v1")

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") == BASIC:
            return registry.serve(request)
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="evil.example"'})

    registry.faults["/v2/"] = answer
    reference = registry.reference("me/app:v1")
    with pytest.raises(UnauthorizedError):
        await store.pull(reference)
    assert await store.pull(reference, credentials=ME)


async def test_a_redirect_does_not_carry_the_token_away(tokens: TokenService, registry, store: ImageStore):
    image = await store.pull(registry.reference("me/app:v1"))
    image.module.unlink()
    tokens.service.blobs = registry.blobs
    location = f"http://{tokens.service.address}/store/{image.module_digest}"
    registry.faults = {"GET /v2/me/app/blobs": registry.redirect(location), **registry.faults}
    await store.pull(registry.reference("me/app:v1"))
    (fetched,) = [request for request in tokens.service.requests if "/store/" in request.path]
    assert "Authorization" not in fetched.headers


async def test_the_users_own_log_ins_are_not_used(
    registry, store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Neither ~/.netrc, which requests reads, nor Docker's configuration and helpers, which oras would."""
    (tmp_path / ".docker").mkdir()
    docker = {"auths": {registry.address: {"auth": base64.b64encode(b"my:own").decode()}}}
    (tmp_path / ".docker" / "config.json").write_text(json.dumps(docker))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login my password own\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ORAS_USER", "my")
    monkeypatch.setenv("ORAS_PASS", "own")
    registry.image("me/app:v1")
    assert await store.pull(registry.reference("me/app:v1"))
    registry.faults["/v2/"] = registry.status(401, "", {"WWW-Authenticate": "Basic realm=x"})
    with pytest.raises(UnauthorizedError):
        await store.pull(registry.reference("me/app:v1"))
    assert all("Authorization" not in request.headers for request in registry.requests)


async def test_no_secret_is_logged_or_printed(
    tokens: TokenService, registry, store: ImageStore, caplog: pytest.LogCaptureFixture, capfd
):
    caplog.set_level(logging.DEBUG)
    location = f"http://{tokens.service.address}/store/x?signature=secret"
    registry.faults = {"GET /v2/me/app/blobs": registry.redirect(location), **registry.faults}
    tokens.service.faults["GET /store"] = registry.status(403, "no")
    with pytest.raises(UnauthorizedError) as caught:
        await store.pull(registry.reference("me/app:v1"), credentials=ME)
    printed = capfd.readouterr()
    everything = caplog.text + printed.out + printed.err + str(caught.value) + repr(ME)
    for secret in ("secret", "word", "abc", BASIC):
        assert secret not in everything
