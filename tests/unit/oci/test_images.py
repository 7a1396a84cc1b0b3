"""Pulls: what is asked for, what is kept, who shares what, and what a restart finds."""

import asyncio
import json
import os
import stat
from pathlib import Path

import pytest

from oci import digests
from oci.artifact import ImageConfig
from oci.errors import NotFoundError, NotWasmError, VerificationError
from oci.flights import SingleFlight
from oci.hosts import is_insecure
from oci.images import ImageStore
from oci.reference import parse

MODULE = b"\0asm\1\0\0\0" + b"the module"
DIGEST = digests.of(MODULE)


async def test_an_image_is_pulled_and_kept(registry, store: ImageStore, tmp_path: Path):
    descriptor = registry.image("me/app:v1", MODULE)
    reference = registry.reference("me/app:v1")
    assert store.get(reference) is None
    image = await store.pull(reference)
    assert image.reference == reference
    assert image.digest == descriptor["digest"]
    assert image.module_digest == DIGEST
    assert image.module == tmp_path / "images/blobs/sha256" / DIGEST.partition(":")[2]
    assert image.module.read_bytes() == MODULE
    assert image.size == descriptor["size"] + len(MODULE)
    repository = f"{registry.address}/me/app"
    assert image.names == (f"{repository}@{image.digest}", f"{repository}:v1")
    assert image.config == ImageConfig()
    assert store.get(reference) == image
    assert [known.digest for known in store.list()] == [image.digest]
    assert registry.paths() == ["GET manifests/v1", f"GET blobs/{DIGEST}"]


