"""`vkubelet pull`, `images` and `images prune` as processes beside an agent that has the same store open."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from tars import TAR, layered, member

from oci import digests
from oci.images import ImageStore
from providers.wasmtime.compile import Compiler
from vkubelet.pods.images.access import AccessFiles

MODULE = bytes(wasmtime.wat2wasm('(module (memory (export "memory") 1) (func (export "_start")))'))
OTHER = bytes(wasmtime.wat2wasm('(module (memory (export "memory") 2) (func (export "_start")))'))

Command = Callable[..., Awaitable[str]]


@pytest.fixture
def vkubelet(tmp_path: Path, registry: Any) -> Command:
    """Runs the command on this test's node; gives its output, or its error where it must fail."""
    config = tmp_path / "config.yaml"
    config.write_text(f"rootDir: {tmp_path}\ninsecureRegistries: ['{registry.address}']\n")

    async def run(*arguments: str, code: int = 0) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vkubelet.cli", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": str(tmp_path), "VKUBELET_ROOT_DIR": "/nowhere"},
        )
        output, errors = await process.communicate()
        assert process.returncode == code, errors.decode()
        return (errors if code else output).decode()

    async def on_node(*arguments: str, code: int = 0) -> str:
        return await run(*arguments, f"--config={config}", f"--root-dir={tmp_path}", code=code)

    return on_node


@pytest.fixture
def agent(tmp_path: Path, registry: Any) -> ImageStore:
    (tmp_path / "run").mkdir()
    store = ImageStore(tmp_path / "images", owner=tmp_path / "run", insecure_registries=[registry.address])
    store.open()
    return store


async def test_what_is_pulled_is_here_compiled_and_open_to_all(
    registry: Any, vkubelet: Command, agent: ImageStore, tmp_path: Path
) -> None:
    digest = registry.image("me/app:v1", MODULE)["digest"]
    document = layered(registry.blob, [(TAR, [member("bin/app.wasm", OTHER)])], Cmd=["/bin/app.wasm"])
    files = registry.document("me/files:v1", document)["digest"]
    first, second = f"{registry.address}/me/app:v1", f"{registry.address}/me/files:v1"
    output = await vkubelet("pull", first, second)
    assert set(output.split()) == {
        f"{registry.address}/me/app@{digest}", f"{registry.address}/me/files@{files}",
    }  # fmt: skip
    registry.requests.clear()
    for path, module in (("me/app:v1", MODULE), ("me/files:v1", OTHER)):
        image = await agent.look(registry.reference(path))
        assert image is not None
        assert image.module_digests == {digests.of(module)}
        assert AccessFiles(tmp_path / "image-access").get(image.digest, path_of(registry, path)).everybody
        compiler = Compiler(tmp_path / "compiled")
        # There is nothing to read any more for who must compile it.
        assert (await compiler.prepare(Path("/nothing"), digests.of(module))).path.exists()
    assert registry.requests == []


def path_of(registry: Any, path: str) -> str:
    return f"{registry.address}/{path.partition(':')[0]}"


