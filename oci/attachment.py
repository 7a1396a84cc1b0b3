"""What is attached to an artifact in a registry: a manifest of its own that has the artifact as its subject.

It exists so that a bill of materials or any other file goes where its artifact is, for all who ask what
refers to it. The rules are those of the image specification 1.1 ("Guidelines for Artifact Usage") and of the
distribution specification 1.1 ("Pushing Manifests with Subject"). All of it blocks. It must not know what is
attached.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from oci import digests
from oci.errors import InvalidManifestError, NotFoundError
from oci.manifest import EMPTY, INDEX, MANIFEST, Descriptor, Index, decode
from oci.registry import Repository

_EMPTY = b"{}"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file, and its media type."""

    file: Path
    media_type: str


def attach(repository: Repository, subject: Descriptor, attachment: Attachment) -> str:
    """Put it into the subject's repository; the digest of its manifest.

    Raises OciError, and OSError when the file cannot be read.
    """
    with attachment.file.open("rb") as content:
        layer = Descriptor(attachment.media_type, digests.of_file(content), content.tell())
        config = Descriptor(EMPTY, digests.of(_EMPTY), len(_EMPTY))
        repository.upload_missing(config, io.BytesIO(_EMPTY))
        repository.upload_missing(layer, content)
    title = {"org.opencontainers.image.title": attachment.file.name}
    manifest = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": attachment.media_type,
            "config": config.document(),
            "layers": [{**layer.document(), "annotations": title}],
            "subject": subject.document(),
        }
    )
    digest = digests.of(manifest)
    if repository.upload_manifest(MANIFEST, manifest, digest) != subject.digest:
        entry = {
            **Descriptor(MANIFEST, digest, len(manifest)).document(),
            "artifactType": attachment.media_type,
        }
        _list(repository, subject.digest, entry)
    return digest


def fallback_tag(digest: str) -> str:
    """The tag of the list that clients keep in registries without the referrers API.

    By the distribution specification's "Referrers Tag Schema" it has at most 64 characters of the digest.
    """
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm}-{encoded[:64]}"


def _list(repository: Repository, subject: str, entry: dict[str, Any]) -> None:
    """Add to the list of what refers to the subject, unless it is there. What else it says stays as it is."""
    tag = fallback_tag(subject)
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    try:
        _, data = repository.manifest(tag)
    except NotFoundError:
        pass  # this is the first
    else:
        if not isinstance(decode(data, repository.reference), Index):
            raise InvalidManifestError(repository.reference, f"{tag}: is no index")
        document = msgspec.json.decode(data)
    if all(other.get("digest") != entry["digest"] for other in document["manifests"]):
        document["manifests"].append(entry)
        repository.upload_manifest(INDEX, msgspec.json.encode(document), tag)
