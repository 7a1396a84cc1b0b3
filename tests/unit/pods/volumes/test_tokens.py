"""Tokens: asked for once, renewed in time, kept over an agent's end, and given up only when they are dead."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from serving import serving

from vkubelet.api import times
from vkubelet.api.client import ApiClient
from vkubelet.api.credentials import Credentials
from vkubelet.api.objects import Pod
from vkubelet.api.volumes import ServiceAccountTokenProjection
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.tokens import Tokens, read

HOUR = ServiceAccountTokenProjection(path="token", expiration_seconds=3600)
VAULT = ServiceAccountTokenProjection(path="vault", expiration_seconds=600, audience="vault")


def pod(uid: str = "u1") -> Pod:
    meta = {"name": "p", "namespace": "ns", "uid": uid}
    return msgspec.convert({"metadata": meta, "spec": {"serviceAccountName": "robot"}}, Pod)


def jwt(
    now: float, lifetime: int, uid: str = "u1", audience: Any = ("api",), account: str = "robot"
) -> bytes:
    claims = {
        "exp": int(now) + lifetime,
        "iat": int(now),
        "aud": audience,
        "kubernetes.io": {"namespace": "ns", "pod": {"uid": uid}, "serviceaccount": {"name": account}},
    }
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    return b"e30." + payload + b".c2ln"


class Issuer:
    """The API server's TokenRequest; `failure` is what it answers with instead."""

    def __init__(self) -> None:
        self.url = ""
        self.now = 1_800_000_000.0
        self.skew = 0.0
        self.asked: list[dict[str, Any]] = []
        self.failure: tuple[int, str] | None = None
        self.again = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        if len(self.asked) > 1:
            self.again.set()
        assert request.path == "/api/v1/namespaces/ns/serviceaccounts/robot/token"
        if self.failure is not None:
            code, message = self.failure
            return web.json_response({"code": code, "message": message}, status=code)
        spec = self.asked[-1]["spec"]
        expires = times.rfc3339(self.now + self.skew + spec["expirationSeconds"])
        status = {"token": f"token {len(self.asked)}", "expirationTimestamp": expires}
        return web.json_response({"spec": spec, "status": status})


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    async with serving(made.handle) as made.url:
        yield made


@pytest.fixture
async def tokens(issuer: Issuer) -> AsyncIterator[Tokens]:
    client = ApiClient(Credentials(issuer.url), Path("/nowhere"))
    yield Tokens(client, clock=lambda: issuer.now)
    await client.close()


async def test_a_token_is_bound_to_its_pod_and_asked_for_once(issuer: Issuer, tokens: Tokens) -> None:
    found = await asyncio.gather(*(tokens.get(pod(), HOUR, None) for _ in range(10)))
    assert {token.text for token in found} == {"token 1"}
    assert issuer.asked[0]["spec"] == {
        "audiences": [],
        "expirationSeconds": 3600,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u1"},
    }
    await tokens.get(pod(), VAULT, None)
    assert issuer.asked[1]["spec"]["audiences"] == ["vault"]
    await tokens.get(pod(), HOUR, None)
    assert len(issuer.asked) == 2
    assert "token" not in repr(found[0]).replace("Token(", "")


async def test_it_is_renewed_after_four_fifths_of_its_life_or_a_day(issuer: Issuer, tokens: Tokens) -> None:
    began = issuer.now
    token = await tokens.get(pod(), HOUR, None)
    assert began + 2870 <= token.renew_at <= began + 2880
    long = ServiceAccountTokenProjection(path="t", expiration_seconds=7 * 24 * 3600)
    token = await tokens.get(pod(), long, None)
    assert began + 24 * 3600 - 10 <= token.renew_at <= began + 24 * 3600
    issuer.now = began + 2881
    assert (await tokens.get(pod(), HOUR, None)).text == "token 3"


