"""What credentials are worth, asked of servers of all sorts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from serving import serving

from vkubelet.config import Config
from vkubelet.doctor import cluster
from vkubelet.doctor.cluster import ClusterFacts, Wanted, judge, wanted

CONFIG = Config(node_name="here")


class Server:
    """Answers reviews; refuses what is in `refused`, as `VERB RESOURCE`."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.asked: list[dict[str, object]] = []
        self.answer: web.Response | None = None
        self.hangs = False

    async def handle(self, request: web.Request) -> web.Response:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.answer is not None:
            return self.answer
        if request.path == "/version":
            return web.json_response({"gitVersion": "v1.99.0"})
        if request.path.endswith("/selfsubjectreviews"):
            info = {"username": "system:node:here", "groups": ["system:nodes", "system:authenticated"]}
            return web.json_response({"status": {"userInfo": info}})
        assert request.path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        attributes = (await request.json())["spec"]["resourceAttributes"]
        self.asked.append(attributes)
        name = f"{attributes['verb']} {attributes['resource']}"
        return web.json_response({"status": {"allowed": name not in self.refused}})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server()
    async with serving(made.handle) as url:
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {"server": url}}],
            "users": [{"name": "it", "user": {"token": "a-secret-token"}}],
        }
        await asyncio.to_thread((tmp_path / "kubeconfig").write_text, yaml.safe_dump(document))
        yield made


async def test_all_is_allowed(server: Server, tmp_path: Path) -> None:
    facts = await cluster.read(CONFIG, tmp_path / "kubeconfig", bootstrap=False)
    assert facts.trouble == ""
    assert [verdict.status for verdict in judge(facts, "here", bootstrap=False)] == ["ok", "ok", "ok"]
    assert len(server.asked) == len(wanted(CONFIG)) == len(facts.allowed)
    (pods,) = [each for each in server.asked if (each["verb"], each["resource"]) == ("watch", "pods")]
    requirement = {"key": "spec.nodeName", "operator": "In", "values": ["here"]}
    assert pods["fieldSelector"] == {"requirements": [requirement]}


async def test_what_is_not_allowed_is_named_with_what_does_not_work(server: Server, tmp_path: Path) -> None:
    server.refused = {"create nodes", "create tokenreviews"}
    facts = await cluster.read(CONFIG, tmp_path / "kubeconfig", bootstrap=False)
    found = [each for each in judge(facts, "here", bootstrap=False) if each.name == "permissions"]
    assert [(each.status, each.found) for each in found] == [
        ("missing", "may not create nodes: the node cannot register"),
        (
            "warning",
            "may not create tokenreviews.authentication.k8s.io: callers of the node's API with tokens are "
            "refused",
        ),
    ]


async def test_credentials_of_a_bootstrap_are_asked_for_nothing_more(server: Server, tmp_path: Path) -> None:
    facts = await cluster.read(CONFIG, tmp_path / "kubeconfig", bootstrap=True)
    assert server.asked == []
    assert [each.name for each in judge(facts, "here", bootstrap=True)] == [
        "api server",
        "identity",
        "permissions",
    ]


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (lambda: web.Response(status=401, text="Unauthorized"), "401"),
        (lambda: web.Response(text="<html>"), "an answer that is none of an API server"),
        (lambda: web.json_response({"gitVersion": 7}), "an answer that is none of an API server"),
    ],
)
async def test_a_server_that_answers_otherwise(
    server: Server, tmp_path: Path, answer: object, trouble: str
) -> None:
    assert callable(answer)
    server.answer = answer()
    facts = await cluster.read(CONFIG, tmp_path / "kubeconfig", bootstrap=False)
    assert trouble in facts.trouble
    assert "a-secret-token" not in json.dumps(facts.trouble)
    (verdict,) = judge(facts, "here", bootstrap=False)
    assert verdict.status == "missing"


async def test_a_server_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    server.hangs = True
    monkeypatch.setattr(cluster, "_DEADLINE", 1.0)
    facts = await cluster.read(CONFIG, tmp_path / "kubeconfig", bootstrap=False)
    assert facts.trouble == "no answers within 1 s"


async def test_a_kubeconfig_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("[]")
    facts = await cluster.read(CONFIG, path, bootstrap=False)
    assert str(path) in facts.trouble


@pytest.mark.parametrize(
    ("user", "groups", "status"),
    [
        ("system:node:here", ("system:nodes",), "ok"),
        ("system:node:there", ("system:nodes",), "warning"),
        ("system:node:here", (), "warning"),
        ("kubernetes-admin", ("system:masters",), "warning"),
    ],
)
def test_who_a_node_is(user: str, groups: tuple[str, ...], status: str) -> None:
    facts = ClusterFacts(
        "k", "https://s", "v1", user=user, groups=groups, allowed={Wanted("get", "x", "y"): True}
    )
    (identity,) = [each for each in judge(facts, "here", bootstrap=False) if each.name == "identity"]
    assert identity.status == status


@pytest.mark.parametrize(
    ("config", "there", "resource"),
    [
        (Config(), True, "tokenreviews"),
        (Config(authentication_token_webhook=False), False, "tokenreviews"),
        (Config(), True, "subjectaccessreviews"),
        (Config(authorization_mode="AlwaysAllow"), False, "subjectaccessreviews"),
        (Config(), True, "certificatesigningrequests"),
        (Config(tls_cert_file="/t"), False, "certificatesigningrequests"),
    ],
)
def test_only_what_the_configuration_needs_is_wanted(config: Config, there: bool, resource: str) -> None:
    assert (resource in {one.resource for one in wanted(config)}) is there
