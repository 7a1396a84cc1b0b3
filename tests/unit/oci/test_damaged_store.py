"""A store that restarts, whose disk loses, changes or refuses what is in it."""

import asyncio
import resource
import sys
from pathlib import Path

import pytest

from oci import digests
from oci.errors import StoreError
from oci.images import ImageStore

MODULE = b"\0asm\1\0\0\0" + b"the module"
DIGEST = digests.of(MODULE)


class TestRestart:
    async def test_finds_what_was_there(self, registry, stores):
        store = stores(registry.address)
        for tag, module in (("v1", MODULE), ("v2", MODULE), ("v3", MODULE + b"3")):
            registry.image(f"me/app:{tag}", module)
            await store.pull(registry.reference(f"me/app:{tag}"))
        config = b'{"config":{"Cmd":["x"]}}'
        registry.image("me/app:v4", MODULE, config, "application/vnd.oci.image.config.v1+json")
        await store.pull(registry.reference("me/app:v4"))
        registry.requests.clear()
        again = stores(registry.address)
        for tag in ("v1", "v2", "v3", "v4"):
            reference = registry.reference(f"me/app:{tag}")
            assert again.get(reference) == store.get(reference) is not None
        assert {image.names for image in again.list()} == {image.names for image in store.list()}
        assert registry.requests == []

    @pytest.mark.parametrize(
        "damage",
        [
            lambda path: path.unlink(),
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(path.read_bytes() + b"x"),
            lambda path: (path.unlink(), path.mkdir()),
        ],
    )
    @pytest.mark.parametrize("which", ["module", "manifest", "entry"])
    async def test_sets_aside_what_is_corrupt(
        self, registry, stores, tmp_path: Path, caplog: pytest.LogCaptureFixture, which: str, damage
    ):
        registry.image("me/app:v1", MODULE)
        reference = registry.reference("me/app:v1")
        image = await stores(registry.address).pull(reference)
        paths = {
            "module": [image.module],
            "manifest": [tmp_path / "images/blobs/sha256" / image.digest.partition(":")[2]],
            "entry": list((tmp_path / "images/index").iterdir()),
        }
        for path in paths[which]:
            (tmp_path / "images/corrupt" / path.name).write_bytes(b"an earlier one")
            damage(path)
        was_damaged = paths[which][0].exists()
        store = stores(registry.address)
        assert store.get(reference) is None
        assert store.list() == []
        assert (await store.pull(reference)).module.read_bytes() == MODULE
        assert ("is corrupt" in caplog.text) is was_damaged
        assert stores(registry.address).get(reference) == store.get(reference) is not None

    async def test_a_swapped_manifest_is_not_believed(self, registry, stores, tmp_path: Path):
        registry.image("me/app:v1", MODULE)
        image = await stores(registry.address).pull(registry.reference("me/app:v1"))
        path = tmp_path / "images/blobs/sha256" / image.digest.partition(":")[2]
        path.write_bytes(path.read_bytes().replace(b"wasm", b"tram"))
        store = stores(registry.address)
        # The index has what it takes to run it, and who reads the manifest sees that it is another.
        assert store.get(registry.reference("me/app:v1")).module.read_bytes() == MODULE
        registry.requests.clear()
        assert (await store.pull(registry.reference("me/app:v1"))).digest == image.digest
        assert registry.paths() == ["HEAD manifests/v1", f"GET manifests/{image.digest}"]
        assert digests.matches(image.digest, path.read_bytes())

    async def test_removes_what_a_crash_left_but_not_what_is_being_written(self, registry, stores, tmp_path):
        store = stores(registry.address)
        (tmp_path / "images/ingest/left").write_bytes(b"half")
        registry.image("me/app:v1", MODULE)
        go_on = asyncio.Event()

        async def slowly(request):
            await go_on.wait()
            return registry.serve(request)

        registry.faults["GET /v2/me/app/blobs"] = slowly
        pull = asyncio.create_task(store.pull(registry.reference("me/app:v1")))
        await registry.until_asked("/blobs/")
        stores(registry.address)
        (left,) = (tmp_path / "images/ingest").iterdir()
        assert left.name.startswith(DIGEST.partition(":")[2][:16])
        go_on.set()
        assert await pull

    async def test_a_killed_pull_leaves_nothing_that_is_believed(self, registry, stores, tmp_path: Path):
        registry.image("me/app:v1", MODULE)
        registry.faults["GET /v2/me/app/blobs"] = registry.hang(MODULE[:10], len(MODULE))
        program = (
            "import asyncio, sys, pathlib\n"
            "from oci.images import ImageStore\n"
            "from oci.reference import parse\n"
            "store = ImageStore(pathlib.Path(sys.argv[1]), insecure_registries=[sys.argv[2]]); store.open()\n"
            "asyncio.run(store.pull(parse(sys.argv[2] + '/me/app:v1')))"
        )
        root = tmp_path / "images"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(root), registry.address
        )
        await registry.until_asked("/blobs/")
        process.kill()
        await process.wait()
        assert len(list((root / "ingest").iterdir())) == 1
        registry.faults.clear()
        store = stores(registry.address)
        assert list((root / "ingest").iterdir()) == []
        assert store.get(registry.reference("me/app:v1")) is None
        assert (await store.pull(registry.reference("me/app:v1"))).module.read_bytes() == MODULE


