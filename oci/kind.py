"""What sort of WebAssembly a file is: what starts it, and what it needs, by the names in it alone.

It exists so that people can be told before anything is compiled. It must not know a runtime: whether this
node can run a file is the compiler's to say.
"""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path

from oci import core_module
from oci.component import Interfaces, interfaces


class Kind(enum.StrEnum):
    """As people call them."""

    P1_COMMAND = "WASI preview 1 command"
    P1_REACTOR = "WASI preview 1 reactor"
    MODULE = "core module"
    P2_COMMAND = "WASI preview 2 command"
    HTTP = "wasi:http component"
    COMPONENT = "component"


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """A binary's kind, and the names that it imports and exports."""

    kind: Kind
    names: Interfaces


def contents(path: Path) -> Contents:
    """What a file is. Raises NotWasmFileError and OSError."""
    found = interfaces(path)
    if found is not None:
        return Contents(_of_component(found), found)
    names = core_module.names(path)
    if "_start" in names.exports:
        return Contents(Kind.P1_COMMAND, names)
    return Contents(Kind.P1_REACTOR if "_initialize" in names.exports else Kind.MODULE, names)


def _of_component(found: Interfaces) -> Kind:
    exported = {name.partition("@")[0] for name in found.exports}
    if "wasi:cli/run" in exported:
        return Kind.P2_COMMAND
    return Kind.HTTP if "wasi:http/incoming-handler" in exported else Kind.COMPONENT
