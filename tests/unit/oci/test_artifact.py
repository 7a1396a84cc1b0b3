"""Which layer is the module, which manifest is for wasm, and what is said when there is none."""

import json

import pytest

from oci import digests
from oci.artifact import (
    COMPONENT_LAYER,
    IMAGE_CONFIGS,
    WASM_CONFIG,
    WASM_LAYER,
    WASM_TO_OCI_LAYER,
    ImageConfig,
    read_config,
    select_module,
    select_platform,
)
from oci.errors import InvalidManifestError, NotWasmError
from oci.manifest import INDEX, MANIFEST, Descriptor, Index, Manifest, Platform
from oci.reference import parse

REFERENCE = parse("ghcr.io/me/x:v")
TAR = "application/vnd.oci.image.layer.v1.tar+gzip"


def layer(media_type: str, content: bytes = b"") -> Descriptor:
    return Descriptor(media_type=media_type, digest=digests.of(content), size=len(content))


def image(config: str, *layers: str) -> Manifest:
    return Manifest(config=layer(config), layers=[layer(kind, kind.encode()) for kind in layers])


@pytest.mark.parametrize(
    ("config", "layers", "module", "has_config"),
    [
        (WASM_CONFIG, [WASM_LAYER], WASM_LAYER, False),
        ("application/vnd.wasm.config.v1+json", [WASM_TO_OCI_LAYER], WASM_TO_OCI_LAYER, False),
        ("application/vnd.unknown.config.v1+json", [WASM_LAYER], WASM_LAYER, False),
        ("application/vnd.oci.empty.v1+json", [COMPONENT_LAYER], COMPONENT_LAYER, False),
        (IMAGE_CONFIGS[0], [COMPONENT_LAYER], COMPONENT_LAYER, True),
        (IMAGE_CONFIGS[1], [WASM_LAYER], WASM_LAYER, True),
        (WASM_CONFIG, ["text/plain", WASM_LAYER, TAR], WASM_LAYER, False),
    ],
)
def test_the_module_is_found(config: str, layers: list[str], module: str, has_config: bool) -> None:
    layout = select_module(image(config, *layers), REFERENCE)
    assert layout.module.digest == digests.of(module.encode())
    assert (layout.config is not None) is has_config


@pytest.mark.parametrize(
    ("config", "layers", "words"),
    [
        (IMAGE_CONFIGS[0], [TAR], [IMAGE_CONFIGS[0], TAR, "holds no WebAssembly"]),
        ("text/x", [], ["text/x", "layers none"]),
        (WASM_CONFIG, [WASM_LAYER, COMPONENT_LAYER], ["2 wasm layers", WASM_LAYER, COMPONENT_LAYER]),
        ("", ["\n"], ["config ''", r"layers '\n'"]),
        (WASM_CONFIG, [f"text/{i}" for i in range(20)], ["text/11 and 8 more"]),
    ],
)
def test_what_is_there_instead_is_named(config: str, layers: list[str], words: list[str]) -> None:
    with pytest.raises(NotWasmError) as caught:
        select_module(image(config, *layers), REFERENCE)
    for word in [*words, "registry ghcr.io, repository me/x, reference v"]:
        assert word in str(caught.value)


def entry(platform: str, media_type: str = MANIFEST) -> Descriptor:
    system, _, architecture = platform.partition("/")
    return Descriptor(
        media_type=media_type,
        digest=digests.of(platform.encode()),
        size=1,
        platform=Platform(os=system, architecture=architecture) if platform else None,
    )


@pytest.mark.parametrize(
    ("platforms", "chosen"),
    [
        (["linux/amd64", "wasi/wasm"], "wasi/wasm"),
        (["wasip1/wasm", "wasip2/wasm"], "wasip1/wasm"),
        (["linux/arm64", "wasip2/wasm"], "wasip2/wasm"),
        (["wasi/wasm32"], "wasi/wasm32"),
        (["/wasm"], "/wasm"),
        (["unknown/unknown", "wasi/wasm"], "wasi/wasm"),
        ([""], ""),
    ],
)
def test_the_platform_for_wasm(platforms: list[str], chosen: str) -> None:
    index = Index(manifests=[entry(platform) for platform in platforms])
    assert select_platform(index, REFERENCE).digest == digests.of(chosen.encode())


@pytest.mark.parametrize("platforms", [[], ["linux/amd64", "linux/arm64"], ["", ""], ["", "linux/amd64"]])
def test_platforms_without_wasm_are_named(platforms: list[str]) -> None:
    with pytest.raises(NotWasmError) as caught:
        select_platform(Index(manifests=[entry(platform) for platform in platforms]), REFERENCE)
    for platform in platforms:
        assert (platform or "no platform") in str(caught.value)


def test_an_index_in_an_index_is_refused() -> None:
    with pytest.raises(InvalidManifestError, match="an index in an index"):
        select_platform(Index(manifests=[entry("wasi/wasm", INDEX)]), REFERENCE)


def test_a_config_says_how_to_run() -> None:
    config = {"Entrypoint": ["/app.wasm"], "Cmd": ["-v"], "Env": ["A=b"], "WorkingDir": "/w", "User": "1"}
    assert read_config(json.dumps({"config": config, "os": "wasip1"}).encode(), REFERENCE) == ImageConfig(
        entrypoint=("/app.wasm",), cmd=("-v",), env=("A=b",), working_dir="/w", user="1"
    )
    assert read_config(b"{}", REFERENCE) == ImageConfig()
    assert read_config(b'{"config":{"Cmd":null}}', REFERENCE) == ImageConfig()
    with pytest.raises(InvalidManifestError, match=r"image config: .*\$\.config\.Cmd"):
        read_config(b'{"config":{"Cmd":"x"}}', REFERENCE)
