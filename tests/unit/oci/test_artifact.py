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
    Layered,
    SingleModule,
    check_layered,
    read_config,
    read_layered_config,
    select_layout,
    select_platform,
)
from oci.errors import InvalidManifestError, NotWasmError
from oci.manifest import INDEX, MANIFEST, Descriptor, Index, Manifest, Platform
from oci.reference import parse

REFERENCE = parse("ghcr.io/me/x:v")
TAR = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
SPIN = "application/vnd.fermyon.spin.application.v1+config"


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
    layout = select_layout(image(config, *layers), REFERENCE)
    assert isinstance(layout, SingleModule)
    assert layout.module.digest == digests.of(module.encode())
    assert (layout.config is not None) is has_config


@pytest.mark.parametrize(
    ("config", "layers", "words"),
    [
        (WASM_CONFIG, [TAR], [WASM_CONFIG, TAR, "holds no WebAssembly"]),
        (IMAGE_CONFIGS[0], [], [IMAGE_CONFIGS[0], "holds no WebAssembly"]),
        (IMAGE_CONFIGS[0], [TAR, "text/x"], ["has the unknown type text/x"]),
        (IMAGE_CONFIGS[0], [FOREIGN, TAR], [f"is not in the registry ({FOREIGN})"]),
        (SPIN, [WASM_TO_OCI_LAYER], ["a Spin application, whose triggers are not run yet", SPIN]),
        (IMAGE_CONFIGS[0], [WASM_TO_OCI_LAYER, SPIN], ["a Spin application"]),
        ("text/x", [], ["text/x", "layers none"]),
        (WASM_CONFIG, [WASM_LAYER, COMPONENT_LAYER], ["2 wasm layers", WASM_LAYER, COMPONENT_LAYER]),
        ("", ["\n"], ["config ''", r"layers '\n'"]),
        (WASM_CONFIG, [f"text/{i}" for i in range(20)], ["text/11 and 8 more"]),
    ],
)
def test_what_is_there_instead_is_named(config: str, layers: list[str], words: list[str]) -> None:
    with pytest.raises(NotWasmError) as caught:
        select_layout(image(config, *layers), REFERENCE)
    for word in [*words, "registry ghcr.io, repository me/x, reference v"]:
        assert word in str(caught.value)


def test_an_image_with_files() -> None:
    types = (TAR, "application/vnd.docker.image.rootfs.diff.tar", TAR.replace("gzip", "zstd"))
    for config in IMAGE_CONFIGS:
        found = select_layout(image(config, *types), REFERENCE)
        assert isinstance(found, Layered)
        assert found.config.media_type == config
        assert tuple(one.media_type for one in found.layers) == types


def test_what_is_not_worth_to_be_fetched() -> None:
    with pytest.raises(InvalidManifestError, match="501 layers, more than 500"):
        select_layout(image(IMAGE_CONFIGS[0], *[TAR] * 501), REFERENCE)
    large = Manifest(Descriptor(IMAGE_CONFIGS[1], digests.of(b""), 2**40), [layer(WASM_LAYER)])
    with pytest.raises(InvalidManifestError, match="a config of 1099511627776 bytes, more than 4194304"):
        select_layout(large, REFERENCE)


def config_of(platform: str, command: str = "/app.wasm", diff_ids: list[str] | None = None) -> bytes:
    system, _, architecture = platform.partition("/")
    document = {
        "os": system,
        "architecture": architecture,
        "config": {"Entrypoint": command.split()},
        "rootfs": {"type": "layers", "diff_ids": [digests.of(b"x")] if diff_ids is None else diff_ids},
    }
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("config", "chosen", "error", "words"),
    [
        (config_of("wasip1/wasm", "/anything"), False, None, ""),
        (config_of("linux/amd64", "/anything"), True, None, ""),
        (config_of("linux/amd64", "app.wasm"), False, None, ""),
        (
            config_of("linux/amd64", "/bin/sh -c x"),
            False,
            NotWasmError,
            "is for linux/amd64 and runs /bin/sh,",
        ),
        (config_of("linux/amd64", ""), False, None, ""),
        (config_of("", "/bin/sh"), False, NotWasmError, "is for no platform and runs /bin/sh,"),
        (b"{}", False, InvalidManifestError, "has 0 entries for 1 layers"),
        (config_of("wasi/wasm", diff_ids=[]), False, InvalidManifestError, "has 0 entries for 1 layers"),
        (
            config_of("wasi/wasm", diff_ids=["sha256:x"]),
            False,
            InvalidManifestError,
            "diff_ids[0] 'sha256:x'",
        ),
    ],
)
def test_an_image_with_files_says_that_it_is_for_wasm(
    config: bytes, chosen: bool, error: type[Exception] | None, words: str
) -> None:
    layout = select_layout(image(IMAGE_CONFIGS[0], TAR), REFERENCE)
    assert isinstance(layout, Layered)
    told = read_layered_config(config, REFERENCE)
    if error is None:
        check_layered(told, layout, REFERENCE, chosen=chosen)
        return
    with pytest.raises(error) as caught:
        check_layered(told, layout, REFERENCE, chosen=chosen)
    assert words in str(caught.value)


def entry(platform: str, media_type: str = MANIFEST) -> Descriptor:
    if platform.startswith("type:"):
        return Descriptor(
            media_type, digests.of(platform.encode()), 1, artifact_type=platform.removeprefix("type:")
        )
    system, architecture, variant = (*platform.split("/"), "", "")[:3]
    return Descriptor(
        media_type=media_type,
        digest=digests.of(platform.encode()),
        size=1,
        platform=Platform(architecture, system, variant) if platform else None,
    )


@pytest.mark.parametrize(
    ("platforms", "chosen"),
    [
        (["linux/amd64", "wasi/wasm"], "wasi/wasm"),
        (["wasip1/wasm", "wasip2/wasm"], "wasip2/wasm"),
        (["js/wasm", "/wasm", "wasm/wasm", "wasi/wasm", "wasip1/wasm"], "wasip1/wasm"),
        (["js/wasm", "/wasm", "wasm/wasm"], "wasm/wasm"),
        (["js/wasm", "/wasm32"], "/wasm32"),
        (["wasip1/wasm/v1", "wasip1/wasm", "wasip1/wasm/v2"], "wasip1/wasm"),
        (["wasip1/wasm/v1", "wasip1/wasm/v2"], "wasip1/wasm/v1"),
        (["", "unknown/unknown"], ""),
        (["type:application/vnd.example.sbom", ""], ""),
        (["type:application/vnd.example.app"], "type:application/vnd.example.app"),
        (["type:application/vnd.wasm.config.v0+json"], "type:application/vnd.wasm.config.v0+json"),
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


@pytest.mark.parametrize(
    "platforms", [[], ["linux/amd64", "linux/arm64"], ["", ""], ["", "linux/amd64"], ["unknown/unknown"]]
)
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