async def test_only_its_owner_can_read_it(registry, store: ImageStore, tmp_path: Path):
    registry.image("me/app:v1", MODULE)
    previous = os.umask(0)
    try:
        await store.pull(registry.reference("me/app:v1"))
    finally:
        os.umask(previous)
    for path in [tmp_path / "images", *(tmp_path / "images").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


async def test_a_digest_that_is_here_needs_no_request(registry, store: ImageStore):
    digest = registry.image("me/app:v1", MODULE)["digest"]
    await store.pull(registry.reference("me/app:v1"))
    registry.requests.clear()
    for text in (f"me/app@{digest}", f"me/app:other@{digest}"):
        image = await store.pull(registry.reference(text))
        assert image.reference == registry.reference(text)
        assert image.module.read_bytes() == MODULE
    assert registry.requests == []


async def test_a_digest_of_another_repository_is_asked_for(registry, store: ImageStore):
    """Who may read one repository may not be allowed to read the other."""
    digest = registry.image("me/app:v1", MODULE)["digest"]
    await store.pull(registry.reference("me/app:v1"))
    other = registry.reference(f"you/app@{digest}")
    assert store.get(other) is None
    with pytest.raises(NotFoundError, match="repository you/app"):
        await store.pull(other)
    registry.image("you/app:v1", MODULE)
    registry.requests.clear()
    assert await store.pull(other)
    assert registry.paths() == [f"GET manifests/{digest}"]


async def test_a_tag_is_asked_for_again_without_content(registry, store: ImageStore):
    registry.image("me/app:v1", MODULE)
    first = await store.pull(registry.reference("me/app:v1"))
    registry.requests.clear()
    assert await store.pull(registry.reference("me/app:v1")) == first
    assert registry.paths() == ["HEAD manifests/v1"]


async def test_a_tag_that_moved_brings_only_what_is_new(registry, store: ImageStore):
    old = registry.image("me/app:v1", MODULE)["digest"]
    await store.pull(registry.reference("me/app:v1"))
    new = registry.image("me/app:v1", MODULE, b'{"new":true}')["digest"]
    registry.requests.clear()
    image = await store.pull(registry.reference("me/app:v1"))
    assert image.digest == new != old
    assert registry.paths() == ["HEAD manifests/v1", f"GET manifests/{new}"]
    # The old one keeps its digest's name, so that what runs with it can be restarted.
    before = store.get(registry.reference(f"me/app@{old}"))
    assert before is not None
    assert before.names == (f"{registry.address}/me/app@{old}",)
    assert store.get(registry.reference("me/app:v1")) == image


async def test_a_registry_whose_head_says_nothing_is_asked_with_get(registry, store: ImageStore):
    registry.image("me/app:v1", MODULE)
    first = await store.pull(registry.reference("me/app:v1"))
    registry.requests.clear()
    registry.faults["HEAD"] = registry.status(405)
    assert await store.pull(registry.reference("me/app:v1")) == first
    assert registry.paths() == ["HEAD manifests/v1", "GET manifests/v1"]


async def test_the_part_of_an_index_for_wasm(registry, store: ImageStore):
    linux = registry.document("me/app:linux", registry.manifest(registry.blob(b"tar", "text/tar")))
    wasm = registry.image("me/app:wasm", MODULE)
    index = registry.index(
        "me/app:v1",
        linux | {"platform": {"os": "linux", "architecture": "amd64"}},
        wasm | {"platform": {"os": "wasip1", "architecture": "wasm"}},
    )
    image = await store.pull(registry.reference("me/app:v1"))
    assert image.digest == index["digest"]
    assert image.module_digest == DIGEST
    assert image.size == index["size"] + wasm["size"] + len(MODULE)


async def test_an_image_config_says_how_to_run(registry, store: ImageStore):
    config = json.dumps({"config": {"Entrypoint": ["/a.wasm"], "Env": ["A=b"]}}).encode()
    registry.image("me/app:v1", MODULE, config, "application/vnd.oci.image.config.v1+json")
    image = await store.pull(registry.reference("me/app:v1"))
    assert image.config == ImageConfig(entrypoint=("/a.wasm",), env=("A=b",))
    assert f"GET blobs/{digests.of(config)}" in registry.paths()


class TestSharing:
    async def test_one_download_for_all(self, registry, store: ImageStore):
        registry.image("me/app:v1", MODULE)
        reference = registry.reference("me/app:v1")
        images = await asyncio.gather(*(store.pull(reference) for _ in range(50)))
        assert images == [images[0]] * 50
        assert registry.paths() == ["GET manifests/v1", f"GET blobs/{DIGEST}"]

    async def test_one_download_of_a_blob_for_several_images(self, registry, store: ImageStore):
        for tag in ("v1", "v2", "v3"):
            registry.image(f"me/{tag}:{tag}", MODULE, tag.encode())
        pulls = [store.pull(registry.reference(f"me/{tag}:{tag}")) for tag in ("v1", "v2", "v3")]
        images = await asyncio.gather(*pulls)
        assert {image.module_digest for image in images} == {DIGEST}
        assert len(store.list()) == 3
        assert registry.paths().count(f"GET blobs/{DIGEST}") == 1

    async def test_anothers_failed_download_is_tried_at_home(self, registry, other_registry, store):
        registry.image("me/app:v1", MODULE)
        other_registry.image("me/app:v1", MODULE, b"[]")
        registry.faults["GET /v2/me/app/blobs"] = registry.hang(MODULE[:10], len(MODULE))
        first = asyncio.create_task(store.pull(registry.reference("me/app:v1")))
        await registry.until_asked("/blobs/")
        second = asyncio.create_task(store.pull(other_registry.reference("me/app:v1")))
        await other_registry.until_asked("/manifests/")
        await asyncio.wait({first, second})
        assert first.exception() is not None
        assert f"registry {registry.address}" in str(first.exception())
        assert second.result().module.read_bytes() == MODULE

    async def test_no_more_pulls_at_once_than_allowed(self, registry, stores):
        store = stores(registry.address, max_parallel_pulls=2)
        for number in range(4):
            registry.image(f"me/app:v{number}", MODULE + bytes([number]))
        registry.faults["GET /v2/me/app/manifests/v0"] = registry.hang()
        registry.faults["GET /v2/me/app/manifests/v1"] = registry.hang()
        stuck = [asyncio.create_task(store.pull(registry.reference(f"me/app:v{n}"))) for n in (0, 1)]
        await registry.until_asked("v0")
        await registry.until_asked("v1")
        waiting = [asyncio.create_task(store.pull(registry.reference(f"me/app:v{n}"))) for n in (2, 3)]
        stuck[0].cancel()
        await asyncio.wait(waiting)
        assert [task.exception() for task in waiting] == [None, None]
        assert not stuck[1].done()
        stuck[1].cancel()
        await asyncio.wait(stuck)


class TestCancellation:
    async def test_ends_the_download(self, registry, stores, tmp_path: Path):
        # The deadlines are a minute, so what ends is ended by the cancellation.
        store = stores(registry.address, read_timeout=60.0)
        registry.image("me/app:v1", MODULE)
        registry.faults["GET /v2/me/app/blobs"] = registry.hang(MODULE[:10], len(MODULE))
        task = asyncio.create_task(store.pull(registry.reference("me/app:v1")))
        await registry.until_asked("/blobs/")
        task.cancel()
        await asyncio.wait({task}, timeout=30)
        assert task.cancelled()
        assert list((tmp_path / "images/ingest").iterdir()) == []
        del registry.faults["GET /v2/me/app/blobs"]
        assert await store.pull(registry.reference("me/app:v1"))

    async def test_ends_the_wait_for_an_answer(self, registry, stores):
        store = stores(registry.address, read_timeout=60.0)
        registry.faults["GET"] = registry.hang()
        task = asyncio.create_task(store.pull(registry.reference("me/app:v1")))
        await registry.until_asked("/manifests/")
        task.cancel()
        await asyncio.wait({task}, timeout=30)
        assert task.cancelled()

    async def test_leaves_the_others_their_download(self, registry, stores, monkeypatch):
        """The second image follows the download that the first one began, and outlives it."""
        store = stores(registry.address, read_timeout=60.0)
        followed = asyncio.Event()
        run = SingleFlight.run

        def watched(self, key, start):
            if str(key).startswith("sha256:") and key in self:
                followed.set()
            return run(self, key, start)

        monkeypatch.setattr(SingleFlight, "run", watched)
        registry.image("me/app:v1", MODULE)
        registry.image("me/app:v2", MODULE, b"[]")
        go_on = asyncio.Event()

        async def slowly(request):
            await go_on.wait()
            return registry.serve(request)

        registry.faults["GET /v2/me/app/blobs"] = slowly
        first = asyncio.create_task(store.pull(registry.reference("me/app:v1")))
        await registry.until_asked("/blobs/")
        others = [asyncio.create_task(store.pull(registry.reference("me/app:v2"))) for _ in range(2)]
        await followed.wait()
        first.cancel()
        others[0].cancel()
        await asyncio.wait({first, others[0]}, timeout=30)
        go_on.set()
        image = await others[1]
        assert image.module.read_bytes() == MODULE
        assert registry.paths().count(f"GET blobs/{DIGEST}") == 1


async def test_one_failure_does_not_spoil_the_next(registry, store: ImageStore):
    registry.image("me/app:v1", MODULE)
    registry.faults["GET /v2/me/app/blobs"] = registry.chunked(MODULE[::-1])
    with pytest.raises(VerificationError):
        await store.pull(registry.reference("me/app:v1"))
    registry.faults.clear()
    assert await store.pull(registry.reference("me/app:v1"))


@pytest.mark.parametrize(
    ("registry_name", "listed", "insecure"),
    [
        ("h:5000", ["h:5000"], True),
        ("h:5000", ["h"], True),
        ("H:5000", ["h:5000"], True),
        ("h:5000", ["h:5001"], False),
        ("h", ["h:5000"], False),
        ("h", ["h"], True),
        ("x.h:5000", ["h"], False),
        ("[::1]:5000", ["[::1]"], True),
        ("[::1]", ["[::1]"], True),
        ("[::1]:5000", ["[::1]:5000"], True),
        ("localhost:5000", [], False),
        ("127.0.0.1:5000", ["localhost"], False),
    ],
)
def test_only_what_is_listed_is_insecure(registry_name: str, listed: list[str], insecure: bool):
    assert is_insecure(registry_name, listed) is insecure


async def test_unused_images_go_with_what_only_they_have(registry, store: ImageStore, tmp_path: Path):
    registry.image("me/app:v1", MODULE)
    registry.image("me/same:v1", MODULE, config=b'{"other":1}')
    registry.image("me/other:v1", MODULE + b"!")
    used, same, other = [
        await store.pull(registry.reference(name)) for name in ("me/app:v1", "me/same:v1", "me/other:v1")
    ]
    removed = await store.remove_unused(lambda image: image.digest == used.digest)
    assert {image.digest for image in removed} == {same.digest, other.digest}
    assert store.list() == [used]
    assert store.get(registry.reference("me/other:v1")) is None
    kept = {path.name for path in (tmp_path / "images/blobs/sha256").iterdir()}
    assert used.module.name in kept
    assert other.module.name not in kept
    # What is left is what a restart finds, and what was removed can be pulled again.
    again = ImageStore(tmp_path / "images")
    again.open()
    assert [image.digest for image in again.list()] == [used.digest]
    assert await store.remove_unused(lambda _: True) == []
    assert (await store.pull(registry.reference("me/other:v1"))).digest == other.digest


async def test_nothing_is_removed_under_a_pull(registry, store: ImageStore):
    registry.image("me/app:v1", MODULE)
    pulling = asyncio.create_task(store.pull(registry.reference("me/app:v1")))
    await asyncio.sleep(0)
    removed = await store.remove_unused(lambda _: False)
    image = await pulling
    assert bool(removed) is not image.module.exists()


async def test_a_file_of_this_machine_is_an_image_that_a_later_run_knows(tmp_path):
    file = tmp_path / "app.wasm"
    file.write_bytes(b"\0asm\1\0\0\0")
    reference = parse("files.local/app:v1")
    store = ImageStore(tmp_path / "store")
    store.open()
    image = await store.add(file, reference)
    assert image.module.read_bytes() == file.read_bytes()
    assert image.module_digest == digests.of(file.read_bytes())
    assert store.get(reference) == image
    assert store.get(reference.by_digest(image.digest)) is not None
    again = ImageStore(tmp_path / "store")
    again.open()
    assert again.get(reference) == image
    assert (await again.add(file, reference)).digest == image.digest
    (tmp_path / "no.wasm").write_text("no")
    with pytest.raises(NotWasmError, match=r"no\.wasm is neither a core WebAssembly module nor a component"):
        await store.add(tmp_path / "no.wasm", reference)
    with pytest.raises(FileNotFoundError):
        await store.add(tmp_path / "missing.wasm", reference)


async def test_whoever_asks_is_told_how_far_a_pull_has_come(registry, tmp_path: Path):
    content = MODULE + bytes(600_000)
    registry.image("me/app:v1", content)
    told = []
    store = ImageStore(
        tmp_path / "images",
        insecure_registries=[registry.address],
        progress=lambda reference, blob, size: told.append((reference, blob.digest, blob.size, size)),
    )
    store.open()
    await store.pull(registry.reference("me/app:v1"))
    assert {entry[:3] for entry in told} == {
        (registry.reference("me/app:v1"), digests.of(content), len(content))
    }
    sizes = [entry[3] for entry in told]
    assert sizes == sorted(sizes)
    assert len(sizes) > 1
    assert sizes[-1] == len(content)
