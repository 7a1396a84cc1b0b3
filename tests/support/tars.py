"""Layers as tests want them: archives with entries that no tool would write."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterable
from typing import Any

from oci import digests
from oci.layers.compression import Compression

Member = tuple[tarfile.TarInfo, bytes]

IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar"


def member(name: str, content: bytes | None = None, **fields: Any) -> Member:
    """A file, or what `fields` make of it: `type`, `linkname`, `mode`, `uid`, `mtime`, `pax_headers` ..."""
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    info.size = len(content or b"")
    return info, content or b""


def directory(name: str, mode: int = 0o755, **fields: Any) -> Member:
    return member(name, type=tarfile.DIRTYPE, mode=mode, **fields)


def symbolic(name: str, target: str, **fields: Any) -> Member:
    return member(name, type=tarfile.SYMTYPE, linkname=target, **fields)


def hard(name: str, target: str) -> Member:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def archive(members: Iterable[Member], form: int = tarfile.PAX_FORMAT) -> bytes:
    """The members as one archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zstd(data: bytes) -> bytes:
    """Compressed; the import is here, as few tests need it."""
    from backports import zstd as library

    return library.compress(data)


PACKERS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.NONE: lambda data: data,
    Compression.GZIP: lambda data: gzip.compress(data, mtime=0),
    Compression.ZSTD: zstd,
}


def layered(
    put_blob: Callable[[bytes, str], dict[str, Any]],
    layers: Iterable[tuple[str, Iterable[Member]]],
    platform: str = "wasip1/wasm",
    **config: Any,
) -> dict[str, Any]:
    """The manifest of an image whose layers are given by media type; `put_blob` makes a descriptor.

    `config` has the fields of the image config's `config`.
    """
    import json

    from oci.layers.compression import LAYERS
    from oci.manifest import MANIFEST

    system, _, architecture = platform.partition("/")
    descriptors, diff_ids = [], []
    for media_type, members in layers:
        data = archive(members)
        diff_ids.append(digests.of(data))
        descriptors.append(put_blob(PACKERS[LAYERS[media_type]](data), media_type))
    document = {
        "os": system,
        "architecture": architecture,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put_blob(json.dumps(document).encode(), IMAGE_CONFIG),
        "layers": descriptors,
    }
