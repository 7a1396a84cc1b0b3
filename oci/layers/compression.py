"""What a layer's media type says of it, and its archive's bytes as a stream that is counted and hashed.

It exists so that nobody sees a decompressor's own errors, and none gives more than it may. It must not know
what is in the archive.
"""

from __future__ import annotations

import enum
import gzip
import io
import sys
import zlib
from types import MappingProxyType
from typing import BinaryIO

from oci import spin
from oci.digests import Hasher
from oci.layers.errors import LayerError, LimitError


class Compression(enum.Enum):
    """How an archive is packed."""

    NONE = "tar"
    GZIP = "gzip"
    ZSTD = "zstd"


_OCI = "application/vnd.oci.image.layer.v1.tar"
_DOCKER = "application/vnd.docker.image.rootfs.diff.tar"

LAYERS = MappingProxyType(
    {
        _OCI: Compression.NONE,
        f"{_OCI}+gzip": Compression.GZIP,
        f"{_OCI}+zstd": Compression.ZSTD,
        _DOCKER: Compression.NONE,
        f"{_DOCKER}.gzip": Compression.GZIP,
        f"{_DOCKER}.zstd": Compression.ZSTD,
    }
)
"""The media types of layers that are unpacked."""

ARCHIVES = MappingProxyType({**LAYERS, spin.ASSETS: Compression.GZIP})
"""And those of archives that are not an image's layers: Spin's assets."""

NOT_DISTRIBUTED = frozenset(
    {
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    }
)
"""Those of layers that are not in the registry, but somewhere else for whoever has a licence."""

_WINDOW_LOG = 26
"""Of the bytes that zstd may look back, the logarithm: what is read keeps as many in memory."""

MAXIMUM_UNPACKED = 8 << 30
"""Bytes that all layers of an image may have together, unpacked."""
_CHUNK = 256 * 1024


class Archive:
    """The bytes of an archive; reading raises LayerError for what is damaged, and LimitError."""

    def __init__(self, file: BinaryIO, compression: Compression, hasher: Hasher, limit: int) -> None:
        """`limit` is how many bytes there may be, unpacked. The file is not closed."""
        self._compression = compression
        self._stream, self._errors = _opened(file, compression)
        self._limit = limit
        self._hasher = hasher
        self.size = 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        try:
            data = self._stream.read(size)
        except self._errors as error:
            kind = self._compression.value
            raise LayerError(f"the layer is no {kind}, or a damaged one: {error}") from error
        self.size += len(data)
        if self.size > self._limit:
            raise LimitError(f"the layers hold more than {MAXIMUM_UNPACKED} bytes, unpacked")
        self._hasher.update(data)
        return data

    def hexdigest(self) -> str:
        """Of all of the archive, whose rest is read."""
        while self.read(_CHUNK):
            pass
        return self._hasher.hexdigest()


def _opened(
    file: BinaryIO, compression: Compression
) -> tuple[BinaryIO | io.BufferedIOBase, tuple[type[Exception], ...]]:
    """The unpacked bytes, and what reading them raises where they are damaged."""
    if compression is Compression.GZIP:
        return gzip.GzipFile(fileobj=file, mode="rb"), (EOFError, gzip.BadGzipFile, zlib.error)
    if compression is Compression.ZSTD:
        # Here, as few layers are; a window that is too large is an error of the format's, too.
        if sys.version_info >= (3, 14):
            from compression.zstd import DecompressionParameter, ZstdError, ZstdFile
        else:
            from backports.zstd import DecompressionParameter, ZstdError, ZstdFile
        options: dict[int, int] = {DecompressionParameter.window_log_max: _WINDOW_LOG}
        return ZstdFile(file, options=options), (EOFError, ZstdError)
    return file, ()
