"""What an image holds, without running it: its format, its parts, and the WebAssembly in it.

It exists because people ask that of an image before they run it, and of one that a node has refused. It must
not know a node. An image without WebAssembly is no error here: what it holds instead is the answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import msgspec

from oci import digests
from oci.artifact import (
    IMAGE_CONFIGS,
    WASM_CONFIG,
    WASM_TO_OCI_LAYER,
    ImageConfig,
    read_config,
    select_module,
    select_platform,
)
from oci.binary import NotWasmFileError
from oci.errors import InvalidManifestError, NotWasmError
from oci.fetch import fetch
from oci.kind import Contents, contents
from oci.manifest import MAXIMUM_SIZE, Descriptor, Index, Manifest, decode
from oci.registry import Repository
from oci.store import Store


class Part(msgspec.Struct, rename="camel"):
    """A config, a layer or a file. `size` is bytes."""

    media_type: str
    digest: str
    size: int


class Module(msgspec.Struct, rename="camel"):
    """The WebAssembly: what it is, and what it imports and exports, in order."""

    digest: str
    size: int
    kind: str
    imports: list[str]
    exports: list[str]


class Inspection(msgspec.Struct, rename="camel", omit_defaults=True):
    """All that was found. `problem` says why there is no `module`; `platforms` are an index's."""

    name: str
    format: str
    digest: str = ""
    platforms: list[str] | None = None
    config: Part | None = None
    layers: list[Part] | None = None
    run: ImageConfig | None = None
    module: Module | None = None
    problem: str = ""


def inspect_file(path: Path) -> Inspection:
    """A file of this machine. Raises OSError."""
    found = Inspection(name=str(path), format="file")
    with path.open("rb") as file:
        found.digest = digests.of_file(file)
    _look_into(found, path, found.digest)
    return found


def inspect_image(
    repository: Repository, store: Store, progress: Callable[[Descriptor, int], None]
) -> Inspection:
    """An image of a registry, with as little of it as it takes. Blocks. Raises OciError, OSError.

    What is fetched is put into `store`, of which nothing else is asked; `progress` is told how many bytes of
    a blob have come.
    """
    reference = repository.reference
    digest, data = repository.manifest(reference.identifier)
    found = Inspection(name=str(reference), format="image index", digest=digest)
    document = decode(data, reference)
    try:
        if isinstance(document, Index):
            found.platforms = [str(entry.platform or "no platform") for entry in document.manifests]
            _, data = repository.manifest(select_platform(document, reference).digest)
            document = decode(data, reference)
        if isinstance(document, Index):
            raise InvalidManifestError(reference, "an index in an index")
        found.format = _format(document)
        found.config = _part(document.config)
        found.layers = [_part(layer) for layer in document.layers]
        layout = select_module(document, reference)
    except NotWasmError as error:
        found.problem = error.cause
        return found
    for blob in (layout.config, layout.module):
        if blob is not None:
            fetch(repository, store, blob, functools.partial(progress, blob))
    if layout.config is not None:
        found.run = read_config(store.read(layout.config.digest, MAXIMUM_SIZE) or b"", reference)
    _look_into(found, store.path(layout.module.digest), layout.module.digest)
    return found


def _look_into(found: Inspection, path: Path, digest: str) -> None:
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
    )


def _format(manifest: Manifest) -> str:
    """What people call it."""
    if any(layer.media_type == WASM_TO_OCI_LAYER for layer in manifest.layers):
        return "wasm-to-oci artifact"
    if manifest.config.media_type == WASM_CONFIG:
        return "CNCF wasm artifact"
    return "image" if manifest.config.media_type in IMAGE_CONFIGS else "artifact"


def _part(descriptor: Descriptor) -> Part:
    return Part(media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size)
