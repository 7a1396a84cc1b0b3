"""A tar archive as a stream of entries: POSIX ustar and pax, and what GNU tar adds to it.

It exists because the standard library's reader takes a damaged header in the middle for the archive's end,
and keeps extended headers of any size in memory. It must not know files: an entry's name is text like any
other. The formats: POSIX.1-2024, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar's
manual, "Basic Tar Format".
"""

from __future__ import annotations

import dataclasses
import enum
import os
from collections.abc import Callable, Iterator

from oci.layers.errors import LayerError, LimitError

BLOCK = 512
MAXIMUM_HEADERS = 1024 * 1024
"""Bytes that the extended headers of one entry may take together."""
MAXIMUM_PATH = 4096
"""Bytes of a name or of a link's target, as Linux has it (PATH_MAX)."""

_CHUNK = 256 * 1024
_NANOSECONDS = 1_000_000_000


class Kind(enum.Enum):
    """What an entry makes; the value is the header's type."""

    FILE = "0"
    HARD_LINK = "1"
    SYMBOLIC_LINK = "2"
    CHARACTER_DEVICE = "3"
    BLOCK_DEVICE = "4"
    DIRECTORY = "5"
    FIFO = "6"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One member. `size` is bytes of content, which only a file has, `mtime` is ns since the epoch.

    `name` and `link` are as os.fsdecode gives them, neither empty nor with a NUL; only links have a
    `link`.
    """

    name: str
    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    link: str


class TarReader:
    """Entries in order; what is not read of a file's content is passed over.

    `read` gives at most as many bytes as it is asked for, and none at the end. Iterating raises LayerError.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._left = self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        """Each entry, once; its content is to be read before the next is asked for."""
        while True:
            self._pass_over(self._left + self._padding)
            self._left = self._padding = 0
            entry = self._next()
            if entry is None:
                return
            self._left, self._padding = entry.size, -entry.size % BLOCK
            yield entry

    def content(self) -> Iterator[bytes]:
        """The rest of the last entry's content, in pieces."""
        while self._left:
            piece = self._read(min(self._left, _CHUNK))
            if not piece:
                raise LayerError("the archive ends within a file's content")
            self._left -= len(piece)
            yield piece

    def _next(self) -> Entry | None:
        pax: dict[str, str] = {}
        long: dict[str, str] = {}
        extended = 0
        while True:
            header = self._header()
            if header is None:
                if pax or long:
                    raise LayerError("the archive ends after an extended header")
                return None
            kind = chr(header[156])
            if kind not in "xgLK":
                return _entry(header, kind, pax, long)
            size = _number(header, 124, 12, "size")
            extended += size + BLOCK
            if size < 0 or extended > MAXIMUM_HEADERS:
                raise LimitError(f"extended headers of more than {MAXIMUM_HEADERS} bytes for one entry")
            data = self._exactly(size)
            self._exactly(-size % BLOCK)
            if kind == "x":
                pax |= _records(data)
            elif kind != "g":  # a global header tells of the archive: what made it, from which commit
                long[kind] = os.fsdecode(data.partition(b"\0")[0])

    def _header(self) -> bytes | None:
        """The next header; None at the end, which an archive may have without saying so."""
        block = self._up_to(BLOCK)
        if not block or (len(block) == BLOCK and not any(block)):
            return None
        if len(block) < BLOCK:
            raise LayerError("the archive ends within a header")
        told = _number(block, 148, 8, "checksum")
        rest = block[:148] + b" " * 8 + block[156:]
        if told != sum(rest) and told != sum(byte - 256 if byte > 127 else byte for byte in rest):
            raise LayerError("a header's checksum is wrong: no tar archive, or a damaged one")
        return block

    def _up_to(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (piece := self._read(size - len(data))):
            data += piece
        return data

    def _exactly(self, size: int) -> bytes:
        data = self._up_to(size)
        if len(data) < size:
            raise LayerError("the archive ends within an extended header")
        return data

    def _pass_over(self, size: int) -> None:
        while size:
            piece = self._read(min(size, _CHUNK))
            if not piece:
                raise LayerError("the archive ends within a file's content")
            size -= len(piece)


def _entry(header: bytes, letter: str, pax: dict[str, str], long: dict[str, str]) -> Entry:
    is_posix = header[257:263] == b"ustar\0"
    name = _text(header, 0, 100)
    prefix = _text(header, 345, 155) if is_posix else ""
    name = pax.get("path") or long.get("L") or (f"{prefix}/{name}" if prefix else name)
    link = pax.get("linkpath") or long.get("K") or _text(header, 157, 100)
    if any(key.startswith("GNU.sparse.") for key in pax) or letter == "S":
        raise LayerError(f"{name[:200]!r} is a sparse file, a form that image layers do not have")
    if letter in "\x007":  # how the oldest archives say "file", and a file that is to be contiguous
        letter = Kind.DIRECTORY.value if letter == "\0" and name.endswith("/") else Kind.FILE.value
    try:
        kind = Kind(letter)
    except ValueError as error:
        raise LayerError(f"{name[:200]!r} is an entry of the unknown type {letter!r}") from error
    if not name:
        raise LayerError("an entry without a name")
    for what, text in (("name", name), ("link", link)):
        if "\0" in text:
            raise LayerError(f"{name[:200]!r}: a {what} with a NUL")
        if len(os.fsencode(text)) > MAXIMUM_PATH:
            raise LimitError(f"{name[:200]!r}...: a {what} of more than {MAXIMUM_PATH} bytes")
    is_link = kind in (Kind.HARD_LINK, Kind.SYMBOLIC_LINK)
    if is_link and not link:
        raise LayerError(f"{name!r}: a link to nothing")
    size = _whole(pax, "size", _number(header, 124, 12, "size"))
    if size < 0:
        raise LayerError(f"{name!r}: a size of {size} bytes")
    mtime = _time(pax["mtime"]) if "mtime" in pax else _number(header, 136, 12, "mtime") * _NANOSECONDS
    return Entry(
        name=name,
        kind=kind,
        size=size if kind is Kind.FILE else 0,
        mode=_number(header, 100, 8, "mode"),
        uid=_whole(pax, "uid", _number(header, 108, 8, "uid")),
        gid=_whole(pax, "gid", _number(header, 116, 8, "gid")),
        mtime=mtime,
        link=link if is_link else "",
    )


def _text(header: bytes, start: int, size: int) -> str:
    return os.fsdecode(header[start : start + size].partition(b"\0")[0])


def _number(header: bytes, start: int, size: int, what: str) -> int:
    """Octal digits, or, as GNU tar writes what is too large for them, a signed binary number."""
    field = header[start : start + size]
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * size - 1)) - 1)
        return value - (1 << (8 * size - 1)) if field[0] & 0x40 else value
    digits = field.partition(b"\0")[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError as error:
        raise LayerError(f"a header's {what} {digits!r} is no octal number") from error


def _records(data: bytes) -> dict[str, str]:
    """A pax header's records: `LENGTH KEY=VALUE\\n`, where the length counts all of it."""
    found = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        length = data[position:space] if space > 0 else b""
        end = position + int(length) if length.isdigit() else 0
        record = data[space + 1 : end]
        key, equals, value = record.removesuffix(b"\n").partition(b"=")
        if space < 0 or end > len(data) or not equals or not record.endswith(b"\n"):
            raise LayerError("an extended header is damaged")
        found[os.fsdecode(key)] = os.fsdecode(value)
        position = end
    return found


def _whole(pax: dict[str, str], key: str, default: int) -> int:
    text = pax.get(key, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise LayerError(f"an extended header's {key} {text[:40]!r} is no number")
    return int(text)


def _time(text: str) -> int:
    """Seconds with any number of decimals, of which nine are kept."""
    whole, _, decimals = text.removeprefix("-").partition(".")
    digits = whole + decimals
    if len(text) > 40 or not (digits.isascii() and digits.isdigit()):
        raise LayerError(f"an extended header's mtime {text[:40]!r} is no time")
    time = int(whole or "0") * _NANOSECONDS + int(decimals[:9].ljust(9, "0"))
    return -time if text.startswith("-") else time