@pytest.mark.parametrize("ahead", [-3600, 3600])
async def test_its_life_counts_from_when_it_was_asked_for(
    issuer: Issuer, tokens: Tokens, ahead: float
) -> None:
    """A clock that is wrong by more than a token's life has it neither renewed all the time nor too late."""
    issuer.skew = -ahead
    token = await tokens.get(pod(), HOUR, None)
    assert issuer.now + 2870 <= token.renew_at <= issuer.now + 2880
    assert token.expires_at == issuer.now + 3600


async def test_what_was_issued_in_the_future_is_asked_for_anew(issuer: Issuer, tokens: Tokens) -> None:
    kept = jwt(issuer.now + 1000, 3600)
    assert (await tokens.get(pod(), HOUR, kept)).text == "token 1"


async def test_an_old_token_does_while_there_is_no_new_one_and_it_lives(
    issuer: Issuer, tokens: Tokens
) -> None:
    await tokens.get(pod(), HOUR, None)
    issuer.now += 3000
    issuer.failure = (500, "etcd is tired")
    token = await tokens.get(pod(), HOUR, None)
    assert token.text == "token 1"
    assert issuer.now < token.renew_at <= issuer.now + 60
    issuer.now += 700
    with pytest.raises(SetUpError, match="expired and refresh failed: etcd is tired"):
        await tokens.get(pod(), HOUR, None)
    issuer.failure = None
    assert (await tokens.get(pod(), HOUR, None)).text.startswith("token")


@pytest.mark.parametrize("missing", ['serviceaccounts "robot"', 'pods "p"'])
async def test_a_refusal_names_its_cause(issuer: Issuer, tokens: Tokens, missing: str) -> None:
    issuer.failure = (404, f"{missing} not found")
    with pytest.raises(SetUpError, match=f"failed to fetch token: {missing} not found"):
        await tokens.get(pod(), HOUR, None)


@pytest.mark.parametrize("failure", [(403, "no relationship found"), (404, 'pod "p" not found')])
async def test_a_server_that_learns_of_the_pod_later_is_asked_again(
    issuer: Issuer, tokens: Tokens, failure: tuple[int, str]
) -> None:
    issuer.failure = failure
    asked = asyncio.create_task(tokens.get(pod(), HOUR, None))
    async with asyncio.timeout(10):
        await issuer.again.wait()
    issuer.failure = None
    assert (await asked).text.startswith("token")


async def test_what_an_earlier_agent_wrote_is_used_as_long_as_it_is_fresh(
    issuer: Issuer, tokens: Tokens
) -> None:
    kept = jwt(issuer.now - 100, 3600)
    assert (await tokens.get(pod(), HOUR, kept)).text == kept.decode()
    assert issuer.asked == []
    old = jwt(issuer.now - 3000, 3600, uid="u2")
    assert (await tokens.get(pod("u2"), HOUR, old)).text == "token 1"
    tokens.forget("u1")
    await tokens.get(pod(), HOUR, None)
    assert len(issuer.asked) == 2


async def test_without_an_api_server_there_are_none() -> None:
    with pytest.raises(SetUpError, match="without an API server"):
        await Tokens(None).get(pod(), HOUR, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a.b",
        b"\xff.\xff.\xff",
        b"e30.e30.e30",
        b"e30.W10.e30",
        jwt(0, 10, uid="other"),
        jwt(0, 10, account="other"),
    ],
)
def test_anything_else_in_the_file_is_no_token(data: bytes) -> None:
    assert read(data, pod(), HOUR) is None


def test_a_token_for_others_is_none_and_a_longer_life_is_not_counted_on() -> None:
    assert read(jwt(0, 600), pod(), VAULT) is None
    assert read(jwt(0, 600, audience=["vault"]), pod(), VAULT) is not None
    found = read(jwt(1000, 365 * 24 * 3600, audience="api"), pod(), HOUR)
    assert found is not None
    assert found.expires_at == 1000 + 3600
