"""Trust anchors: which bundles are meant, and what is made of them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from serving import serving

from vkubelet.api.client import ApiClient
from vkubelet.api.credentials import Credentials
from vkubelet.api.volumes import ClusterTrustBundleProjection
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.trust import ClusterTrustBundle, TrustBundles, chosen


def pem(*contents: bytes, between: str = "") -> str:
    blocks = []
    for content in contents:
        text = base64.b64encode(content).decode()
        blocks.append(f"{between}\n-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    return "".join(blocks)


def bundle(name: str, text: str, signer: str = "", **labels: str) -> dict[str, Any]:
    meta = {"name": name, "uid": name, "resourceVersion": "1", "labels": labels}
    return {"metadata": meta, "spec": {"signerName": signer, "trustBundle": text}}


ALL = msgspec.convert(
    [
        bundle("one", pem(b"b" * 60, b"a", between="# a comment")),
        bundle("s:new", pem(b"a", b"c"), "example.com/s", age="new"),
        bundle("s:old", pem(b"d"), "example.com/s", age="old"),
        bundle("t", pem(b"e"), "example.com/t", age="new"),
    ],
    list[ClusterTrustBundle],
)


def projection(**fields: Any) -> ClusterTrustBundleProjection:
    return msgspec.convert({"path": "p", **fields}, ClusterTrustBundleProjection)


def certificates(data: bytes) -> list[bytes]:
    blocks = data.decode().split("-----END CERTIFICATE-----\n")
    return [base64.b64decode(block.partition("-----\n")[2]) for block in blocks if block]


def test_anchors_come_once_in_a_steady_order_without_comments() -> None:
    found = chosen(ALL, projection(name="one"))
    assert b"#" not in found
    assert certificates(found) == [b"a", b"b" * 60]
    assert max(len(line) for line in found.splitlines()) <= 64


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, [b"a", b"c", b"d"]),
        ({"matchLabels": {"age": "new"}}, [b"a", b"c"]),
        ({"matchExpressions": [{"key": "age", "operator": "NotIn", "values": ["new"]}]}, [b"d"]),
        ({"matchExpressions": [{"key": "age", "operator": "In", "values": ["old", "x"]}]}, [b"d"]),
        ({"matchExpressions": [{"key": "age", "operator": "Exists"}]}, [b"a", b"c", b"d"]),
        ({"matchExpressions": [{"key": "no", "operator": "DoesNotExist"}]}, [b"a", b"c", b"d"]),
    ],
)
def test_labels_choose_among_a_signers(selector: dict[str, Any], expected: list[bytes]) -> None:
    wanted = projection(signerName="example.com/s", labelSelector=selector)
    assert certificates(chosen(ALL, wanted)) == expected


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        (
            {"name": "no"},
            'while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "no" not found',
        ),
        (
            {"signerName": "example.com/s"},
            "combination of signerName and labelSelector matched zero ClusterTrustBundles",
        ),
    ],
)
def test_none_is_an_error_unless_it_is_optional(fields: dict[str, Any], cause: str) -> None:
    with pytest.raises(SetUpError) as failure:
        chosen(ALL, projection(**fields))
    assert str(failure.value) == cause
    assert chosen(ALL, projection(optional=True, **fields)) == b""


def test_mistakes_are_told() -> None:
    operator = {"matchExpressions": [{"key": "a", "operator": "Like"}]}
    with pytest.raises(SetUpError, match='"Like" is not a valid label selector operator'):
        chosen(ALL, projection(signerName="example.com/s", labelSelector=operator))
    broken = msgspec.convert([bundle("x", pem(b"a").replace("YQ==", "Y"))], list[ClusterTrustBundle])
    with pytest.raises(SetUpError, match="while normalizing trust anchors"):
        chosen(broken, projection(name="x"))


class Server:
    """An API server with bundles in some version of the API; `bundles` None: in none."""

    def __init__(self) -> None:
        self.url = ""
        self.version: str | None = "v1"
        self.changes: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        base = "/apis/certificates.k8s.io"
        if request.path == f"{base}/{self.version}":
            return web.json_response({"resources": [{"name": "clustertrustbundles"}]})
        if request.path != f"{base}/{self.version}/clustertrustbundles":
            return web.json_response({"code": 404, "reason": "NotFound"}, status=404)
        if "watch" not in request.query:
            items = [bundle("one", pem(b"a"))]
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(msgspec.json.encode(await self.changes.get()) + b"\n")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with serving(made.handle) as made.url:
        yield made


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_bundles_are_watched_from_the_first_question_on(server: Server, version: str) -> None:
    server.version = version
    client, changed = ApiClient(Credentials(server.url), Path("/nowhere")), asyncio.Event()
    bundles = TrustBundles(client, changed.set)
    task = asyncio.create_task(bundles.run())
    assert certificates(await bundles.anchors(projection(name="one"))) == [b"a"]
    changed.clear()
    new = bundle("one", pem(b"z"))
    new["metadata"]["resourceVersion"] = "2"
    server.changes.put_nowait({"type": "MODIFIED", "object": new})
    async with asyncio.timeout(10):
        await changed.wait()
    assert certificates(await bundles.anchors(projection(name="one"))) == [b"z"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


async def test_a_cluster_without_them_says_so(server: Server) -> None:
    server.version = "v9"
    client = ApiClient(Credentials(server.url), Path("/nowhere"))
    for bundles in (TrustBundles(client, lambda: None), TrustBundles(None, lambda: None)):
        with pytest.raises(SetUpError, match="not supported in static kubelet mode"):
            await bundles.anchors(projection(name="one"))
    with pytest.raises(SetUpError, match="requires either name or signerName"):
        await TrustBundles(client, lambda: None).anchors(projection())
    await client.close()
