"""An API server that answers reviews as a test lets it, and a kubelet API that asks it who gets in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from vkubelet.server.app import KubeletServer

ANN = "a-secret-token"


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
