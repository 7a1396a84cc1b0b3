"""An HTTP/1 response, read as it comes in, as far as a probe reads it; pure.

It exists because whatever listens on a probed port may send anything, and what a kubelet says of it is what
Go's client does: its texts are the ones here. It must not know a connection. A body is read up to the 10 KiB
that a kubelet reads, a head up to HEAD_MAX.
"""

from __future__ import annotations

import enum
import re

from vkubelet.pods.text import quoted

BODY_MAX = 10 * 1024
HEAD_MAX = 1024 * 1024
"""Bytes; Go takes ten times as much, from each of a thousand probes at once."""

_LINE_MAX = 4096
_FRAMING_MAX = 64 * 1024
"""Bytes of chunk sizes and trailers: with more, a peer would only keep the node busy."""
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_CODE = re.compile(rb"[+]?[0-9]+")
_NO_BODY = frozenset({*range(100, 200), 204, 304})
_SIZE = re.compile(rb"[0-9A-Fa-f]+")


class MalformedHeadError(Exception):
    """What came is no response; the text says why, as Go's does."""


class BodyError(Exception):
    """The body broke off or is malformed; the text says how, as Go's does."""


class _Part(enum.Enum):
    """What the next bytes are."""

    HEAD = enum.auto()
    BODY = enum.auto()  # of a known length, or until the end
    CHUNK_SIZE = enum.auto()
    CHUNK = enum.auto()
    CHUNK_END = enum.auto()
    TRAILER = enum.auto()


class Response:
    """Takes bytes by `feed` and their end by `end`, until `complete`. Interim responses are passed over."""

    def __init__(self) -> None:
        self.status = 0
        self.location = ""
        self.body = bytearray()
        self.complete = False
        self._buffer = bytearray()
        self._part = _Part.HEAD
        self._head_bytes = 0
        self._searched = 0  # bytes of the buffer in which no head ends
        self._looks_right = False  # whether its first line is a status line
        self._framing_bytes = 0
        self._left: int | None = None  # bytes of the body or chunk still to come; None: until the end

    @property
    def has_head(self) -> bool:
        """Whether the status is known."""
        return self._part is not _Part.HEAD

    @property
    def began(self) -> bool:
        """Whether anything came."""
        return self.has_head or self._head_bytes > 0

    def feed(self, data: bytes) -> None:
        """The next bytes. Raises MalformedHeadError, BodyError."""
        self._buffer += data
        if self._part is _Part.HEAD:
            self._head_bytes += len(data)
            while self._part is _Part.HEAD and self._read_head():
                pass
        if self._part is not _Part.HEAD:
            while not self.complete and self._read_body():
                pass

    def end(self) -> None:
        """No more bytes come. Raises MalformedHeadError, BodyError unless the response is complete."""
        if self.complete:
            return
        if self._part is _Part.HEAD:
            if not self.began:
                raise MalformedHeadError("EOF")
            _parse_status(bytes(self._buffer).partition(b"\n")[0].rstrip(b"\r"))
            raise MalformedHeadError("unexpected EOF")
        if self._part is _Part.TRAILER:
            raise BodyError("http: unexpected EOF reading trailer")
        if self._part is not _Part.BODY or self._left is not None:
            raise BodyError("unexpected EOF")
        self.complete = True

    def _read_head(self) -> bool:
        """Take a head off the buffer; False when it is not all there. Raises MalformedHeadError."""
        if self._head_bytes > HEAD_MAX:
            raise MalformedHeadError(f"net/http: server response headers exceeded {HEAD_MAX} bytes; aborted")
        end = _HEAD_END.search(self._buffer, self._searched)
        if end is None:
            line_end = self._buffer.find(b"\n", self._searched)
            if line_end >= 0 and not self._looks_right:
                _parse_status(bytes(self._buffer[:line_end].rstrip(b"\r")))
                self._looks_right = True
            self._searched = max(len(self._buffer) - 3, 0)
            return False
        head = bytes(self._buffer[: end.start()])
        del self._buffer[: end.end()]
        self._searched, self._looks_right = 0, False
        lines = head.replace(b"\r\n", b"\n").split(b"\n")
        version, self.status = _parse_status(lines[0])
        if 100 <= self.status < 200 and self.status != 101:
            return True
        headers = _parse_headers(lines[1:])
        self.location = next(iter(headers.get(b"location", ())), b"").decode(errors="replace")
        self._frame(version, headers)
        return False

    def _frame(self, version: bytes, headers: dict[bytes, list[bytes]]) -> None:
        """How the body ends. Raises MalformedHeadError."""
        encodings = headers.get(b"transfer-encoding", []) if version >= b"HTTP/1.1" else []
        if len(encodings) > 1:
            listed = " ".join(_quoted(encoding) for encoding in encodings)
            raise MalformedHeadError(f"too many transfer encodings: [{listed}]")
        if encodings and encodings[0].lower() != b"chunked":
            raise MalformedHeadError(f"unsupported transfer encoding: {_quoted(encodings[0])}")
        lengths = [] if encodings else headers.get(b"content-length", [])
        if len(set(lengths)) > 1:
            listed = " ".join(_quoted(length) for length in lengths)
            raise MalformedHeadError(
                f"http: message cannot contain multiple Content-Length headers; got [{listed}]"
            )
        if lengths and not (lengths[0].isdigit() and len(lengths[0]) < 20):
            raise MalformedHeadError(f"bad Content-Length {_quoted(lengths[0])}")
        self._part = _Part.CHUNK_SIZE if encodings else _Part.BODY
        self._left = int(lengths[0]) if lengths else None
        if self.status in _NO_BODY or self._left == 0:
            self.complete = True

    def _read_body(self) -> bool:
        """Take the next part of the body off the buffer; False when more must come. Raises BodyError."""
        match self._part:
            case _Part.BODY | _Part.CHUNK:
                return self._take()
            case _Part.CHUNK_END:
                if len(self._buffer) < 2:
                    return False
                if self._buffer[:2] != b"\r\n":
                    raise BodyError("malformed chunked encoding")
                del self._buffer[:2]
                self._part = _Part.CHUNK_SIZE
                return True
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > _LINE_MAX:
                raise BodyError("header line too long")
            return False
        line = bytes(self._buffer[:end]).strip()
        del self._buffer[: end + 1]
        self._framing_bytes += end
        if self._framing_bytes > _FRAMING_MAX:
            raise BodyError("chunked encoding contains too much non-data")
        if self._part is _Part.TRAILER:
            self.complete = not line
        else:
            self._begin_chunk(line)
        return True

    def _begin_chunk(self, line: bytes) -> None:
        size = line.partition(b";")[0].strip()
        if not size:
            raise BodyError("empty hex number for chunk length")
        if not _SIZE.fullmatch(size):
            raise BodyError("invalid byte in chunk length")
        if len(size) > 16:
            raise BodyError("http chunk length too large")
        self._left = int(size, 16)
        self._part = _Part.CHUNK if self._left else _Part.TRAILER

    def _take(self) -> bool:
        """Move what there is of the body, or of a chunk, out of the buffer."""
        if not self._buffer:
            return False
        taken = self._buffer[: self._left]
        self.body += taken[: BODY_MAX - len(self.body)]
        del self._buffer[: len(taken)]
        if self._left is not None:
            self._left -= len(taken)
        if len(self.body) == BODY_MAX:
            self.complete = True
        elif self._left == 0 and self._part is _Part.CHUNK:
            self._part = _Part.CHUNK_END
        elif self._left == 0:
            self.complete = True
        return True