class TestDisk:
    async def test_a_module_that_vanished_is_pulled_anew(self, registry, store: ImageStore):
        registry.image("me/app:v1", MODULE)
        reference = registry.reference("me/app:v1")
        image = await store.pull(reference)
        image.module.unlink()
        assert store.get(reference) is None
        assert store.list() == []
        assert (await store.pull(reference)).module.read_bytes() == MODULE

    async def test_a_module_that_was_cut_is_pulled_anew(self, registry, store: ImageStore, tmp_path: Path):
        registry.image("me/app:v1", MODULE)
        digest_reference = registry.reference("me/app@" + registry.image("me/app:v1", MODULE)["digest"])
        image = await store.pull(digest_reference)
        image.module.write_bytes(MODULE[:-1])
        assert store.get(digest_reference) is None
        assert (await store.pull(digest_reference)).module.read_bytes() == MODULE
        assert (tmp_path / "images/corrupt" / image.module.name).read_bytes() == MODULE[:-1]

    async def test_a_bit_that_flipped_is_found_and_its_blob_pulled_anew(
        self, registry, store: ImageStore, tmp_path: Path
    ):
        registry.image("me/app:v1", MODULE)
        reference = registry.reference("me/app:v1")
        image = await store.pull(reference)
        flipped = MODULE[:-1] + bytes([MODULE[-1] ^ 1])
        image.module.write_bytes(flipped)
        assert store.get(reference) == image  # nobody reads all of it to start a container
        await store.set_aside_damaged(image)
        assert await store.look(reference) is None
        assert (tmp_path / "images/corrupt" / image.module.name).read_bytes() == flipped
        registry.requests.clear()
        assert (await store.pull(reference)).module.read_bytes() == MODULE
        assert registry.paths() == ["HEAD manifests/v1", f"GET blobs/{DIGEST}"]
        await store.set_aside_damaged(image)
        assert await store.look(reference) == image  # what is whole stays

    async def test_that_takes_no_more_fails_the_pull(self, registry, store: ImageStore, tmp_path: Path):
        large = MODULE + bytes(200_000)
        registry.image("me/app:v1", large)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with pytest.raises(StoreError) as caught:
                await store.pull(registry.reference("me/app:v1"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert f"registry {registry.address}, repository me/app, reference v1" in str(caught.value)
        assert "File too large" in str(caught.value)
        assert list((tmp_path / "images/ingest").iterdir()) == []
        assert await store.pull(registry.reference("me/app:v1"))

    async def test_with_a_file_in_the_way(self, registry, store: ImageStore, tmp_path: Path):
        registry.image("me/app:v1", MODULE)
        (tmp_path / "images/index").rmdir()
        (tmp_path / "images/index").write_text("")
        with pytest.raises(StoreError, match="Not a directory"):
            await store.pull(registry.reference("me/app:v1"))
