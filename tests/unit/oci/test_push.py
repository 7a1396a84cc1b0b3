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
from oci.attachment import Attachment
from oci.errors import (
    InvalidManifestError,
    InvalidReferenceError,
    NotWasmError,
    RegistryProtocolError,
    RegistryUnavailableError,
    UnauthorizedError,
)
from oci.images import ImageStore
from oci.manifest import INDEX, MANIFEST
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


async def push(
    file: Path, target: str, annotations: dict[str, str] | None = None, *attached: Attachment
) -> str:
    return await asyncio.to_thread(
        push_module, file, target, insecure=True, annotations=annotations, attachments=attached
    )


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


SPDX = "application/spdx+json"
BILL = b'{"spdxVersion": "SPDX-2.3"}'


@pytest.fixture
def bill(tmp_path: Path) -> Path:
    path = tmp_path / "bill.json"
    path.write_bytes(BILL)
    return path


@pytest.fixture
def attaching(registry, target: str) -> str:
    """A registry that takes manifests under any name; with `subjects` it lists what refers to others."""
    registry.subjects = True

    async def manifest(request: web.Request) -> web.StreamResponse:
        data = await request.read()
        registry.document(f"me/app:{request.path.rpartition('/')[2]}", data, request.headers["Content-Type"])
        subject = json.loads(data).get("subject")
        headers = {"OCI-Subject": subject["digest"]} if subject and registry.subjects else {}
        return web.Response(status=201, headers=headers)

    del registry.faults["PUT /v2/me/app/manifests/v1"]
    registry.faults["PUT /v2/me/app/manifests/"] = manifest
    return target


def _manifest(registry, identifier: str):
    return json.loads(registry.manifests[f"/v2/me/app/manifests/{identifier}"][1])


async def test_what_is_attached_refers_to_the_artifact(registry, module: Path, bill: Path, attaching: str):
    digest = await push(module, attaching, None, Attachment(bill, SPDX))
    size = len(registry.manifests[f"/v2/me/app/manifests/{digest}"][1])
    documents = [_manifest(registry, path.rpartition("/")[2]) for path in registry.manifests]
    attached = next(document for document in documents if "subject" in document)
    assert attached["artifactType"] == SPDX
    assert attached["subject"] == {"mediaType": MANIFEST, "digest": digest, "size": size}
    assert attached["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert registry.blobs[attached["config"]["digest"]] == b"{}"
    (layer,) = attached["layers"]
    assert layer["mediaType"] == SPDX
    assert layer["annotations"] == {"org.opencontainers.image.title": "bill.json"}
    assert registry.blobs[layer["digest"]] == BILL
    tag = digest.replace(":", "-")
    assert f"/v2/me/app/manifests/{tag}" not in registry.manifests
    # A tag brings what it did before.
    assert _manifest(registry, "v1") == _manifest(registry, digest)


async def test_where_the_registry_keeps_no_list_it_is_kept_by_tag(
    registry, module: Path, bill: Path, attaching: str, tmp_path: Path
):
    registry.subjects = False
    digest = await push(module, attaching, None, Attachment(bill, SPDX))
    tag = digest.replace(":", "-")
    (first,) = _manifest(registry, tag)["manifests"]
    assert (first["artifactType"], first["mediaType"]) == (SPDX, MANIFEST)
    assert _manifest(registry, first["digest"])["subject"]["digest"] == digest
    # What others have listed stays, with all that they say of it.
    document = _manifest(registry, tag)
    document["manifests"][0]["annotations"] = {"a": "b"}
    registry.document(f"me/app:{tag}", document, INDEX)
    other = tmp_path / "other.txt"
    other.write_text("x")
    await push(module, attaching, None, Attachment(bill, SPDX), Attachment(other, "text/plain"))
    listed = _manifest(registry, tag)["manifests"]
    assert [(entry["artifactType"], entry.get("annotations")) for entry in listed] == [
        (SPDX, {"a": "b"}), ("text/plain", None),
    ]  # fmt: skip


async def test_a_list_that_is_none_is_left_alone(registry, module: Path, bill: Path, attaching: str):
    registry.subjects = False
    digest = await push(module, attaching)
    tag = digest.replace(":", "-")
    registry.document(f"me/app:{tag}", _manifest(registry, "v1"))
    with pytest.raises(InvalidManifestError, match=f"{tag}: is no index"):
        await push(module, attaching, None, Attachment(bill, SPDX))
    assert _manifest(registry, tag) == _manifest(registry, "v1")


async def test_a_file_that_is_not_there_is_told(registry, module: Path, attaching: str, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        await push(module, attaching, None, Attachment(tmp_path / "none", SPDX))
