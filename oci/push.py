"""From a WebAssembly file to an artifact in a registry, in CNCF's format.

It exists so that a module reaches a registry with no other tool. The format is that of the CNCF's wasm OCI
artifact guidance (tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact). It must not know the node.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from oci import digests
from oci.artifact import WASM_CONFIG, WASM_LAYER
from oci.auth import Credentials
from oci.component import NotWasmFileError, interfaces
from oci.errors import InvalidReferenceError, NotWasmError
from oci.manifest import MANIFEST
from oci.reference import parse
from oci.registry import Repository

__all__ = ["push_module"]


def push_module(
    file: Path,
    reference: str,
    *,
    insecure: bool,
    annotations: Mapping[str, str] | None = None,
    credentials: Credentials | None = None,
) -> str:
    """Push a core module or component; returns the manifest's digest. Blocks.

    The same file with the same annotations makes the same artifact: its time is the file's. Raises OciError,
    and OSError when the file cannot be read.
    """
    target = parse(reference)
    if target.digest is not None:
        raise InvalidReferenceError(reference, "a push needs a tag; the digest is made from the content")
    with file.open("rb") as content:
        layer = _descriptor(
            WASM_LAYER, f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}", content.tell()
        )
        try:
            config = msgspec.json.encode(_config(file, layer["digest"]))
        except NotWasmFileError as error:
            raise NotWasmError(target, str(error)) from error
        config_descriptor = _descriptor(WASM_CONFIG, digests.of(config), len(config))
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config_descriptor,
            "layers": [layer],
        }
        if annotations:
            manifest["annotations"] = dict(sorted(annotations.items()))
        data = msgspec.json.encode(manifest)
        with contextlib.closing(Repository(target, insecure=insecure, credentials=credentials)) as repository:
            for descriptor, source in ((config_descriptor, io.BytesIO(config)), (layer, content)):
                if not repository.has_blob(descriptor["digest"]):
                    source.seek(0)
                    repository.upload_blob(descriptor["digest"], descriptor["size"], source)
            repository.upload_manifest(MANIFEST, data)
    return digests.of(data)


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


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}
