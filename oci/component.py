"""What a WebAssembly binary says about itself: core module or component, and what it imports and exports.

It exists because an artifact's config names a component's interfaces, and reading two sections takes no
runtime. It must not know artifacts. The format: WebAssembly/component-model, design/mvp/Binary.md.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MAGIC = b"\0asm"
_MODULE = b"\x01\x00\x00\x00"
_COMPONENT = b"\x0d\x00\x01\x00"
_IMPORTS = 10
_EXPORTS = 11


class NotWasmFileError(ValueError):
    """The file is no WebAssembly that is understood here; the text says where."""


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The names that a component imports and exports, in order, like `wasi:cli/run@0.2.0`."""

    imports: tuple[str, ...]
    exports: tuple[str, ...]


def interfaces(path: Path) -> Interfaces | None:
    """What the component in a file imports and exports; None for a core module.

    Raises NotWasmFileError and OSError.
    """
    with path.open("rb") as file:
        head = file.read(8)
        if head == _MAGIC + _MODULE:
            return None
        if head != _MAGIC + _COMPONENT:
            raise NotWasmFileError(f"{path} is neither a core WebAssembly module nor a component")
        imports: list[str] = []
        exports: list[str] = []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = _Reader(data, 8)
            try:
                for section in reader.sections():
                    if section == _IMPORTS:
                        imports += [reader.imported() for _ in range(reader.number())]
                    elif section == _EXPORTS:
                        exports += [reader.exported() for _ in range(reader.number())]
            except (NotWasmFileError, IndexError, UnicodeDecodeError) as error:
                raise NotWasmFileError(f"{path}: component, byte {reader.position}: {error}") from error
    return Interfaces(tuple(imports), tuple(exports))


class _Reader:
    """A position in a component's bytes."""

    def __init__(self, data: mmap.mmap, position: int) -> None:
        self._data = data
        self.position = position

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

    def imported(self) -> str:
        name = self._name()
        self._description()
        return name

    def exported(self) -> str:
        name = self._name()
        if self.byte() == 0x00:  # of a core sort, which takes one more byte
            self.byte()
        self.number()
        if self._is_given():
            self._description()
        return name

    def _name(self) -> str:
        # Older tools wrote 1 for an interface's name and 0 for others.
        if (kind := self.byte()) > 1:
            raise NotWasmFileError(f"a name of kind {kind}")
        size = self.number()
        text = self._data[self.position : self.position + size]
        self.position += size
        return text.decode()

    def _is_given(self) -> bool:
        return self.byte() == 0x01

    def _description(self) -> None:
        """Pass over the type of what is imported or exported."""
        kind = self.byte()
        if kind == 0x00:  # a core module's type has the core sort before its index
            self.byte()
            self.number()
        elif kind in (0x01, 0x04, 0x05):
            self.number()
        elif kind == 0x02:
            self.byte()
            self.number()
        elif kind == 0x03:
            if not self._is_given():
                self.number()
        else:
            raise NotWasmFileError(f"a description of kind {kind}")
