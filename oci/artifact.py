"""What of an image is needed to run it: one module, or all of its files.

It exists so that the knowledge of formats is one pure function over a manifest. Formats read now, in this
order:

- CNCF's wasm OCI artifact: config `application/vnd.wasm.config.v0+json`, one `application/wasm` layer;
- wasm-to-oci's and Krustlet's: config `application/vnd.wasm.config.v1+json`, one
  `application/vnd.wasm.content.layer.v1+wasm` layer;
- any other config, when exactly one layer has a wasm media type; an image config then says how to run it;
- an image config with layers of files, one of which is the module that the config names.

Spin applications are recognised, and refused. It must not know registries or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from oci import digests, spin
from oci.errors import InvalidManifestError, Named, NotWasmError, UnsupportedImageError
from oci.layers.compression import LAYERS, NOT_DISTRIBUTED
from oci.manifest import INDEXES, MAXIMUM_SIZE, Descriptor, Index, Manifest, Platform

WASM_CONFIG = "application/vnd.wasm.config.v0+json"
WASM_CONFIGS = (WASM_CONFIG, "application/vnd.wasm.config.v1+json")
WASM_LAYER = "application/wasm"
WASM_TO_OCI_LAYER = "application/vnd.wasm.content.layer.v1+wasm"
COMPONENT_LAYER = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"
WASM_LAYERS = (WASM_LAYER, WASM_TO_OCI_LAYER, COMPONENT_LAYER)

IMAGE_CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)

_WASM_ARCHITECTURES = ("wasm", "wasm32")
_SYSTEMS = ("wasip2", "wasip1", "wasi", "wasm", "")
"""Operating systems of a platform for wasm, the one that says most first; any other comes after them."""
MAXIMUM_LAYERS = 500
"""Of files: each is asked for by itself. Docker makes no more than 127."""
_SHOWN = 12
"""Media types or platforms that an error lists: enough to see what it is, whatever a registry sends."""


@dataclass(frozen=True, slots=True)
class SingleModule:
    """An artifact: its module and, where it says how to run it, its config."""

    module: Descriptor
    config: Descriptor | None


@dataclass(frozen=True, slots=True)
class Layered:
    """An image with files: its config, and its layers, the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


Layout = SingleModule | Layered


class ImageConfig(msgspec.Struct, frozen=True):
    """How an image wants to be run, as Docker's config has it; all empty for a wasm artifact.

    `env` is `NAME=value` each, `user` is `USER[:GROUP]`, numbers or names.
    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""

    @property
    def command(self) -> tuple[str, ...]:
        """What it runs unless somebody says otherwise: a program and its arguments."""
        return (*self.entrypoint, *self.cmd)

    @property
    def path(self) -> str | None:
        """What it has PATH be, if anything."""
        values = [one.removeprefix("PATH=") for one in self.env if one.startswith("PATH=")]
        return values[-1] if values else None


class _ContainerConfig(msgspec.Struct, frozen=True, rename="pascal"):
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    working_dir: str | None = None
    user: str | None = None


class _RootFs(msgspec.Struct, frozen=True):
    diff_ids: list[str] | None = None


class _ConfigDocument(msgspec.Struct, frozen=True):
    config: _ContainerConfig | None = None
    os: str = ""
    architecture: str = ""
    rootfs: _RootFs | None = None


@dataclass(frozen=True, slots=True)
class LayeredConfig:
    """What an image with files says of itself; `diff_ids` are its layers' digests, unpacked."""

    run: ImageConfig
    platform: Platform
    diff_ids: tuple[str, ...]


def select_layout(manifest: Manifest, reference: Named) -> Layout:
    """What there is to run.

    Raises NotWasmError naming the media types that are there instead, and InvalidManifestError for what is
    not worth to be fetched.
    """
    modules = [layer for layer in manifest.layers if layer.media_type in WASM_LAYERS]
    found = f"config {_quoted(manifest.config.media_type)}, layers {_listed(_media_types(manifest.layers))}"
    if spin.application(manifest) is not None:
        raise UnsupportedImageError(
            reference, f"the image is a Spin application, whose triggers are not run yet: {found}"
        )
    has_image_config = manifest.config.media_type in IMAGE_CONFIGS
    if has_image_config and manifest.config.size > MAXIMUM_SIZE:
        raise InvalidManifestError(
            reference, f"manifest: a config of {manifest.config.size} bytes, more than {MAXIMUM_SIZE}"
        )
    if len(modules) == 1:
        return SingleModule(module=modules[0], config=manifest.config if has_image_config else None)
    if modules:
        raise NotWasmError(
            reference, f"the image has {len(modules)} wasm layers, which one to run is not said: {found}"
        )
    if not has_image_config or not manifest.layers:
        raise NotWasmError(reference, f"the image holds no WebAssembly: {found}")
    if len(manifest.layers) > MAXIMUM_LAYERS:
        raise InvalidManifestError(
            reference, f"manifest: {len(manifest.layers)} layers, more than {MAXIMUM_LAYERS}"
        )
    for layer in manifest.layers:
        if layer.media_type in NOT_DISTRIBUTED:
            raise NotWasmError(
                reference, f"layer {layer.digest} is not in the registry ({layer.media_type}): {found}"
            )
        if layer.media_type not in LAYERS:
            raise NotWasmError(
                reference,
                f"layer {layer.digest} has the unknown type {_quoted(layer.media_type)}, "
                f"and none is a module: {found}",
            )
    return Layered(config=manifest.config, layers=tuple(manifest.layers))