async def test_credentials_are_dockers(registry: Any, vkubelet: Command, tmp_path: Path) -> None:
    registry.image("me/app:v1", MODULE)
    wanted = "Basic " + base64.b64encode(b"me:secret").decode()

    async def guarded(request: Any) -> Any:
        if request.headers.get("Authorization") == wanted:
            return registry.serve(request)
        return await registry.status(401, headers={"WWW-Authenticate": 'Basic realm="x"'})(request)

    registry.faults["/v2/me/app"] = guarded
    assert "401" in await vkubelet("pull", f"{registry.address}/me/app:v1", code=1)
    (tmp_path / ".docker").mkdir()
    auths = {registry.address: {"auth": base64.b64encode(b"me:secret").decode()}}
    (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": auths}))
    assert "me/app@sha256:" in await vkubelet("pull", f"{registry.address}/me/app:v1")


async def test_what_fails_is_told_and_the_others_are_pulled(registry: Any, vkubelet: Command) -> None:
    registry.image("me/app:v1", MODULE)
    registry.image("me/bad:v1", b"\0asm\1\0\0\0 this is no module")
    images = [f"{registry.address}/me/{name}:v1" for name in ("app", "bad", "missing")]
    error = await vkubelet("pull", *images, code=1)
    assert f"{registry.address}/me/bad:v1: " in error
    assert "repository me/missing, reference v1: " in error
    listed = json.loads(await vkubelet("images", "--json"))
    assert [image["names"][-1] for image in listed] == images[:2]
    assert "invalid reference format" in await vkubelet("pull", "Not A Name", code=1)


async def test_images_are_listed(registry: Any, vkubelet: Command, agent: ImageStore) -> None:
    assert await vkubelet("images") == "IMAGE  DIGEST  SIZE  PULLED  USED\n"
    assert json.loads(await vkubelet("images", "--json")) == []
    registry.image("me/app:v1", MODULE)
    registry.image("me/other:v1", OTHER)
    await vkubelet("pull", f"{registry.address}/me/app:v1", f"{registry.address}/me/other:v1")
    image = await agent.look(registry.reference("me/app:v1"))
    assert image is not None
    used, unused = json.loads(await vkubelet("images", "--json"))
    assert used.pop("pulled")
    assert used == {
        "names": list(image.names), "digest": image.digest, "size": image.size, "inUse": True
    }  # fmt: skip
    assert unused["inUse"] is False
    header, first, second = (await vkubelet("images")).splitlines()
    assert header.split() == ["IMAGE", "DIGEST", "SIZE", "PULLED", "USED"]
    assert first.split()[:2] == [f"{registry.address}/me/app:v1", image.digest[7:19]]
    assert (first.split()[-1], second.split()[-1]) == ("yes", "no")


async def test_what_nobody_uses_is_removed(
    registry: Any, vkubelet: Command, agent: ImageStore, tmp_path: Path
) -> None:
    registry.image("me/app:v1", MODULE)
    registry.image("me/other:v1", OTHER)
    await vkubelet("pull", f"{registry.address}/me/app:v1", f"{registry.address}/me/other:v1")
    used = await agent.look(registry.reference("me/app:v1"))
    output = await vkubelet("images", "prune")
    assert output.startswith(f"removed {registry.address}/me/other:v1\n")
    assert output.endswith(" freed\n")
    assert agent.get(registry.reference("me/app:v1")) == used is not None
    assert await agent.look(registry.reference("me/other:v1")) is None
    compiled = {path.name.partition("-")[0] for path in (tmp_path / "compiled").glob("*.cwasm")}
    assert compiled == {digests.of(MODULE)[7:]}
    assert len(list((tmp_path / "image-access").iterdir())) == 1
    assert await vkubelet("images", "prune") == "0 B freed\n"
    # When the agent is done with it, it goes as well.
    await agent.release((), {})
    assert "removed" in await vkubelet("images", "prune")
    assert agent.get(registry.reference("me/app:v1")) is None


async def test_a_store_that_cannot_be_opened(vkubelet: Command, tmp_path: Path) -> None:
    (tmp_path / "images").write_text("")
    assert await vkubelet("images", code=1) == f"vkubelet: {tmp_path}/images: File exists\n"


async def test_a_configuration_that_cannot_be_read(vkubelet: Command, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("rootDirectory: x\n")
    assert "rootDirectory" in await vkubelet("images", "prune", code=1)


async def test_an_image_policy_holds_here_too(registry: Any, vkubelet: Command, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text() + f"imagePolicyFile: {policy}\n")
    registry.image("me/app:v1", MODULE)
    image = f"{registry.address}/me/app:v1"
    policy.write_text("{")
    assert "policy.json" in await vkubelet("pull", image, code=1)
    policy.write_text('{"default": [{"type": "reject"}]}')
    assert "repository me/app, reference v1: " in await vkubelet("pull", image, code=1)
    assert json.loads(await vkubelet("images", "--json")) == []
