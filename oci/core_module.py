"""What a core module says about itself: the functions and memories that it imports and exports.

It exists because people want to know before they run a module, and reading two sections takes no runtime. It
must not know WASI. The format: the core specification, section 5.5.
"""

from __future__ import annotations

from pathlib import Path

from oci.binary import NotWasmFileError, Reader, reading
from oci.component import Interfaces

_IMPORTS = 2
_EXPORTS = 7
_FUNCTION, _TABLE, _MEMORY, _GLOBAL, _TAG = range(5)
_HAS_MAXIMUM, _HAS_PAGE_SIZE = 1, 8
_NULLABLE, _NOT_NULLABLE = 0x63, 0x64
"""What stands before a heap type, where a type of a reference takes more than a byte."""


def names(path: Path) -> Interfaces:
    """What the module in a file imports, `MODULE.NAME` each, and exports.

    Raises NotWasmFileError and OSError.
    """
    imports: list[str] = []
    exports: list[str] = []
    with reading(path, "core module", Reader) as reader:
        for section in reader.sections():
            if section == _IMPORTS:
                imports += [_imported(reader) for _ in range(reader.number())]
            elif section == _EXPORTS:
                exports += [_exported(reader) for _ in range(reader.number())]
    return Interfaces(tuple(imports), tuple(exports))


def _imported(reader: Reader) -> str:
    name = f"{reader.name()}.{reader.name()}"
    kind = reader.byte()
    if kind == _FUNCTION:
        reader.number()
    elif kind == _TABLE:
        _type(reader)
        _limits(reader)
    elif kind == _MEMORY:
        _limits(reader)
    elif kind == _GLOBAL:
        _type(reader)
        reader.byte()
    elif kind == _TAG:
        reader.byte()
        reader.number()
    else:
        raise NotWasmFileError(f"an import of kind {kind}")
    return name


def _exported(reader: Reader) -> str:
    name = reader.name()
    reader.byte()
    reader.number()
    return name


def _type(reader: Reader) -> None:
    if reader.byte() in (_NULLABLE, _NOT_NULLABLE):
        reader.number()


def _limits(reader: Reader) -> None:
    flags = reader.byte()
    reader.number()
    if flags & _HAS_MAXIMUM:
        reader.number()
    if flags & _HAS_PAGE_SIZE:
        reader.number()
