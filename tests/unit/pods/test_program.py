"""Which module a container runs, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from oci import digests
from oci.images import Image, ImageConfig
from oci.layers.unpacked import ImageFiles
from oci.reference import parse
from vkubelet.api.containers import Container
from vkubelet.pods.environment import Environment
from vkubelet.pods.program import program
from vkubelet.pods.start_error import StartError

MODULE = b"\0asm\1\0\0\0"
REFERENCE = parse("r.example/me/app:v1")
CONFIG = ImageConfig(entrypoint=("app.wasm",), cmd=("-v",), working_dir="/w")
NOTHING = Environment((), {})


def image(tmp_path: Path, config: ImageConfig = CONFIG) -> Image:
    for name in ("w/app.wasm", "bin/other"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(MODULE + name.encode())
    modules = {name: digests.of(MODULE + name.encode()) for name in ("w/app.wasm", "bin/other")}
    return Image(REFERENCE, "sha256:1", None, "", 1, (), config, ImageFiles(tmp_path, modules))


@pytest.mark.parametrize(
    ("fields", "config", "module", "words"),
    [
        ({}, CONFIG, "w/app.wasm", ("app.wasm", "-v")),
        ({"args": ["-x"]}, CONFIG, "w/app.wasm", ("app.wasm", "-x")),
        ({"command": ["/bin/other"]}, CONFIG, "bin/other", ("/bin/other",)),
        ({"command": ["other", "$(N)"]}, CONFIG, "bin/other", ("other", "7")),
        ({"working_dir": "/bin", "command": ["./other"]}, CONFIG, "bin/other", ("./other",)),
        ({}, ImageConfig(cmd=("/w/app.wasm", "a")), "w/app.wasm", ("/w/app.wasm", "a")),
        ({"args": ["/w/app.wasm"]}, ImageConfig(), "w/app.wasm", ("/w/app.wasm",)),
    ],
)
async def test_an_image_with_files(
    tmp_path: Path, fields: dict[str, object], config: ImageConfig, module: str, words: tuple[str, ...]
) -> None:
    container = Container(name="main", **fields)  # type: ignore[arg-type]
    found = await program(container, image(tmp_path, config), Environment((("PATH", "/bin"),), {"N": "7"}))
    assert found.module == tmp_path / module
    assert found.digest == digests.of(MODULE + module.encode())
    assert found.words == words


@pytest.mark.parametrize(
    ("fields", "config", "message"),
    [
        ({"command": ["/none"]}, CONFIG, "exec: '/none': no such file in the image"),
        ({}, ImageConfig(), "no command specified"),
    ],
)
async def test_what_an_image_does_not_have(
    tmp_path: Path, fields: dict[str, object], config: ImageConfig, message: str
) -> None:
    container = Container(name="main", **fields)  # type: ignore[arg-type]
    with pytest.raises(StartError) as caught:
        await program(container, image(tmp_path, config), NOTHING)
    assert caught.value.reason == "RunContainerError"
    assert message in str(caught.value)


async def test_an_artifact_is_its_module(tmp_path: Path) -> None:
    artifact = Image(REFERENCE, "sha256:1", tmp_path / "m", "sha256:2", 1, (), ImageConfig())
    container = Container(name="main", command=["anything", "x"])
    found = await program(container, artifact, NOTHING)
    assert (found.module, found.digest, found.words) == (tmp_path / "m", "sha256:2", ("anything", "x"))
    assert (await program(Container(name="main"), artifact, NOTHING)).words == ("app",)
