"""Images with files: pulled, unpacked once, found again, made anew when damaged, removed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tars import TAR, directory, hard, layered, member, symbolic

from oci import digests
from oci.errors import InvalidLayerError, InvalidManifestError, NotWasmError, StoreError
from oci.images import Image, ImageStore
from oci.layers.command import find_module

MODULE = b"\0asm\1\0\0\0" + b"the module"
OTHER = MODULE + b" of another name"
BASE = [
    directory("bin"),
    member("bin/app.wasm", MODULE, mode=0o755),
    member("data/old", b"old"),
    hard("h", "data/old"),
]
UPPER = [
    member("data/.wh.old"),
    member("data/new", b"new"),
    symbolic("app", "/bin/app.wasm"),
    member("b.wasm", OTHER),
]
LAYERS = [(f"{TAR}+gzip", BASE), (f"{TAR}+zstd", UPPER)]


def put(registry: Any, path: str, layers: Any = LAYERS, **config: Any) -> dict[str, Any]:
    config.setdefault("Entrypoint", ["/app", "-x"])
    return registry.document(path, layered(registry.blob, layers, **config))


def module(image: Image, *words: str, directory: str = "", path: str | None = None) -> tuple[str, str]:
    assert image.files is not None
    found = find_module(image.files, words, directory, path, image.reference)
    assert found.path.read_bytes() in (MODULE, OTHER)
    assert found.path == image.files.root / found.guest.lstrip("/")
    return found.guest, found.digest


async def test_an_image_with_files_is_pulled(registry: Any, store: ImageStore, tmp_path: Path) -> None:
    entry = put(registry, "me/app:v1", Env=["A=b"], WorkingDir="/w", User="7")
    image = await store.pull(registry.reference("me/app:v1"))
    assert (image.module, image.digest) == (None, entry["digest"])
    assert image.files is not None
    root = image.files.root
    assert root == tmp_path / "images/unpacked" / entry["digest"].partition(":")[2] / "rootfs"
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == [
        "app", "b.wasm", "bin", "bin/app.wasm", "data", "data/new", "h",
    ]  # fmt: skip
    assert image.files.modules == {"bin/app.wasm": digests.of(MODULE), "b.wasm": digests.of(OTHER)}
    assert image.module_digests == {digests.of(MODULE), digests.of(OTHER)}
    assert image.config.entrypoint == ("/app", "-x")
    assert (image.config.env, image.config.working_dir, image.config.user) == (("A=b",), "/w", "7")
    assert store.get(registry.reference("me/app:v1")) == image


async def test_the_command_names_the_module(registry: Any, store: ImageStore) -> None:
    put(registry, "me/app:v1", [*LAYERS, (TAR, [symbolic("l", "l"), symbolic("out", "/../../../b.wasm"),
        member("usr/bin/tool", OTHER), member("w/here.wasm", MODULE), member("elf", b"\x7fELF.."),
        member("sh", b"#! /bin/sh -e\n"), member("text", b"hello"), member("empty"), directory("w/d"),
        symbolic("w/rel", "../bin/app.wasm")])])  # fmt: skip
    image = await store.pull(registry.reference("me/app:v1"))
    app, other = ("/bin/app.wasm", digests.of(MODULE)), ("/b.wasm", digests.of(OTHER))
    assert module(image, "/app", "-x") == app
    assert module(image, "/bin/../bin//./app.wasm") == app
    assert module(image, "./rel", directory="/w") == app
    assert module(image, "../b.wasm", directory="/w") == other
    assert module(image, "/../../../../b.wasm") == other
    assert module(image, "/out") == other
    assert module(image, "b.wasm") == other
    assert module(image, "here.wasm", directory="/w") == ("/w/here.wasm", digests.of(MODULE))
    assert module(image, "app.wasm", path="/no:relative:/bin") == app
    assert module(image, "tool") == ("/usr/bin/tool", digests.of(OTHER))
    for words, text in {
        (): "no command specified",
        ("",): "no command specified",
        ("/elf",): "/elf is an ELF binary, no WebAssembly",
        ("/sh",): "/sh is a script for /bin/sh -e, no WebAssembly",
        ("/text",): "/text is a file, no WebAssembly",
        ("/empty",): "/empty is an empty file, no WebAssembly",
        (
            "/nothing",
        ): "exec: '/nothing': no such file in the image; its modules are /b.wasm, /bin/app.wasm, ",
        ("nothing",): "exec: 'nothing': no such file in the image's $PATH",
        ("/l",): "exec: '/l': no such file",
        ("/w/d",): "exec: '/w/d': no such file",
        ("/a\0b",): r"exec: '/a\x00b': no such file",
    }.items():
        with pytest.raises(NotWasmError) as caught:
            module(image, *words)
        assert text in str(caught.value)
        assert f"registry {registry.address}, repository me/app, reference v1: " in str(caught.value)


async def test_files_are_known_at_the_next_start(registry: Any, stores: Any, tmp_path: Path) -> None:
    put(registry, "me/app:v1")
    image = await stores(registry.address).pull(registry.reference("me/app:v1"))
    requests = len(registry.requests)
    inode = (tmp_path / "images/unpacked").iterdir().__next__().stat().st_ino
    abandoned = tmp_path / "images/unpacked/.new-1"
    (abandoned / "rootfs").mkdir(parents=True)
    (tmp_path / "images/unpacked/.old-1").mkdir()
    again = stores(registry.address)
    assert again.get(registry.reference("me/app:v1")) == image
    assert len(registry.requests) == requests
    (only,) = (tmp_path / "images/unpacked").iterdir()
    assert only.stat().st_ino == inode


def _remove_all(root: Path) -> None:
    shutil.rmtree(root.parent)


def _remove_files(root: Path) -> None:
    shutil.rmtree(root)


def _remove_record(root: Path) -> None:
    (root.parent / "contents.json").unlink()


def _damage_record(root: Path) -> None:
    (root.parent / "contents.json").write_text("{")


def _shorten(root: Path) -> None:
    os.truncate(root / "b.wasm", 3)


def _add(root: Path) -> None:
    (root / "more").touch()


def _remove_one(root: Path) -> None:
    (root / "data/new").unlink()


def _be_a_file(root: Path) -> None:
    shutil.rmtree(root.parent)
    root.parent.touch()


@pytest.mark.parametrize(
    "harm",
    [_remove_all, _remove_files, _remove_record, _damage_record, _shorten, _add, _remove_one, _be_a_file],
)
async def test_what_is_damaged_is_made_anew(registry: Any, stores: Any, harm: Any) -> None:
    put(registry, "me/app:v1")
    reference = registry.reference("me/app:v1")
    image = await stores(registry.address).pull(reference)
    assert image.files is not None
    requests = len(registry.requests)
    harm(image.files.root)
    again = stores(registry.address).get(reference)
    assert again == image
    assert (image.files.root / "data/new").read_text() == "new"
    assert (image.files.root / "b.wasm").read_bytes() == OTHER
    assert not (image.files.root / "more").exists()
    assert len(registry.requests) == requests


async def test_what_is_lost_while_the_agent_runs_is_made_anew(registry: Any, store: ImageStore) -> None:
    put(registry, "me/app:v1")
    image = await store.pull(registry.reference("me/app:v1"))
    assert image.files is not None
    before = [line for line in registry.paths() if "blobs" in line]
    _remove_all(image.files.root)
    assert store.get(image.reference) is None
    assert await store.pull(image.reference) == image
    assert (image.files.root / "data/new").exists()
    assert [line for line in registry.paths() if "blobs" in line] == before
    assert registry.paths().count("GET manifests/v1") == 1


async def test_a_module_that_its_disk_has_changed_is_unpacked_anew(registry: Any, store: ImageStore) -> None:
    put(registry, "me/app:v1")
    image = await store.pull(registry.reference("me/app:v1"))
    assert image.files is not None
    module = image.files.root / "b.wasm"
    status = module.stat()
    module.write_bytes(OTHER[:-1] + b"?")
    os.utime(module, ns=(status.st_atime_ns, status.st_mtime_ns))
    await store.set_aside_damaged(image)
    assert await store.look(image.reference) is None
    before = [line for line in registry.paths() if "blobs" in line]
    assert await store.pull(image.reference) == image
    assert module.read_bytes() == OTHER
    assert [line for line in registry.paths() if "blobs" in line] == before


async def test_a_layer_that_its_disk_has_changed_is_fetched_anew(
    registry: Any, store: ImageStore, tmp_path: Path
) -> None:
    put(registry, "me/app:v1")
    image = await store.pull(registry.reference("me/app:v1"))
    assert image.files is not None
    _remove_all(image.files.root)
    for path in (tmp_path / "images/blobs/sha256").iterdir():
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            path.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
            layer = f"sha256:{path.name}"
    registry.requests.clear()
    assert await store.pull(image.reference) == image
    assert registry.paths("GET") == [f"GET blobs/{layer}"]
    assert (image.files.root / "data/new").exists()


async def test_files_go_with_their_image(registry: Any, store: ImageStore, tmp_path: Path) -> None:
    put(registry, "me/app:v1")
    put(registry, "me/other:v1", [(TAR, BASE)])
    image = await store.pull(registry.reference("me/app:v1"))
    other = await store.pull(registry.reference("me/other:v1"))
    removed = await store.remove_unused(lambda one: one.digest == other.digest)
    assert [one.digest for one in removed] == [image.digest]
    assert [path.name for path in (tmp_path / "images/unpacked").iterdir()] == [other.digest[7:]]
    assert store.get(other.reference) == other


async def test_an_index_has_it_for_wasm(registry: Any, store: ImageStore) -> None:
    document = layered(registry.blob, LAYERS, "linux/amd64", Cmd=["/app"])
    entry = registry.document("me/app:wasm", document) | {"platform": {"os": "wasi", "architecture": "wasm"}}
    other = registry.document("me/app:linux", layered(registry.blob, [(TAR, [])], "linux/amd64"))
    registry.index("me/app:v1", other | {"platform": {"os": "linux", "architecture": "amd64"}}, entry)
    image = await store.pull(registry.reference("me/app:v1"))
    assert module(image, *image.config.cmd)[0] == "/bin/app.wasm"


async def test_layers_of_another_platform_are_not_fetched(registry: Any, store: ImageStore) -> None:
    document = layered(registry.blob, LAYERS, "linux/amd64", Entrypoint=["/bin/sh"])
    registry.document("me/app:v1", document)
    with pytest.raises(
        NotWasmError, match="the image is for linux/amd64 and runs /bin/sh, which is no WebAss"
    ):
        await store.pull(registry.reference("me/app:v1"))
    assert registry.paths() == ["GET manifests/v1", f"GET blobs/{document['config']['digest']}"]


async def test_an_image_of_data_alone_can_be_pulled(registry: Any, store: ImageStore) -> None:
    put(registry, "me/data:v1", [(TAR, [member("data", b"x")])], Entrypoint=None)
    image = await store.pull(registry.reference("me/data:v1"))
    assert image.module_digests == frozenset()
    with pytest.raises(NotWasmError, match="it holds no WebAssembly at all"):
        module(image, "x")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda layer: b"not packed", InvalidLayerError, "the layer is no gzip"),
        (lambda layer: layer[:-9], InvalidLayerError, "the layer is no gzip, or a damaged one"),
    ],
)
async def test_what_is_wrong_with_a_layer_names_it(
    registry: Any, store: ImageStore, tmp_path: Path, change: Any, error: Any, words: str
) -> None:
    document = layered(registry.blob, [(f"{TAR}+gzip", BASE)], Entrypoint=["/app"])
    (layer,) = document["layers"]
    document["layers"] = [registry.blob(change(registry.blobs[layer["digest"]]), layer["mediaType"])]
    registry.document("me/app:v1", document)
    reference = registry.reference("me/app:v1")
    with pytest.raises(error) as caught:
        await store.pull(reference)
    assert words in str(caught.value)
    assert f"registry {registry.address}, repository me/app, reference v1: layer sha256:" in str(caught.value)
    assert store.get(reference) is None
    assert list((tmp_path / "images/unpacked").iterdir()) == []


async def test_another_archive_than_the_config_says(registry: Any, store: ImageStore) -> None:
    document = layered(registry.blob, [(TAR, BASE)], Entrypoint=["/app"])
    config = json.loads(registry.blobs[document["config"]["digest"]])
    for diff_ids, error, words in (
        ([digests.of(b"another")], InvalidLayerError, "the image config says sha256:"),
        ([], InvalidManifestError, "rootfs.diff_ids has 0 entries for 1 layers"),
    ):
        config["rootfs"]["diff_ids"] = diff_ids
        document["config"] = registry.blob(json.dumps(config).encode(), document["config"]["mediaType"])
        registry.document("me/app:v1", document)
        with pytest.raises(error, match=words):
            await store.pull(registry.reference("me/app:v1"))


async def test_a_hostile_layer_leaves_nothing(registry: Any, store: ImageStore, tmp_path: Path) -> None:
    put(registry, "me/app:v1", [(TAR, [member("a", b"x"), symbolic("s", "/etc"), member("../../b", b"y")])])
    with pytest.raises(InvalidLayerError, match=r"'../../b': a path with `\.\.`"):
        await store.pull(registry.reference("me/app:v1"))
    assert list((tmp_path / "images/unpacked").iterdir()) == []
    assert not (tmp_path / "images/b").exists()


async def test_a_full_disk_is_told(
    registry: Any, store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(registry, "me/app:v1")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("oci.layers.tree.write", full)
    with pytest.raises(StoreError, match=r"unpacking in .*: No space left on device"):
        await store.pull(registry.reference("me/app:v1"))
    assert list((tmp_path / "images/unpacked").iterdir()) == []
    monkeypatch.undo()
    assert (await store.pull(registry.reference("me/app:v1"))).files is not None
