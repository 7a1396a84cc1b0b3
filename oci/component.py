"""What a WebAssembly binary says about itself: core module or component, and what it imports and exports.

It exists because an artifact's config names a component's interfaces, and reading two sections takes no
runtime. It must not know artifacts. The format: WebAssembly/component-model, design/mvp/Binary.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oci.binary import NotWasmFileError, Reader, is_component, reading

_IMPORTS = 10
_EXPORTS = 11


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The names that a component imports and exports, in order, like `wasi:cli/run@0.2.0`."""

    imports: tuple[str, ...]
    exports: tuple[str, ...]


def interfaces(path: Path) -> Interfaces | None:
    """What the component in a file imports and exports; None for a core module.

    Raises NotWasmFileError and OSError.
    """
    if not is_component(path):
        return None
    imports: list[str] = []
    exports: list[str] = []
    with reading(path, "component", _Reader) as reader:
        for section in reader.sections():
            if section == _IMPORTS:
                imports += [reader.imported() for _ in range(reader.number())]
            elif section == _EXPORTS:
                exports += [reader.exported() for _ in range(reader.number())]
    return Interfaces(tuple(imports), tuple(exports))


class _Reader(Reader):
    """A position in a component's bytes."""

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
        return self.name()

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
