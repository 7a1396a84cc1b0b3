"""From a WebAssembly file to an artifact in CNCF's format: its config, its one layer and its manifest.

It exists because a file becomes an artifact for a registry and for this machine's own store in the same way.
The format is that of the CNCF's guidance (tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact). It
must not know where the artifact goes.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from oci import digests
from oci.artifact import WASM_CONFIG, WASM_LAYER
from oci.binary import NotWasmFileError
from oci.component import interfaces
from oci.errors import Named, NotWasmError
from oci.manifest import MANIFEST, Descriptor


@dataclass(frozen=True, slots=True)
class Package:
    """An artifact whose layer is the file itself."""

    config: Descriptor
    config_data: bytes
    layer: Descriptor
    manifest: bytes


def package(
    file: Path, content: io.BufferedReader, reference: Named, annotations: Mapping[str, str] | None = None
) -> Package:
    """The artifact of a core module or component; `content` is the open file, and is read to its end.

    The same file with the same annotations makes the same artifact: its time is the file's. Raises
    NotWasmError, and OSError when the file cannot be read.
    """
    digest = digests.of_file(content)
    layer = Descriptor(WASM_LAYER, digest, content.tell())
    try:
        data = msgspec.json.encode(_config(file, layer.digest))
    except NotWasmFileError as error:
        raise NotWasmError(reference, str(error)) from error
    config = Descriptor(WASM_CONFIG, digests.of(data), len(data))
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.document(),
        # By its title `oras pull` writes it to a file.
        "layers": [{**layer.document(), "annotations": {"org.opencontainers.image.title": file.name}}],
    }
    if annotations:
        manifest["annotations"] = dict(sorted(annotations.items()))
    return Package(config, data, layer, msgspec.json.encode(manifest))


def _config(file: Path, layer: str) -> dict[str, Any]:
    """The config names the layer so that no two artifacts share it: some registries tell images by it."""
    created = datetime.datetime.fromtimestamp(int(file.stat().st_mtime), datetime.UTC)
    found = interfaces(file)
    config: dict[str, Any] = {
        "created": created.isoformat().replace("+00:00", "Z"),
        "architecture": "wasm",
        "os": "wasip1" if found is None else "wasip2",
        "layerDigests": [layer],
    }
    if found is not None:
        config["component"] = {"imports": list(found.imports), "exports": list(found.exports)}
    return config
