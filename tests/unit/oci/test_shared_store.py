"""Several processes in one store: what one brings or removes, others notice; what is used stays."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from tars import TAR, layered, member

from oci import digests
from oci.errors import StoreError

MODULE = b"\0asm\1\0\0\0" + b"the module"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"


@pytest.fixture
def owner(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir()
    return path


def put_files(registry: Any, path: str) -> None:
    document = layered(registry.blob, [(TAR, [member("app.wasm", MODULE)])], Entrypoint=["/app.wasm"])
    registry.document(path, document)


@pytest.mark.parametrize("kind", ["module", "files"])
async def test_what_another_process_has_pulled_is_here(
    registry: Any, stores: Any, owner: Path, kind: str
) -> None:
    agent, other = stores(registry.address, owner=owner), stores(registry.address)
    reference = registry.reference("me/app:v1")
    assert await agent.look(reference) is None
    if kind == "module":
        registry.image("me/app:v1", MODULE)
    else:
        put_files(registry, "me/app:v1")
    image = await other.pull(reference)
    registry.requests.clear()
    assert agent.get(reference) is None
    assert await agent.look(reference) == image
    assert (await agent.look(registry.reference(f"me/app:x@{image.digest}"))).digest == image.digest
    assert agent.get(reference) == image
    assert registry.requests == []


async def test_a_tag_that_another_process_moved_has_moved(registry: Any, stores: Any) -> None:
    agent, other = stores(registry.address), stores(registry.address)
    reference = registry.reference("me/app:v1")
    registry.image("me/app:v1", MODULE)
    first = await agent.pull(reference)
    registry.image("me/app:v1", MODULE + b"2")
    second = await other.pull(reference)
    found = await agent.look(reference)
    assert (found.digest, found.module_digest) == (second.digest, digests.of(MODULE + b"2"))
    assert (await agent.look(reference.by_digest(first.digest))).digest == first.digest
    assert {image.digest for image in agent.list()} == {first.digest, second.digest}


async def test_what_another_process_has_removed_is_gone(registry: Any, stores: Any, owner: Path) -> None:
    agent, other = stores(registry.address, owner=owner), stores(registry.address)
    reference = registry.reference("me/app:v1")
    registry.image("me/app:v1", MODULE)
    image = await other.pull(reference)
    await agent.refresh()
    assert [one.digest for one in agent.list()] == [image.digest]
    assert [one.digest for one in await other.remove_unused(lambda _: False)] == [image.digest]
    assert agent.get(reference) is None
    assert await agent.look(reference) is None
    await agent.refresh()
    assert agent.list() == []
    assert (await agent.pull(reference)).module.read_bytes() == MODULE


async def test_an_agents_images_are_not_removed(registry: Any, stores: Any, owner: Path) -> None:
    agent = stores(registry.address, owner=owner)
    reference, second = registry.reference("me/app:v1"), registry.reference("me/second:v1")
    registry.image("me/app:v1", MODULE)
    registry.image("me/second:v1", MODULE + b"2")
    pulled = await agent.pull(reference)
    other = stores(registry.address)
    found = await other.pull(second)
    assert await agent.look(second) == found
    assert await other.remove_unused(lambda _: False) == []
    # The agent that goes on after it holds them, too: their containers still run.
    again = stores(registry.address, owner=owner)
    await again.release({pulled.digest}, {found.digest: 7.0})
    assert [image.digest for image in await other.remove_unused(lambda _: False)] == [found.digest]
    assert again.get(reference) is not None
    assert again.last_used() == {found.digest: 7.0}
    assert stores(registry.address, owner=owner).last_used() == {found.digest: 7.0}
    await asyncio.to_thread(owner.rmdir)  # until nothing of the agent is left
    assert [image.digest for image in await other.remove_unused(lambda _: False)] == [pulled.digest]
    assert again.get(reference) is None


async def test_an_agent_decides_itself_what_it_uses(registry: Any, stores: Any, owner: Path) -> None:
    agent = stores(registry.address, owner=owner)
    registry.image("me/app:v1", MODULE)
    image = await agent.pull(registry.reference("me/app:v1"))
    assert [one.digest for one in await agent.remove_unused(lambda _: False)] == [image.digest]


@pytest.mark.parametrize("damage", [b"{", b'{"owner":"/else","held":[],"last":{}}', None])
async def test_a_damaged_record_of_uses_is_set_aside(
    registry: Any, stores: Any, owner: Path, tmp_path: Path, damage: bytes | None
) -> None:
    agent = stores(registry.address, owner=owner)
    registry.image("me/app:v1", MODULE)
    image = await agent.pull(registry.reference("me/app:v1"))
    (path,) = (tmp_path / "images/uses").iterdir()
    if damage is None:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(damage)
    again = stores(registry.address, owner=owner)
    assert not path.is_dir()
    assert await again.look(image.reference) == image
    assert await stores(registry.address).remove_unused(lambda _: False) == []


@pytest.fixture
def halfway(registry: Any, stores: Any, tmp_path: Path) -> Any:
    """A pull that has its config and waits for its module; gives its store, it, and what lets it go on."""
    registry.image("me/app:v1", MODULE, b'{"config":{"Cmd":["x"]}}', IMAGE_CONFIG)
    go_on = asyncio.Event()

    async def slowly(request: Any) -> Any:
        await go_on.wait()
        return registry.serve(request)

    registry.faults[f"GET /v2/me/app/blobs/{digests.of(MODULE)}"] = slowly

    async def begun() -> tuple[Any, asyncio.Task[Any], asyncio.Event]:
        store = stores(registry.address)
        pull = asyncio.create_task(store.pull(registry.reference("me/app:v1")))
        await registry.until_asked(f"blobs/{digests.of(MODULE)}")
        for path in (tmp_path / "images/blobs/sha256").iterdir():
            os.utime(path, (0, 0))  # not as fresh as what another process leaves alone
        return store, pull, go_on

    return begun


async def test_a_pull_begins_anew_when_something_of_it_was_removed(
    registry: Any, stores: Any, halfway: Any, tmp_path: Path
) -> None:
    _, pull, go_on = await halfway()
    await stores(registry.address).remove_unused(lambda _: False)
    assert list((tmp_path / "images/blobs/sha256").iterdir()) == []
    go_on.set()
    image = await pull
    assert (image.config.cmd, image.module.read_bytes()) == (("x",), MODULE)
    assert registry.paths("GET").count(f"GET blobs/{digests.of(MODULE)}") == 1


async def test_a_pull_whose_content_is_removed_again_and_again_fails(
    registry: Any, halfway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pull, go_on = await halfway()
    monkeypatch.setattr("oci.content.Content.is_here", lambda self: False)
    go_on.set()
    with pytest.raises(StoreError, match="what was pulled was removed meanwhile, 3 times"):
        await pull


async def test_ones_own_pulls_keep_their_content(registry: Any, stores: Any, halfway: Any) -> None:
    store, pull, go_on = await halfway()
    registry.image("me/other:v1", MODULE + b"2")
    other = await store.pull(registry.reference("me/other:v1"))
    before = registry.paths()
    assert [image.digest for image in await store.remove_unused(lambda _: False)] == [other.digest]
    go_on.set()
    assert (await pull).config.cmd == ("x",)
    assert registry.paths() == before, "nothing was fetched again"


async def test_content_that_is_fresh_is_left_to_who_brought_it(
    registry: Any, stores: Any, tmp_path: Path
) -> None:
    store = stores(registry.address)
    registry.image("me/app:v1", MODULE)
    registry.faults["GET /v2/me/app/blobs"] = registry.status(500)
    with pytest.raises(Exception, match="500"):
        await store.pull(registry.reference("me/app:v1"))
    (manifest,) = (tmp_path / "images/blobs/sha256").iterdir()
    await store.remove_unused(lambda _: False)
    assert manifest.exists()
    os.utime(manifest, (0, 0))
    await store.remove_unused(lambda _: False)
    assert not manifest.exists()


async def test_nobody_waits_forever_for_the_lock(
    registry: Any, stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oci.store.LOCK_TIMEOUT", 0.0)
    store, other = stores(registry.address), stores(registry.address)
    registry.image("me/app:v1", MODULE)
    text = "lock: another process does not let go of it"
    with other._store.locked(), pytest.raises(StoreError, match=text):
        await store.pull(registry.reference("me/app:v1"))
    assert await store.pull(registry.reference("me/app:v1"))


async def test_five_hundred_who_want_one_image_cause_one_manifest_and_one_blob_request(
    registry: Any, stores: Any, owner: Path
) -> None:
    store = stores(registry.address, owner=owner)
    registry.image("me/app:v1", MODULE)
    reference = registry.reference("me/app:v1")
    images = await asyncio.gather(*(store.pull(reference, ask=True) for _ in range(500)))
    assert len({image.digest for image in images}) == 1
    assert registry.paths() == ["GET manifests/v1", f"GET blobs/{digests.of(MODULE)}"]
    registry.requests.clear()
    found = await asyncio.gather(*(store.look(reference) for _ in range(500)))
    assert set(found) == {images[0]}
    assert registry.requests == []


@pytest.mark.parametrize("damage", [b"", b"\xff", b"\x81\xa1x\x90"])
async def test_the_indexs_snapshot_may_be_lost(
    registry: Any, stores: Any, tmp_path: Path, damage: bytes
) -> None:
    registry.image("me/app:v1", MODULE)
    image = await stores(registry.address).pull(registry.reference("me/app:v1"))
    stores(registry.address)
    snapshot = tmp_path / "images/index.snapshot"
    whole = snapshot.read_bytes()
    snapshot.write_bytes(damage)
    assert stores(registry.address).get(image.reference) == image
    assert snapshot.read_bytes() == whole


async def test_the_snapshot_does_not_outvote_the_index(registry: Any, stores: Any, tmp_path: Path) -> None:
    registry.image("me/app:v1", MODULE)
    image = await stores(registry.address).pull(registry.reference("me/app:v1"))
    stores(registry.address)
    for path in (tmp_path / "images/index").iterdir():
        path.unlink()
    assert stores(registry.address).get(image.reference) is None


@pytest.mark.parametrize("where", ["blobs/sha256/*", "index/*", "index.snapshot", "uses/*", "*/**/*"])
async def test_directories_in_the_place_of_files(
    registry: Any, stores: Any, owner: Path, tmp_path: Path, where: str
) -> None:
    registry.image("me/app:v1", MODULE)
    image = await stores(registry.address, owner=owner).pull(registry.reference("me/app:v1"))
    stores(registry.address)  # makes the snapshot
    for path in await asyncio.to_thread(lambda: list((tmp_path / "images").glob(where))):
        if path.is_file():
            path.unlink()
            path.mkdir()
    store = stores(registry.address, owner=owner)
    assert (await store.pull(image.reference)).module.read_bytes() == MODULE
    assert await stores(registry.address, owner=owner).look(image.reference) == image
    await store.set_aside_damaged(image)
    assert await store.look(image.reference) == image
    image.module.unlink()
    image.module.mkdir()
    await store.set_aside_damaged(image)
    assert (await store.pull(image.reference)).module.read_bytes() == MODULE