def _parse_status(line: bytes) -> tuple[bytes, int]:
    """Version and code of a status line. Raises MalformedHeadError."""
    version, space, rest = line.partition(b" ")
    if not space:
        raise MalformedHeadError(f"malformed HTTP response {_quoted(line)}")
    code = rest.lstrip(b" ").partition(b" ")[0]
    if len(code) != 3 or not _CODE.fullmatch(code):
        raise MalformedHeadError(f"malformed HTTP status code {_quoted(code)}")
    if not _VERSION.fullmatch(version):
        raise MalformedHeadError(f"malformed HTTP version {_quoted(version)}")
    return version, int(code)


def _parse_headers(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    """Values by lower-case name; a line that begins with a space goes on the one before.

    Raises MalformedHeadError.
    """
    if lines and lines[0][:1] in (b" ", b"\t"):
        raise MalformedHeadError(f"malformed MIME header initial line: {_quoted(lines[0])}")
    whole: list[bytes] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            whole[-1] += b" " + line.strip()
        else:
            whole.append(line)
    headers: dict[bytes, list[bytes]] = {}
    for line in whole:
        name, colon, value = line.partition(b":")
        if not colon:
            raise MalformedHeadError(f"malformed MIME header: missing colon: {_quoted(line)}")
        if not name:
            raise MalformedHeadError(f"malformed MIME header line: {_quoted(line)}")
        headers.setdefault(name.lower(), []).append(value.strip())
    return headers


def _quoted(data: bytes) -> str:
    return quoted(data.decode(errors="replace"))
