"""Which part of an image is the WebAssembly module.

It exists so that the knowledge of formats is one pure function over a manifest. Formats read now:

- CNCF's wasm OCI artifact: config `application/vnd.wasm.config.v0+json`, one `application/wasm` layer;
- wasm-to-oci's and Krustlet's: config `application/vnd.wasm.config.v1+json`, one
  `application/vnd.wasm.content.layer.v1+wasm` layer;
- any other config, when exactly one layer has a wasm media type; an image config then says how to run it.

It must not know registries or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from oci.errors import InvalidManifestError, Named, NotWasmError
from oci.manifest import INDEXES, Descriptor, Index, Manifest

WASM_CONFIG = "application/vnd.wasm.config.v0+json"
WASM_LAYER = "application/wasm"
WASM_TO_OCI_LAYER = "application/vnd.wasm.content.layer.v1+wasm"
COMPONENT_LAYER = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"
WASM_LAYERS = (WASM_LAYER, WASM_TO_OCI_LAYER, COMPONENT_LAYER)

IMAGE_CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)

_WASM_ARCHITECTURES = ("wasm", "wasm32")
_SHOWN = 12
"""Media types or platforms that an error lists: enough to see what it is, whatever a registry sends."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What of an image is needed: its module and, where it says how to run it, its config."""

    module: Descriptor
    config: Descriptor | None


class ImageConfig(msgspec.Struct, frozen=True):
    """How an image wants to be run, as Docker's config has it; all empty for a wasm artifact.

    `env` is `NAME=value` each, `user` is `USER[:GROUP]`, numbers or names.
    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""


class _ContainerConfig(msgspec.Struct, frozen=True, rename="pascal"):
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    working_dir: str | None = None
    user: str | None = None


class _ConfigDocument(msgspec.Struct, frozen=True):
    config: _ContainerConfig | None = None


def select_module(manifest: Manifest, reference: Named) -> Layout:
    """Find the module. Raises NotWasmError naming the media types that are there instead."""
    modules = [layer for layer in manifest.layers if layer.media_type in WASM_LAYERS]
    if len(modules) == 1:
        config = manifest.config if manifest.config.media_type in IMAGE_CONFIGS else None
        return Layout(module=modules[0], config=config)
    found = f"config {_quoted(manifest.config.media_type)}, layers {_listed(_media_types(manifest.layers))}"
    if modules:
        raise NotWasmError(
            reference, f"the image has {len(modules)} wasm layers, which one to run is not said: {found}"
        )
    raise NotWasmError(reference, f"the image holds no WebAssembly: {found}")


def select_platform(index: Index, reference: Named) -> Descriptor:
    """The first manifest for WebAssembly, whichever WASI the platform names as its operating system.

    An index with a single manifest and no platform leaves nothing to choose. Raises NotWasmError naming the
    platforms that are there instead.
    """
    for entry in index.manifests:
        if entry.platform is not None and entry.platform.architecture in _WASM_ARCHITECTURES:
            return _not_nested(entry, reference)
    unnamed = [entry for entry in index.manifests if entry.platform is None]
    if len(unnamed) == 1 == len(index.manifests):
        return _not_nested(unnamed[0], reference)
    platforms = [str(entry.platform or "no platform") for entry in index.manifests]
    types = _listed(_media_types(index.manifests))
    raise NotWasmError(
        reference,
        f"the image index has no manifest for wasm: platforms {_listed(platforms)}, media types {types}",
    )


def read_config(data: bytes, reference: Named) -> ImageConfig:
    """An image config's run part. Raises InvalidManifestError naming the field."""
    try:
        config = msgspec.json.decode(data, type=_ConfigDocument).config
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidManifestError(reference, f"image config: {error}") from error
    if config is None:
        return ImageConfig()
    return ImageConfig(
        entrypoint=tuple(config.entrypoint or ()),
        cmd=tuple(config.cmd or ()),
        env=tuple(config.env or ()),
        working_dir=config.working_dir or "",
        user=config.user or "",
    )


def _not_nested(entry: Descriptor, reference: Named) -> Descriptor:
    if entry.media_type in INDEXES:
        raise InvalidManifestError(reference, f"an index in an index: manifest {entry.digest}")
    return entry


def _media_types(descriptors: list[Descriptor]) -> list[str]:
    return [descriptor.media_type for descriptor in descriptors]


def _listed(texts: list[str]) -> str:
    unique = list(dict.fromkeys(texts))
    shown = ", ".join(_quoted(text) for text in unique[:_SHOWN])
    return (f"{shown} and {len(unique) - _SHOWN} more" if len(unique) > _SHOWN else shown) or "none"


def _quoted(text: str) -> str:
    return text if text.isprintable() and 0 < len(text) <= 127 else repr(text[:127])
