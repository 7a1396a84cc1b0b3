"""The compiler's own process: checks one module, compiles it, says what came of it, and ends.

It exists because a module is a stranger's bytes: compiling may take any time and memory, and a fault in
the compiler is worth no agent. It limits itself before it looks at the module. It must not write anything
but the file that it was given.

`python -m providers.wasmtime.compile_worker MODULE DIGEST OUTPUT CPU_SECONDS MEMORY_BYTES` writes one line of
JSON: `{"kind": ...}`, or `{"damaged": ...}` with the digest of what is not the module, or `{"invalid": ...}`
for what cannot be run here, or `{"error": ...}` for what could not be compiled.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import resource
import sys
from pathlib import Path

import wasmtime
from wasmtime import _bindings, component

from providers.base import ModuleKind
from providers.wasmtime import engine

_MAGIC = b"\0asm"
_RUN = "wasi:cli/run@0.2.0"
_OWN = {
    "vkubelet_terminal": {"set_raw": 1, "get_size": 2},
    "vkubelet_system": {"attributes": 4, "set_mode": 3, "identity": 3, "space": 3},
}
"""What the launcher has beside WASI, and how many numbers each takes: see `native/terminal.h`, `system.h`."""

_LATER = 5
"""How much lower its priority is: the agent has probes to answer while it compiles what is yet to start."""


class InvalidError(Exception):
    """The module cannot be run here; the text says why."""


def kind_of(head: bytes) -> ModuleKind:
    """What the first 8 bytes of a WebAssembly binary say it is. Raises InvalidError.

    They are a magic number, a version and a layer: 1, 0 for a core module (the core specification,
    section 5.5.16), 13, 1 for a component (the component model's Binary.md).
    """
    if head[:4] != _MAGIC:
        raise InvalidError("not a WebAssembly binary")
    if head[4:8] == b"\x01\0\0\0":
        return ModuleKind.MODULE
    if head[6:8] == b"\x01\0":
        return ModuleKind.COMPONENT
    raise InvalidError(f"WebAssembly of an unknown version or layer ({head[4:8].hex(' ')})")


def compile_module(used: wasmtime.Engine, binary: bytes) -> bytes:
    """Compile a core module that is a WASI command. Raises InvalidError."""
    try:
        module = wasmtime.Module(used, binary)
    except wasmtime.WasmtimeError as error:
        raise InvalidError(f"not a valid WebAssembly module: {_text(error)}") from error
    start = next((export.type for export in module.exports if export.name == "_start"), None)
    if isinstance(start, wasmtime.FuncType) and (start.params or start.results):
        raise InvalidError("the module's function _start takes parameters or has results")
    if not isinstance(start, wasmtime.FuncType):
        names = ", ".join(sorted(export.name for export in module.exports)) or "nothing"
        raise InvalidError(f"the module does not export the function _start; it exports {names}")
    linker = wasmtime.Linker(used)
    linker.define_wasi()
    for provided, functions in _OWN.items():
        for name, parameters in functions.items():
            kind = wasmtime.FuncType([wasmtime.ValType.i32()] * parameters, [wasmtime.ValType.i32()])
            linker.define_func(provided, name, kind, _never)
    try:
        wasmtime.InstancePre._from_ptr(_instantiate_pre(linker, module))
    except wasmtime.WasmtimeError as error:
        raise InvalidError(
            f"the module's imports are not what WASI preview 1 provides: {_text(error)}"
        ) from error
    return bytes(module.serialize())


def _never(*_arguments: int) -> int:
    raise AssertionError("nothing is run here")


def _instantiate_pre(linker: wasmtime.Linker, module: wasmtime.Module) -> object:
    pre = ctypes.POINTER(_bindings.wasmtime_instance_pre_t)()
    error = _bindings.wasmtime_linker_instantiate_pre(linker.ptr(), module.ptr(), ctypes.byref(pre))
    if error:
        raise wasmtime.WasmtimeError._from_ptr(error)
    return pre


def compile_component(used: wasmtime.Engine, binary: bytes) -> bytes:
    """Compile a component that is a WASI preview 2 command. Raises InvalidError."""
    try:
        compiled = component.Component(used, binary)
    except wasmtime.WasmtimeError as error:
        raise InvalidError(f"not a valid WebAssembly component: {_text(error)}") from error
    index = compiled.get_export_index(_RUN)
    if index is None or compiled.get_export_index("run", index) is None:
        names = ", ".join(sorted(compiled.type.exports(used))) or "nothing"
        raise InvalidError(f"the component does not export wasi:cli/run@0.2; it exports {names}")
    refused = _refusal(used, compiled)
    # What is refused to every component is the permission to run code, which is asked for after all
    # imports were found; anything else is about this component's imports.
    if refused != _refusal(used, component.Component(used, _ANY_COMPONENT)):
        raise InvalidError(f"the component's imports are not what WASI preview 2 provides: {refused}")
    return bytes(compiled.serialize())


_ANY_COMPONENT = "(component (core module $m) (core instance (instantiate $m)))"


def _refusal(used: wasmtime.Engine, compiled: component.Component) -> str:
    """Why the component cannot be instantiated where no instance is allowed."""
    linker = component.Linker(used)
    linker.add_wasip2()
    store = wasmtime.Store(used)
    store.set_limits(instances=0)
    try:
        linker.instantiate(store, compiled)
    except wasmtime.WasmtimeError as error:
        return _text(error)
    return ""


def _text(error: wasmtime.WasmtimeError) -> str:
    """The error on one line, outermost cause first."""
    return " ".join(str(error).split())


def main(source: str, expected: str, output: str, cpu_seconds: str, memory_bytes: str) -> dict[str, str]:
    """Compile the file `source` into the file `output` within limits of this process."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds), int(cpu_seconds)))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes), int(memory_bytes)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(_LATER)
    try:
        binary = Path(source).read_bytes()
        # All of it is read here anyway, and for the last time: what is run is what was meant.
        algorithm = expected.partition(":")[0]
        digest = f"{algorithm}:{hashlib.new(algorithm, binary).hexdigest()}"
        if digest != expected:
            return {"damaged": digest}
        kind = kind_of(binary)
        compiler = compile_module if kind is ModuleKind.MODULE else compile_component
        code = compiler(engine.engine(), binary)
        with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(code)
            file.flush()
            os.fsync(file.fileno())
    except InvalidError as error:
        return {"invalid": str(error)}
    except (OSError, MemoryError, wasmtime.WasmtimeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"kind": kind.value}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
