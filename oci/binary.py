"""A position in a WebAssembly binary, and what all binaries have: a head, sections, numbers, names.

It exists because core modules and components are read alike. It must not know what is in a section. The
format: the core specification, section 5.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

MAGIC = b"\0asm"
MODULE = b"\x01\x00\x00\x00"
COMPONENT = b"\x0d\x00\x01\x00"
HEAD = 8
"""Bytes of the magic number and the version."""


class NotWasmFileError(ValueError):
    """The file is no WebAssembly that is understood here; the text says where."""


def is_component(path: Path) -> bool:
    """Whether the file is a component; else it is a core module. Raises NotWasmFileError and OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head not in (MAGIC + MODULE, MAGIC + COMPONENT):
        raise NotWasmFileError(f"{path} is neither a core WebAssembly module nor a component")
    return head == MAGIC + COMPONENT


class Reader:
    """A position in a binary's bytes. What ends too early raises IndexError."""

    def __init__(self, data: mmap.mmap) -> None:
        """At the first section."""
        self._data = data
        self.position = HEAD

    def sections(self) -> Iterator[int]:
        """Each top-level section's id, with the position at its content."""
        while self.position < len(self._data):
            section, size = self.byte(), self.number()
            end = self.position + size
            if end > len(self._data):
                raise NotWasmFileError(f"section {section} is cut short")
            yield section
            if self.position > end:
                raise NotWasmFileError(f"section {section} does not end where it says")
            self.position = end

    def byte(self) -> int:
        """The next byte."""
        value: int = self._data[self.position]
        self.position += 1
        return value

    def number(self) -> int:
        """A LEB128 number; a signed one, which stands for a type, is only to be passed over."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise NotWasmFileError("a number does not end")

    def name(self) -> str:
        """A name: its size, and UTF-8."""
        size = self.number()
        text = self._data[self.position : self.position + size]
        self.position += size
        return text.decode()


R = TypeVar("R", bound=Reader)


@contextlib.contextmanager
def reading(path: Path, what: str, make: Callable[[mmap.mmap], R]) -> Iterator[R]:
    """A reader of the file, which is a `what`. What it finds wrong raises NotWasmFileError with its place."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = make(data)
        try:
            yield reader
        except (NotWasmFileError, IndexError, UnicodeDecodeError) as error:
            cause = "it ends too early" if isinstance(error, IndexError) else error
            raise NotWasmFileError(f"{path}: {what}, byte {reader.position}: {cause}") from error
