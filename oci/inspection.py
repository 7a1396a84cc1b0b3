"""What an image holds, without running it: its format, its parts, and the WebAssembly in it.

It exists because people ask that of an image before they run it, and of one that a node has refused. It must
not know a node. An image without WebAssembly is no error here: what it holds instead is the answer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import msgspec

from oci import digests, spin
from oci.artifact import (
    IMAGE_CONFIGS,
    WASM_CONFIG,
    WASM_LAYERS,
    WASM_TO_OCI_LAYER,
    ImageConfig,
    Layered,
    SingleModule,
    check_layered,
    is_for_wasm,
    read_config,
    read_layered_config,
    select_layout,
    select_platform,
)
from oci.binary import NotWasmFileError
from oci.errors import InvalidManifestError, NotWasmError
from oci.fetch import fetch
from oci.kind import Contents, contents
from oci.layers.command import find_module
from oci.layers.unpacked import Layer, Unpacked
from oci.manifest import MAXIMUM_SIZE, Descriptor, Index, Manifest, decode
from oci.plan import layers_of
from oci.registry import Repository
from oci.store import Store


class Part(msgspec.Struct, rename="camel"):
    """A config, a layer or a file. `size` is bytes."""

    media_type: str
    digest: str
    size: int


class Module(msgspec.Struct, rename="camel"):
    """The WebAssembly: what it is, and what it imports and exports, in order.

    `path` is where it is among the image's files, if it is one of them.
    """

    digest: str
    size: int
    kind: str
    imports: list[str]
    exports: list[str]
    path: str = ""


class Inspection(msgspec.Struct, rename="camel", omit_defaults=True):
    """All that was found. `problem` says why there is no `module`; `platforms` are an index's."""

    name: str
    format: str
    digest: str = ""
    platforms: list[str] | None = None
    config: Part | None = None
    layers: list[Part] | None = None
    run: ImageConfig | None = None
    spin: spin.Application | None = None
    module: Module | None = None
    problem: str = ""


Progress = Callable[[Descriptor, int], None]
"""Which blob, and how many bytes of it have come."""


def inspect_file(path: Path) -> Inspection:
    """A file of this machine. Raises OSError."""
    found = Inspection(name=str(path), format="file")
    with path.open("rb") as file:
        found.digest = digests.of_file(file)
    _look_into(found, path, found.digest)
    return found


def inspect_image(
    repository: Repository, store: Store, unpacked: Unpacked, progress: Progress
) -> tuple[Inspection, Path | None]:
    """An image of a registry, with as little of it as it takes, and where its module is now, if it has one.

    Blocks. What is fetched is put into `store` and `unpacked`, of which nothing else is asked. Raises
    OciError, OSError.
    """
    reference = repository.reference
    digest, data = repository.manifest(reference.identifier)
    found = Inspection(name=str(reference), format="image index", digest=digest)
    document = decode(data, reference)
    chosen, parts = False, _Parts(repository, store, unpacked, progress)
    try:
        if isinstance(document, Index):
            found.platforms = [str(entry.platform or "no platform") for entry in document.manifests]
            entry = select_platform(document, reference)
            chosen = is_for_wasm(entry)
            digest, data = repository.manifest(entry.digest)
            document = decode(data, reference)
        if isinstance(document, Index):
            raise InvalidManifestError(reference, "an index in an index")
        found.format = _format(document)
        found.config = _part(document.config)
        found.layers = [_part(layer) for layer in document.layers]
        application = spin.application(document)
        if application is not None:
            found.spin = spin.describe(parts.read(application), reference)
            found.spin.files = sum(map(parts.count_files, document.layers))
        layout = select_layout(document, reference)
        if isinstance(layout, SingleModule):
            return found, _inspect_single(found, layout, parts)
        return found, _inspect_files(found, layout, digest, parts, chosen=chosen)
    except NotWasmError as error:
        found.problem = error.cause
        return found, None


@dataclasses.dataclass(frozen=True, slots=True)
class _Parts:
    """Where the parts of an image come from, and where they are put."""

    repository: Repository
    store: Store
    unpacked: Unpacked
    progress: Progress

    def fetch(self, blob: Descriptor) -> Path:
        if not self.store.has(blob.digest, blob.size):
            fetch(self.repository, self.store, blob, functools.partial(self.progress, blob))
        return self.store.path(blob.digest)

    def count_files(self, layer: Descriptor) -> int:
        """How many there are in an archive of assets."""
        if layer.media_type != spin.ASSETS:
            return 0
        archive = Layer(self.fetch(layer), layer.media_type, layer.digest, None)
        files = self.unpacked.files(self.repository.reference, layer.digest, [archive])
        return sum(path.is_file() and not path.is_symlink() for path in files.root.rglob("*"))

    def read(self, blob: Descriptor) -> bytes:
        if blob.size > MAXIMUM_SIZE:
            cause = f"{blob.media_type} {blob.digest}: {blob.size} bytes, more than {MAXIMUM_SIZE}"
            raise InvalidManifestError(self.repository.reference, cause)
        self.fetch(blob)
        return self.store.read(blob.digest, MAXIMUM_SIZE) or b""


def _inspect_single(found: Inspection, layout: SingleModule, parts: _Parts) -> Path:
    if layout.config is not None:
        found.run = read_config(parts.read(layout.config), parts.repository.reference)
    path = parts.fetch(layout.module)
    _look_into(found, path, layout.module.digest)
    return path


def _inspect_files(found: Inspection, layout: Layered, digest: str, parts: _Parts, *, chosen: bool) -> Path:
    reference = parts.repository.reference
    config = read_layered_config(parts.read(layout.config), reference)
    found.run = config.run
    check_layered(config, layout, reference, chosen=chosen)
    files = parts.unpacked.files(reference, digest, layers_of(layout, config, parts.fetch))
    run = config.run
    module = find_module(files, run.command, run.working_dir, run.path, reference)
    _look_into(found, module.path, module.digest, module.guest)
    return module.path


def _look_into(found: Inspection, path: Path, digest: str, guest: str = "") -> None:
    try:
        read: Contents = contents(path)
    except NotWasmFileError as error:
        found.problem = str(error).removeprefix(f"{path}").lstrip(": ")
        return
    found.module = Module(
        digest=digest,
        size=path.stat().st_size,
        kind=read.kind.value,
        imports=list(read.names.imports),
        exports=list(read.names.exports),
        path=guest,
    )


def _format(manifest: Manifest) -> str:
    """What people call it."""
    if spin.application(manifest) is not None:
        return "Spin application"
    if any(layer.media_type == WASM_TO_OCI_LAYER for layer in manifest.layers):
        return "wasm-to-oci artifact"
    if manifest.config.media_type == WASM_CONFIG:
        return "CNCF wasm artifact"
    if manifest.config.media_type not in IMAGE_CONFIGS:
        return "artifact"
    has_module = any(layer.media_type in WASM_LAYERS for layer in manifest.layers)
    return "image" if has_module else "image with files"


def _part(descriptor: Descriptor) -> Part:
    return Part(media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size)
