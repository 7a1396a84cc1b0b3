"""Header blocks: names and values, compressed with a dictionary that both sides know (draft, 2.6.10).

It exists to keep zlib's state, one for each direction of a connection, and to bound what a few compressed
bytes may become. It must not know which frame a block stands in.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from vkubelet.server.streams.spdy.error import SpdyError

Headers = Mapping[str, tuple[str, ...]]
"""Lower-case names, each with its values."""

MAX_BLOCK = 64 * 1024
"""Bytes that a block may have when inflated. The peers' own blocks have about a hundred."""

_NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges "
    "age allow authorization cache-control connection content-base content-encoding content-language "
    "content-length content-location content-md5 content-range content-type date etag expect expires from "
    "host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location "
    "max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer "
    "transfer-encoding upgrade user-agent vary via warning www-authenticate method get status"
)
_VALUES = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.encode() for word in (*_NAMES.split(), *_VALUES))
    + _TEXT.encode()
)

# A window that holds the dictionary and little memory: zlib's defaults take 256 KiB for each connection.
_WINDOW_BITS = 11
_MEMORY_LEVEL = 1


class HeaderCompressor:
    """The sending direction's state."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(level=1, wbits=_WINDOW_BITS, memLevel=_MEMORY_LEVEL, zdict=DICTIONARY)

    def compress(self, headers: Headers) -> bytes:
        """The block of `headers`. Names are lower-case, values hold no NUL; both are Latin-1."""
        parts = [struct.pack(">I", len(headers))]
        for name, values in headers.items():
            for text in (name, "\0".join(values)):
                raw = text.encode("latin-1")
                parts += (struct.pack(">I", len(raw)), raw)
        return self._zlib.compress(b"".join(parts)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class HeaderDecompressor:
    """The receiving direction's state. After an error it is of no more use, as the connection."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def decompress(self, block: bytes | memoryview) -> Headers:
        """The headers in `block`. Raises SpdyError."""
        try:
            plain = self._zlib.decompress(block, MAX_BLOCK)
        except zlib.error as error:
            raise SpdyError("the header block cannot be inflated") from error
        if self._zlib.unconsumed_tail:
            raise SpdyError(f"the header block has more than {MAX_BLOCK} bytes")
        if self._zlib.eof:
            raise SpdyError("the compression of header blocks has been ended")
        return _parse(plain)


def _parse(plain: bytes) -> Headers:
    headers: dict[str, tuple[str, ...]] = {}
    try:
        (count,) = struct.unpack_from(">I", plain)
        # Two lengths for each: no count makes more rounds than the block has bytes.
        if count > len(plain) // 8:
            raise SpdyError("the header block is too short for its count")
        at = 4
        for _ in range(count):
            name, at = _text(plain, at)
            value, at = _text(plain, at)
            if not name or name != name.lower():
                raise SpdyError("a header's name is empty or not in lower case")
            if name in headers:
                raise SpdyError("a header occurs twice")
            headers[name] = tuple(value.split("\0"))
    except struct.error as error:
        raise SpdyError("the header block is cut off") from error
    if at != len(plain):
        raise SpdyError("the header block has a surplus")
    return headers


def _text(plain: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">I", plain, at)
    end = at + 4 + length
    if end > len(plain):
        raise SpdyError("a header is longer than its block")
    return plain[at + 4 : end].decode("latin-1"), end
