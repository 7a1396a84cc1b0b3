"""What is pushed, and pushes that fail."""

import asyncio
import json
import os
from pathlib import Path

import pytest
import wasmtime
from aiohttp import web

from oci import digests
from oci.artifact import WASM_CONFIG, WASM_LAYER
from oci.errors import (
    InvalidReferenceError,
    NotWasmError,
    RegistryProtocolError,
    RegistryUnavailableError,
    UnauthorizedError,
)
from oci.images import ImageStore
from oci.manifest import MANIFEST
from oci.push import push_module

MODULE = b"\0asm\1\0\0\0"


@pytest.fixture
def module(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "app.wasm"
    path.write_bytes(getattr(request, "param", MODULE))
    os.utime(path, (1_700_000_000.5, 1_700_000_000.5))
    return path


@pytest.fixture
def target(registry) -> str:
    """Makes the registry take uploads; returns where to push."""

    async def begin(request: web.Request) -> web.StreamResponse:
        return web.Response(status=202, headers={"Location": "/upload?state=1"})

    async def upload(request: web.Request) -> web.StreamResponse:
        data = await request.read()
        assert request.query["digest"] == digests.of(data)
        assert request.query["state"] == "1"
        registry.blob(data)
        return web.Response(status=201)

    async def manifest(request: web.Request) -> web.StreamResponse:
        registry.document("me/app:v1", await request.read(), request.headers["Content-Type"])
        return web.Response(status=201)

    registry.faults |= {"POST": begin, "PUT /upload": upload, "PUT /v2/me/app/manifests/v1": manifest}
    return f"{registry.address}/me/app:v1"


async def push(file: Path, target: str, annotations: dict[str, str] | None = None) -> str:
    return await asyncio.to_thread(push_module, file, target, insecure=True, annotations=annotations)


async def test_a_module_is_an_artifact_of_the_cncf_format(registry, module: Path, target: str):
    digest = await push(module, target, {"org.example": "b", "a": "c"})
    media_type, data = registry.manifests["/v2/me/app/manifests/v1"]
    assert media_type == MANIFEST
    assert digest == digests.of(data)
    manifest = json.loads(data)
    config = json.loads(registry.blobs[manifest["config"]["digest"]])
    assert manifest == {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": manifest["config"] | {"mediaType": WASM_CONFIG},
        "layers": [
            {
                "mediaType": WASM_LAYER,
                "digest": digests.of(MODULE),
                "size": 8,
                "annotations": {"org.opencontainers.image.title": module.name},
            }
        ],
        "annotations": {"a": "c", "org.example": "b"},
    }
    assert config == {
        "created": "2023-11-14T22:13:20Z",
        "architecture": "wasm",
        "os": "wasip1",
        "layerDigests": [digests.of(MODULE)],
    }


@pytest.mark.parametrize(
    "module", [bytes(wasmtime.wat2wasm('(component (import "a:b/c" (instance)))'))], indirect=True
)
async def test_a_component_says_what_it_is(registry, module: Path, target: str):
    await push(module, target)
    manifest = json.loads(registry.manifests["/v2/me/app/manifests/v1"][1])
    config = json.loads(registry.blobs[manifest["config"]["digest"]])
    assert config["os"] == "wasip2"
    assert config["component"] == {"imports": ["a:b/c"], "exports": []}


async def test_what_was_pushed_can_be_pulled(registry, module: Path, target: str, store: ImageStore):
    digest = await push(module, target)
    image = await store.pull(registry.reference("me/app:v1"))
    assert image.digest == digest
    assert image.module.read_bytes() == MODULE


async def test_the_same_file_is_the_same_artifact_and_sent_once(registry, module: Path, target: str):
    first = await push(module, target)
    registry.requests.clear()
    assert await push(module, target) == first
    assert [path for path in registry.paths() if not path.startswith("HEAD")] == ["PUT manifests/v1"]


async def test_a_push_needs_a_tag(module: Path):
    with pytest.raises(InvalidReferenceError, match="a push needs a tag"):
        await push(module, f"ghcr.io/x@{digests.of(b'')}")


@pytest.mark.parametrize("module", [b"#!/bin/sh"], indirect=True)
async def test_only_wasm_is_pushed(registry, module: Path, target: str):
    with pytest.raises(NotWasmError, match=r"repository me/app, reference v1: .*app\.wasm is neither"):
        await push(module, target)
    assert registry.requests == []


@pytest.mark.parametrize(
    ("where", "status", "error"),
    [
        ("HEAD", 500, RegistryUnavailableError),
        ("POST", 403, UnauthorizedError),
        ("POST", 200, RegistryProtocolError),
        ("PUT /upload", 413, RegistryProtocolError),
        ("PUT /v2/me/app/manifests", 400, RegistryProtocolError),
    ],
)
async def test_a_refusal_is_told(registry, module: Path, target: str, where: str, status: int, error: type):
    registry.faults = {where: registry.status(status, "why not"), **registry.faults}
    registry.faults[where] = registry.status(status, "why not")
    with pytest.raises(error, match=f"repository me/app, reference v1: .*answered {status}"):
        await push(module, target)
    assert "/v2/me/app/manifests/v1" not in registry.manifests


async def test_content_is_not_sent_to_another_host(registry, other_registry, module: Path, target: str):
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        return web.Response(status=202, headers={"Location": f"http://{other_registry.address}/upload"})

    registry.faults["POST"] = elsewhere
    with pytest.raises(RegistryProtocolError, match="to another host"):
        await push(module, target)
    assert other_registry.requests == []
