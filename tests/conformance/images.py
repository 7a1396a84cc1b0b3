"""The suite's images as artifacts in the dev registry, under the names that its list of registries makes.

It exists so that every image of a spec leads to a guest of ours. It must not know what a spec does with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml

from oci import digests
from oci.artifact import IMAGE_CONFIGS, WASM_LAYER
from oci.manifest import MANIFEST
from oci.reference import parse
from oci.registry import Repository

PROMOTED = "e2e-test-images"
"""The repository prefix of what Kubernetes makes for its tests."""


@dataclass(frozen=True, slots=True)
class Named:
    """One image name of the suite (test/utils/image/manifest.go), and how it runs where no pod says."""

    name: str
    tag: str
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""


IMAGES = (
    Named(f"{PROMOTED}/agnhost", "2.66.1", ("/agnhost",), ("pause",)),
    Named(f"{PROMOTED}/agnhost", "2.55", ("/agnhost",), ("pause",)),
    Named(f"{PROMOTED}/busybox", "1.37.0-2", (), ("sh",)),
    Named(f"{PROMOTED}/glibc-dns-testing", "2.1.1", ("/agnhost",), ("pause",)),
    Named(f"{PROMOTED}/nginx", "1.27.0-2", ("/agnhost",), ("pause",)),
    Named(f"{PROMOTED}/nginx", "1.28.0-2", ("/agnhost",), ("pause",)),
    Named(f"{PROMOTED}/nonroot", "1.5", ("id",), ("-u",), user="1234"),
    Named(f"{PROMOTED}/nonewprivs", "1.4", ("/agnhost", "nonewprivs")),
    Named("pause", "3.10.2", ("/agnhost",), ("pause",)),
    Named("pause", "testing", ("/agnhost",), ("pause",)),
)


def registries(registry: str) -> str:
    """The text of KUBE_TEST_REPO_LIST: where the suite's images are. The private registry stays."""
    places = {
        "promoterE2eRegistry": f"{registry}/{PROMOTED}",
        "gcRegistry": registry,
        "gcEtcdRegistry": registry,
        "dockerLibraryRegistry": f"{registry}/library",
        "sigStorageRegistry": f"{registry}/sig-storage",
        "buildImageRegistry": f"{registry}/build-image",
    }
    return yaml.safe_dump(places)


def push_all(registry: str, module: Path) -> None:
    """Push every image. Raises OciError, OSError."""
    content = module.read_bytes()
    for image in IMAGES:
        _push(registry, image, content)


def _push(registry: str, image: Named, module: bytes) -> None:
    config = msgspec.json.encode(_config(image, module))
    layer = {"mediaType": WASM_LAYER, "digest": digests.of(module), "size": len(module)}
    described = {"mediaType": IMAGE_CONFIGS[0], "digest": digests.of(config), "size": len(config)}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [layer]}
    reference = parse(f"{registry}/{image.name}:{image.tag}")
    with contextlib.closing(Repository(reference, insecure=True)) as repository:
        for blob in (config, module):
            digest = digests.of(blob)
            if not repository.has_blob(digest):
                repository.upload_blob(digest, len(blob), io.BytesIO(blob))
        repository.upload_manifest(MANIFEST, msgspec.json.encode(manifest))


def _config(image: Named, module: bytes) -> dict[str, object]:
    run = {"Entrypoint": list(image.entrypoint), "Cmd": list(image.cmd), "User": image.user}
    return {
        "architecture": "wasm",
        "os": "wasip1",
        "config": {key: value for key, value in run.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(module).hexdigest()}"]},
    }