def select_platform(index: Index, reference: Named) -> Descriptor:
    """The manifest for WebAssembly that says most of its operating system.

    That is the first of `wasip2`, `wasip1`, `wasi`, `wasm` and none at all, then any other; of several, the
    one without a variant, then the first. An index with a single manifest and no platform, whatever
    attestations are beside it, leaves nothing to choose. Raises NotWasmError naming the platforms that are
    there instead.
    """
    for_wasm = [entry for entry in index.manifests if is_for_wasm(entry)]
    if for_wasm:
        return _not_nested(min(for_wasm, key=_preference), reference)
    images = [entry for entry in index.manifests if not _is_beside(entry)]
    if not images and len(index.manifests) == 1:
        images = index.manifests  # beside nothing: an artifact of a type of its own
    if len(images) == 1 and images[0].platform is None:
        return _not_nested(images[0], reference)
    platforms = [str(entry.platform or "no platform") for entry in index.manifests]
    types = _listed(_media_types(index.manifests))
    raise NotWasmError(
        reference,
        f"the image index has no manifest for wasm: platforms {_listed(platforms)}, media types {types}",
    )


def is_for_wasm(entry: Descriptor) -> bool:
    """Whether an index says of a manifest that it is for WebAssembly."""
    return entry.platform is not None and _is_wasm(entry.platform)


def _is_wasm(platform: Platform) -> bool:
    return platform.architecture in _WASM_ARCHITECTURES


def _preference(entry: Descriptor) -> tuple[int, bool]:
    platform = entry.platform or Platform()
    rank = _SYSTEMS.index(platform.os) if platform.os in _SYSTEMS else len(_SYSTEMS)
    return rank, bool(platform.variant)


def _is_beside(entry: Descriptor) -> bool:
    """Whether a manifest tells of another: an attestation, a signature."""
    if entry.platform is not None:
        return (entry.platform.os, entry.platform.architecture) == ("unknown", "unknown")
    return entry.artifact_type not in ("", *WASM_CONFIGS)


def check_layered(config: LayeredConfig, layout: Layered, reference: Named, *, chosen: bool) -> None:
    """See that it is worth to fetch an image's layers: it is for wasm, and says what each layer is.

    `chosen` is an image that an index has for wasm. Images of other platforms are taken if what they run is
    called `.wasm`, as buildah's for crun, which knows no platform for wasm, or if they run nothing: they are
    files for a volume. Raises NotWasmError and InvalidManifestError.
    """
    command = config.run.command
    if not (chosen or _is_wasm(config.platform) or not command or command[0].endswith(".wasm")):
        platform = str(config.platform) or "no platform"
        raise NotWasmError(
            reference,
            f"the image is for {platform} and runs {_quoted(command[0])}, which is no WebAssembly",
        )
    if len(config.diff_ids) != len(layout.layers):
        raise InvalidManifestError(
            reference,
            f"image config: rootfs.diff_ids has {len(config.diff_ids)} entries for "
            f"{len(layout.layers)} layers",
        )
    for index, digest in enumerate(config.diff_ids):
        if not digests.valid(digest):
            raise InvalidManifestError(
                reference, f"image config: rootfs.diff_ids[{index}] {digest[:160]!r} is no digest"
            )


def read_config(data: bytes, reference: Named) -> ImageConfig:
    """An image config's run part. Raises InvalidManifestError naming the field."""
    return read_layered_config(data, reference).run


def read_layered_config(data: bytes, reference: Named) -> LayeredConfig:
    """An image config. Raises InvalidManifestError naming the field."""
    try:
        document = msgspec.json.decode(data, type=_ConfigDocument)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidManifestError(reference, f"image config: {error}") from error
    config = document.config or _ContainerConfig()
    run = ImageConfig(
        entrypoint=tuple(config.entrypoint or ()),
        cmd=tuple(config.cmd or ()),
        env=tuple(config.env or ()),
        working_dir=config.working_dir or "",
        user=config.user or "",
    )
    diff_ids = document.rootfs.diff_ids if document.rootfs is not None else None
    platform = Platform(os=document.os, architecture=document.architecture)
    return LayeredConfig(run, platform, tuple(diff_ids or ()))


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
