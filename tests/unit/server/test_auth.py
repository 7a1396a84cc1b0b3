"""Who gets in, over real sockets, with an API server that says what the test lets it say."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from serving import serving

from vkubelet.api.client import ApiClient
from vkubelet.api.credentials import Credentials
from vkubelet.server import auth_reviews
from vkubelet.server.app import KubeletServer
from vkubelet.server.auth import AlwaysAllow, KubeletAuth
from vkubelet.server.auth_reviews import AccessReviewer, TokenReviewer
from vkubelet.server.tls import harden

ANN = "a-secret-token"
UNKNOWN = "unknown"
FORBIDDEN = "Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{subresources}])\n"


@dataclass
class Cluster:
    """Answers reviews by two tables; keeps what it was asked."""

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    allowed: set[tuple[str, str, str]] = field(default_factory=set)
    token_reviews: list[dict[str, Any]] = field(default_factory=list)
    access_reviews: list[dict[str, Any]] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    silent: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    def __post_init__(self) -> None:
        self.silent.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.method == "POST"
        review = await request.json()
        await self.silent.wait()
        asked = {
            "/apis/authentication.k8s.io/v1/tokenreviews": self.token_reviews,
            "/apis/authorization.k8s.io/v1/subjectaccessreviews": self.access_reviews,
        }[request.path]
        asked.append(review)
        if self.failures:
            return web.json_response({"kind": "Status", "message": "no"}, status=self.failures.pop(0))
        if review["kind"] == "TokenReview":
            user = self.users.get(review["spec"]["token"])
            status: dict[str, Any] = (
                {"authenticated": True, "user": user} if user else {"error": "no such token"}
            )
        else:
            spec = review["spec"]
            attributes = spec["resourceAttributes"]
            key = (spec["user"], attributes["verb"], attributes["subresource"])
            status = {"allowed": key in self.allowed}
        return web.json_response({**review, "status": status}, status=201)


class Echo:
    """A route that tells the caller, and one that streams for as long as the client wants."""

    def __init__(self) -> None:
        self.called = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/stats/summary", self.answer),
            web.get("/exec/{namespace}/{pod}/{container}", self.upgrade),
            web.post("/exec/{namespace}/{pod}/{container}", self.answer),
        ]

    def end(self) -> None:
        pass

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.called += 1
        return web.Response(text="here")

    async def upgrade(self, request: web.Request) -> web.StreamResponse:
        self.called += 1
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data)
        return socket


@dataclass
class Kubelet:
    url: str
    cluster: Cluster
    session: aiohttp.ClientSession
    echo: Echo
    authority: Any
    server: KubeletServer

    async def ask(
        self, path: str, method: str = "GET", token: str | None = ANN, **more: Any
    ) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.request(method, self.url + path, headers=headers, **more) as response:
            assert "Server" not in response.headers
            return response.status, await response.text()


Start = Callable[..., Any]


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_reviews, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(auth_reviews, "_LONGEST_DELAY", 0.001)


@pytest.fixture
async def start(authority, server_files, tmp_path: Path, fast_retries) -> AsyncIterator[Start]:
    """Starts a server that asks a scripted API server; `start(anonymous=..., ttl=...)`."""
    async with AsyncExitStack() as ends:

        async def begin(*, anonymous: bool = False, ttl: float = 300.0, authorizer: Any = None) -> Kubelet:
            cluster = Cluster(
                {ANN: {"username": "ann", "uid": "7", "groups": ["dev"], "extra": {"k": ["v"]}}}
            )
            cluster.url = await ends.enter_async_context(serving(cluster.handle))
            client = ApiClient(Credentials(cluster.url), tmp_path / "kubeconfig")
            ends.push_async_callback(client.close)
            reviewer = AccessReviewer(client, authorized_ttl=ttl, unauthorized_ttl=ttl)
            tokens = TokenReviewer(client, cache_ttl=ttl)
            auth = KubeletAuth("here", authorizer or reviewer, tokens=tokens, anonymous=anonymous)
            echo = Echo()
            server = KubeletServer(
                address="127.0.0.1",
                port=0,
                tls=authority.server(server_files),
                healthy=lambda: None,
                auth=auth,
                groups=[echo],
            )
            port = await server.start()
            ends.push_async_callback(server.close)
            connector = aiohttp.TCPConnector(ssl=authority.client(None))
            session = await ends.enter_async_context(aiohttp.ClientSession(connector=connector))
            return Kubelet(f"https://127.0.0.1:{port}", cluster, session, echo, authority, server)

        yield begin


async def test_the_api_server_is_asked_as_a_kubelet_asks(start):
    kubelet = await start()
    kubelet.cluster.allowed.add(("ann", "get", "stats"))
    assert await kubelet.ask("/stats/summary") == (200, "here")
    assert kubelet.cluster.token_reviews == [
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": ANN}}
    ]
    assert [review["spec"] for review in kubelet.cluster.access_reviews] == [
        {
            "resourceAttributes": {
                "verb": "get",
                "version": "v1",
                "resource": "nodes",
                "subresource": "stats",
                "name": "here",
            },
            "user": "ann",
            "uid": "7",
            "groups": ["dev", "system:authenticated"],
            "extra": {"k": ["v"]},
        }
    ]


async def test_a_certificates_user_is_asked_about_with_its_groups_and_id(start):
    kubelet = await start()
    kubelet.cluster.allowed.add(("ben", "get", "stats"))
    context = kubelet.authority.client(kubelet.authority.issue("ben", ("ops",)))
    # A certificate comes first: the token is not looked at.
    assert await kubelet.ask("/stats/summary", token=UNKNOWN, ssl=context) == (200, "here")
    assert kubelet.cluster.token_reviews == []
    spec = kubelet.cluster.access_reviews[0]["spec"]
    assert (spec["user"], spec["groups"]) == ("ben", ["ops", "system:authenticated"])
    assert spec["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")


@pytest.mark.parametrize(
    "header", [None, "Basic dTpw", "Bearer ", "Bearer unknown", "Bearer  two", "Bearer \xff"]
)
@pytest.mark.parametrize("path", ["/stats/summary", "/healthz", "/nothing", "/../x"])
async def test_who_is_nobody_is_told_nothing(start, header, path):
    kubelet = await start()
    headers = {"Authorization": header} if header else {}
    async with kubelet.session.get(kubelet.url + path, headers=headers) as response:
        assert (response.status, await response.text()) == (401, "Unauthorized")
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (kubelet.echo.called, kubelet.cluster.access_reviews) == (0, [])


@pytest.mark.parametrize(
    ("method", "path", "verb", "subresources"),
    [
        ("GET", "/stats/summary", "get", "stats"),
        ("GET", "/healthz", "get", "healthz proxy"),
        ("GET", "/pods", "get", "pods proxy"),
        ("POST", "/exec/default/web/main", "create", "proxy"),
        ("GET", "/nothing", "get", "proxy"),
        ("DELETE", "/metrics", "delete", "metrics"),
        ("OPTIONS", "/healthz", "", "healthz proxy"),
        ("GET", "/%6detrics/x", "get", "metrics"),
        ("GET", "/exec/..%2Fmetrics/a/b", "get", "proxy"),
    ],
)
async def test_who_may_not_is_told_what_not(start, method, path, verb, subresources):
    kubelet = await start()
    text = FORBIDDEN.format(user="ann", verb=verb, subresources=subresources)
    assert await kubelet.ask(path, method) == (403, text)
    asked = [review["spec"]["resourceAttributes"]["subresource"] for review in kubelet.cluster.access_reviews]
    assert asked == subresources.split()
    assert kubelet.echo.called == 0


async def test_the_finer_permission_suffices_and_so_does_the_coarser(start):
    kubelet = await start()
    kubelet.cluster.allowed = {("ann", "get", "healthz")}
    assert await kubelet.ask("/healthz") == (200, "ok")
    other = await start()
    other.cluster.allowed = {("ann", "get", "proxy")}
    assert await other.ask("/healthz") == (200, "ok")
    assert await other.ask("/stats/summary") == (
        403,
        FORBIDDEN.format(user="ann", verb="get", subresources="stats"),
    )


async def test_what_does_not_exist_is_told_to_those_who_may_ask(start):
    kubelet = await start()
    kubelet.cluster.allowed = {("ann", "get", "proxy"), ("ann", "delete", "stats")}
    assert await kubelet.ask("/nothing") == (404, "404: Page Not Found")
    assert await kubelet.ask("/stats/summary", "DELETE") == (405, "405: Method Not Allowed")


async def test_anonymous_callers_where_they_are_let_in(start):
    kubelet = await start(anonymous=True)
    kubelet.cluster.allowed = {("system:anonymous", "get", "healthz")}
    assert await kubelet.ask("/healthz", token=None) == (200, "ok")
    assert kubelet.cluster.access_reviews[0]["spec"]["groups"] == ["system:unauthenticated"]
    assert await kubelet.ask("/stats/summary", token=None) == (
        403,
        FORBIDDEN.format(user="system:anonymous", verb="get", subresources="stats"),
    )
    # Bad credentials are not the same as none.
    assert await kubelet.ask("/healthz", token=UNKNOWN) == (401, "Unauthorized")


async def test_always_allow_asks_nobody_but_who_it_is(start):
    kubelet = await start(authorizer=AlwaysAllow())
    assert await kubelet.ask("/stats/summary") == (200, "here")
    assert await kubelet.ask("/stats/summary", token=None) == (401, "Unauthorized")
    assert kubelet.cluster.access_reviews == []


async def test_answers_hold_and_the_same_question_is_asked_once(start):
    kubelet = await start()
    kubelet.cluster.allowed = {("ann", "get", "stats")}
    answers = await asyncio.gather(*(kubelet.ask("/stats/summary") for _ in range(20)))
    assert answers == [(200, "here")] * 20
    kubelet.cluster.allowed.clear()
    kubelet.cluster.users.clear()
    assert await kubelet.ask("/stats/summary") == (200, "here")
    assert (len(kubelet.cluster.token_reviews), len(kubelet.cluster.access_reviews)) == (1, 1)


async def test_without_a_cache_what_is_taken_away_is_gone(start):
    kubelet = await start(ttl=0.0)
    kubelet.cluster.allowed = {("ann", "get", "stats")}
    assert (await kubelet.ask("/stats/summary"))[0] == 200
    kubelet.cluster.allowed.clear()
    assert (await kubelet.ask("/stats/summary"))[0] == 403
    kubelet.cluster.users.clear()
    assert (await kubelet.ask("/stats/summary"))[0] == 401


@pytest.mark.parametrize("status", [429, 500, 504])
async def test_a_moments_failure_is_asked_about_again(start, status):
    kubelet = await start()
    kubelet.cluster.allowed = {("ann", "get", "stats")}
    kubelet.cluster.failures = [status] * 4
    assert await kubelet.ask("/stats/summary") == (200, "here")
    assert len(kubelet.cluster.token_reviews) == 5


@pytest.mark.parametrize("failures", [[403], [503], [500] * 5])
async def test_an_api_server_that_fails_lets_nobody_in_and_nothing_is_kept(start, failures, caplog):
    kubelet = await start()
    kubelet.cluster.allowed = {("ann", "get", "stats")}
    kubelet.cluster.failures = list(failures)
    with caplog.at_level(logging.DEBUG):
        assert await kubelet.ask("/stats/summary") == (401, "Unauthorized")
    assert any("unable to authenticate" in message for message in caplog.messages)
    assert ANN not in caplog.text
    context = kubelet.authority.client(kubelet.authority.issue("ben"))
    kubelet.cluster.allowed.add(("ben", "get", "stats"))
    kubelet.cluster.failures = list(failures)
    assert await kubelet.ask("/stats/summary", token=None, ssl=context) == (
        500,
        "Authorization error (user=ben, verb=get, resource=nodes, subresource=stats)",
    )
    assert await kubelet.ask("/stats/summary", token=None, ssl=context) == (200, "here")
    assert await kubelet.ask("/stats/summary") == (200, "here")


async def test_an_api_server_that_is_gone(start, authority, server_files, tmp_path):
    client = ApiClient(Credentials("http://127.0.0.1:1"), tmp_path / "kubeconfig")
    try:
        kubelet = await start(authorizer=AccessReviewer(client, authorized_ttl=1, unauthorized_ttl=1))
        assert await kubelet.ask("/healthz") == (
            500,
            "Authorization error (user=ann, verb=get, resource=nodes, subresource=healthz)",
        )
    finally:
        await client.close()


async def test_an_api_server_that_is_silent_is_waited_for_until_the_deadline(start, monkeypatch):
    monkeypatch.setattr(auth_reviews, "_REQUEST_TIMEOUT", 0.05)
    kubelet = await start()
    kubelet.cluster.silent.clear()
    assert await kubelet.ask("/stats/summary") == (401, "Unauthorized")
    kubelet.cluster.silent.set()


async def test_a_client_that_leaves_while_the_api_server_thinks_leaves_nothing(start, eventually):
    kubelet = await start()
    before = asyncio.all_tasks()
    kubelet.cluster.silent.clear()
    asking = [asyncio.ensure_future(kubelet.ask("/stats/summary")) for _ in range(5)]
    await eventually(lambda: len(asyncio.all_tasks()) > len(before) + 10)
    for each in asking:
        each.cancel()
    await asyncio.wait(asking)
    kubelet.cluster.silent.set()
    await eventually(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})


async def test_tokens_are_not_kept(start):
    kubelet = await start()
    token = "".join(("Very", "Secret", "Token", "Nobody", "Else", "Has"))
    kubelet.cluster.users[token] = {"username": "ann"}
    kubelet.cluster.allowed = {("ann", "get", "stats")}
    assert (await kubelet.ask("/stats/summary", token=token))[0] == 200
    caches = [each for each in gc.get_objects() if isinstance(each, auth_reviews.AnswerCache)]
    kept = [key for cache in caches for key in cache._answers]
    assert kept
    assert token.encode() not in kept
    assert token not in repr([vars(cache) for cache in caches])


async def test_both_answers_at_once_are_none(start):
    kubelet = await start()

    async def contradict(request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": {"allowed": True, "denied": True}})

    async with serving(contradict) as url:
        client = ApiClient(Credentials(url), Path("kubeconfig"))
        reviewer = AccessReviewer(client, authorized_ttl=1, unauthorized_ttl=1)
        other = await start(authorizer=reviewer)
        assert (await other.ask("/stats/summary"))[0] == 500
        await client.close()
    assert kubelet.echo.called == 0


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[]", b'{"status":{"allowed":"yes"}}', b"null"])
async def test_an_answer_that_cannot_be_read_is_a_failure(start, body):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    async with serving(answer) as url:
        client = ApiClient(Credentials(url), Path("kubeconfig"))
        other = await start(authorizer=AccessReviewer(client, authorized_ttl=1, unauthorized_ttl=1))
        assert (await other.ask("/stats/summary"))[0] == 500
        await client.close()


async def test_an_answer_without_a_word_is_no(start):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": None} if request.path.endswith("x") else {})

    async with serving(answer) as url:
        client = ApiClient(Credentials(url), Path("kubeconfig"))
        other = await start(authorizer=AccessReviewer(client, authorized_ttl=1, unauthorized_ttl=1))
        assert (await other.ask("/stats/summary"))[0] == 403
        await client.close()


async def test_a_websocket_is_let_in_like_any_other_request(start):
    kubelet = await start()
    url = f"{kubelet.url}/exec/default/web/main"
    protocols = ("v5.channel.k8s.io",)
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {ANN}"}, 403)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await kubelet.session.ws_connect(url, headers=headers, protocols=protocols)
        assert refused.value.status == status
    assert kubelet.echo.called == 0
    other = await start()
    other.cluster.allowed = {("ann", "get", "proxy")}
    encoded = base64.urlsafe_b64encode(ANN.encode()).decode().rstrip("=")
    both = (f"base64url.bearer.authorization.k8s.io.{encoded}", *protocols)
    async with other.session.ws_connect(f"{other.url}/exec/default/web/main", protocols=both) as socket:
        assert socket.protocol == "v5.channel.k8s.io"
        await socket.send_bytes(b"x")
        assert await socket.receive_bytes() == b"x"


async def test_a_refused_upgrade_ends_the_connection(start):
    kubelet = await start()
    headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
    async with kubelet.session.post(f"{kubelet.url}/exec/default/web/main", headers=headers) as response:
        assert response.status == 401
        assert response.headers["Connection"] == "close"
    assert kubelet.echo.called == 0


async def test_a_stream_outlives_the_token_and_the_permission_it_began_with(start):
    kubelet = await start(ttl=0.0)
    kubelet.cluster.allowed = {("ann", "get", "proxy")}
    url = f"{kubelet.url}/exec/default/web/main"
    headers = {"Authorization": f"Bearer {ANN}"}
    async with kubelet.session.ws_connect(url, headers=headers) as socket:
        kubelet.cluster.users.clear()
        kubelet.cluster.allowed.clear()
        assert (await kubelet.ask("/stats/summary"))[0] == 401
        await socket.send_bytes(b"still")
        assert await socket.receive_bytes() == b"still"


async def test_another_ca_ends_handshakes_that_began_under_the_former(
    start, stranger, server_files, eventually
):
    kubelet = await start(authorizer=AlwaysAllow())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server_files)
    context.load_verify_locations(cadata=stranger.pem)
    ours = kubelet.authority.client(kubelet.authority.issue("ann"))
    port = int(kubelet.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    await eventually(lambda: kubelet.server.connections == 1)
    kubelet.server.use_tls(harden(context))
    with pytest.raises((ConnectionError, ssl.SSLError)):
        async with asyncio.timeout(30):
            await writer.start_tls(ours, server_hostname="127.0.0.1")
    writer.close()
    await eventually(lambda: kubelet.server.connections == 0)


async def test_another_ca_leaves_nobody_waiting_who_has_just_come(start, stranger, server_files, eventually):
    kubelet = await start(authorizer=AlwaysAllow())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server_files)
    context.load_verify_locations(cadata=stranger.pem)
    theirs = kubelet.authority.client(stranger.issue("ben"))
    port = int(kubelet.url.rpartition(":")[2])
    for turns in range(4):
        before = kubelet.server.connections
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        while kubelet.server.connections == before:  # noqa: ASYNC110  the very moment, not soon after it
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        kubelet.server.use_tls(harden(context))
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            async with asyncio.timeout(10):
                await writer.start_tls(theirs, server_hostname="127.0.0.1")
        writer.close()
    await eventually(lambda: kubelet.server.connections == 0)


async def test_another_ca_ends_idle_connections_and_spares_streams(start, stranger, server_files, eventually):
    kubelet = await start(authorizer=AlwaysAllow())
    ours = kubelet.authority.client(kubelet.authority.issue("ann"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server_files)
    context.load_verify_locations(cadata=stranger.pem)
    theirs = kubelet.authority.client(stranger.issue("ben"))
    url = f"{kubelet.url}/exec/default/web/main"
    connector = aiohttp.TCPConnector(ssl=ours)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect(url) as stream,
        session.ws_connect(url) as other,
    ):
        async with session.get(f"{kubelet.url}/healthz") as response:
            assert response.status == 200
        assert kubelet.server.connections == 3
        kubelet.server.use_tls(harden(context))
        await eventually(lambda: kubelet.server.connections == 2)
        for each in (stream, other):
            await each.send_bytes(b"still")
            assert await each.receive_bytes() == b"still"
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await session.get(f"{kubelet.url}/healthz")
        assert await kubelet.ask("/healthz", token=None, ssl=theirs) == (200, "ok")
