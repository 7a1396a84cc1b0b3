"""Images pushed to and pulled from a real registry."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import requests
import wasmtime

from oci.errors import NotFoundError, NotWasmError
from oci.images import ImageStore
from oci.manifest import INDEX, MANIFEST
from oci.push import push_module
from oci.reference import parse

pytestmark = pytest.mark.integration

Push = Callable[[bytes, str], Awaitable[str]]


MODULE = bytes(wasmtime.wat2wasm('(module (func (export "_start")))'))
OTHER = bytes(wasmtime.wat2wasm('(module (func (export "other")))'))
COMPONENT = bytes(wasmtime.wat2wasm('(component (import "a:b/c" (instance)))'))


@pytest.fixture
def store(cluster, tmp_path: Path) -> ImageStore:
    opened = ImageStore(tmp_path / "images", insecure_registries=[cluster.registry])
    opened.open()
    return opened


@pytest.fixture
def push(tmp_path: Path) -> Push:
    """Pushes a module's bytes to a reference; returns the digest."""

    def pushed(module: bytes, reference: str) -> str:
        file = tmp_path / "pushed.wasm"
        file.write_bytes(module)
        annotations = {"org.opencontainers.image.title": file.name}
        return push_module(file, reference, insecure=True, annotations=annotations)

    async def in_thread(module: bytes, reference: str) -> str:
        return await asyncio.to_thread(pushed, module, reference)

    return in_thread


def _get_manifest(registry: str, path: str) -> bytes:
    repository, _, identifier = path.partition(" ")
    url = f"http://{registry}/v2/{repository}/manifests/{identifier}"
    response = requests.get(url, headers={"Accept": MANIFEST}, timeout=10)
    assert response.status_code == 200, response.text
    return response.content


def _put_manifest(registry: str, path: str, media_type: str, document: object) -> None:
    repository, _, tag = path.partition(":")
    response = requests.put(
        f"http://{registry}/v2/{repository}/manifests/{tag}",
        data=json.dumps(document),
        headers={"Content-Type": media_type},
        timeout=10,
    )
    assert response.status_code == 201, response.text


async def test_a_pushed_module_is_pulled_by_tag_and_digest(cluster, push: Push, store: ImageStore):
    name = f"{cluster.registry}/images/module"
    digest = await push(MODULE, f"{name}:v1")
    by_tag = await store.pull(parse(f"{name}:v1"))
    assert by_tag.digest == digest
    assert by_tag.module.read_bytes() == MODULE
    assert by_tag.module_digest == f"sha256:{hashlib.sha256(MODULE).hexdigest()}"
    assert by_tag.names == (f"{name}@{digest}", f"{name}:v1")
    by_digest = await store.pull(parse(f"{name}@{digest}"))
    assert by_digest.module == by_tag.module


async def test_a_component_is_pulled(cluster, push: Push, store: ImageStore):
    await push(COMPONENT, f"{cluster.registry}/images/component:v1")
    image = await store.pull(parse(f"{cluster.registry}/images/component:v1"))
    assert image.module.read_bytes() == COMPONENT


async def test_a_tag_that_moves_is_followed(cluster, push: Push, store: ImageStore):
    reference = parse(f"{cluster.registry}/images/moving:v1")
    await push(MODULE, str(reference))
    old = await store.pull(reference)
    digest = await push(OTHER, str(reference))
    new = await store.pull(reference)
    assert new.digest == digest != old.digest
    assert new.module.read_bytes() == OTHER
    assert old.module.read_bytes() == MODULE


async def test_a_large_module_arrives_whole(cluster, push: Push, store: ImageStore):
    module = b"\0asm\1\0\0\0" + bytes(range(256)) * 80_000
    await push(module, f"{cluster.registry}/images/large:v1")
    references = [parse(f"{cluster.registry}/images/large:v1")] * 10
    images = await asyncio.gather(*(store.pull(reference) for reference in references))
    assert images[0].module.read_bytes() == module
    assert images == [images[0]] * 10


async def test_an_index_gives_its_part_for_wasm(cluster, push: Push, store: ImageStore):
    digest = await push(MODULE, f"{cluster.registry}/images/many:wasm")
    size = len(_get_manifest(cluster.registry, f"images/many {digest}"))
    entry: dict[str, object] = {"mediaType": MANIFEST, "digest": digest, "size": size}
    entry["platform"] = {"os": "wasip1", "architecture": "wasm"}
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    _put_manifest(cluster.registry, "images/many:v1", INDEX, document)
    image = await store.pull(parse(f"{cluster.registry}/images/many:v1"))
    assert image.digest != digest
    assert image.module.read_bytes() == MODULE


async def test_what_is_not_there_is_not_found(cluster, push: Push, store: ImageStore):
    await push(MODULE, f"{cluster.registry}/images/module:v1")
    for name in ("images/module:nope", "images/nope:v1", f"images/module@sha256:{'0' * 64}"):
        reference = parse(f"{cluster.registry}/{name}")
        with pytest.raises(NotFoundError) as caught:
            await store.pull(reference)
        assert f"registry {cluster.registry}, repository {reference.repository}" in str(caught.value)


async def test_what_is_no_wasm_is_refused(cluster, push: Push, store: ImageStore):
    await push(MODULE, f"{cluster.registry}/images/tar:wasm")
    manifest = json.loads(_get_manifest(cluster.registry, "images/tar wasm"))
    manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
    _put_manifest(cluster.registry, "images/tar:v1", MANIFEST, manifest)
    with pytest.raises(NotWasmError, match=r"application/vnd\.oci\.image\.layer\.v1\.tar"):
        await store.pull(parse(f"{cluster.registry}/images/tar:v1"))
    assert store.list() == []
