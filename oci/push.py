"""From a WebAssembly file to an artifact in a registry.

It exists so that a module reaches a registry with no other tool. It must not know the node.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from oci import digests
from oci.auth import Credentials
from oci.errors import InvalidReferenceError
from oci.hosts import Host
from oci.manifest import MANIFEST
from oci.package import package
from oci.reference import parse
from oci.registry import Repository

__all__ = ["push_module"]


def push_module(
    file: Path,
    reference: str,
    *,
    insecure: bool,
    hosts: Sequence[Host] = (),
    annotations: Mapping[str, str] | None = None,
    credentials: Credentials | None = None,
) -> str:
    """Push a core module or component; returns the manifest's digest. Blocks.

    The same file with the same annotations makes the same artifact. `hosts` are as for Repository. Raises
    OciError, and OSError when the file cannot be read.
    """
    target = parse(reference)
    if target.digest is not None:
        raise InvalidReferenceError(reference, "a push needs a tag; the digest is made from the content")
    with file.open("rb") as content:
        made = package(file, content, target, annotations)
        repository = Repository(target, insecure=insecure, hosts=hosts, credentials=credentials)
        with contextlib.closing(repository):
            for descriptor, source in ((made.config, io.BytesIO(made.config_data)), (made.layer, content)):
                if not repository.has_blob(descriptor.digest):
                    source.seek(0)
                    repository.upload_blob(descriptor.digest, descriptor.size, source)
            repository.upload_manifest(MANIFEST, made.manifest)
    return digests.of(made.manifest)
