"""From a WebAssembly file to an artifact in a registry.

It exists so that a module reaches a registry with no other tool. It must not know the node.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from oci import digests
from oci.attachment import Attachment, attach
from oci.credentials import Credentials
from oci.errors import InvalidReferenceError
from oci.hosts import Host
from oci.manifest import MANIFEST, Descriptor
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
    attachments: Sequence[Attachment] = (),
    credentials: Credentials | None = None,
) -> str:
    """Push a core module or component; returns the manifest's digest. Blocks.

    The same file with the same annotations makes the same artifact. `hosts` are as for Repository.
    `attachments` refer to it afterwards. Raises OciError, and OSError when a file cannot be read.
    """
    target = parse(reference)
    if target.digest is not None:
        raise InvalidReferenceError(reference, "a push needs a tag; the digest is made from the content")
    with file.open("rb") as content:
        made = package(file, content, target, annotations)
        repository = Repository(target, insecure=insecure, hosts=hosts, credentials=credentials)
        with contextlib.closing(repository):
            repository.upload_missing(made.config, io.BytesIO(made.config_data))
            repository.upload_missing(made.layer, content)
            repository.upload_manifest(MANIFEST, made.manifest)
            subject = Descriptor(MANIFEST, digests.of(made.manifest), len(made.manifest))
            for attachment in attachments:
                attach(repository, subject, attachment)
    return subject.digest
