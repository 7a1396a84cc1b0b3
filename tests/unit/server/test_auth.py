"""Who gets in, over real sockets, with an API server that says what the test lets it say."""

from __future__ import annotations

import base64

import aiohttp
import pytest
from reviewing import ANN

from vkubelet.server.auth import AlwaysAllow

UNKNOWN = "unknown"
FORBIDDEN = "Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{subresources}])\n"


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
