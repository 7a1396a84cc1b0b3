"""C declarations of the parts of wasmtime's C API that the launcher uses, from the Python package.

It exists because the package carries the library and no headers: its ctypes bindings know every name,
type and structure of exactly the library that it carries. Functions become pointers of the same name,
set once the library is loaded. It must not know how anything is compiled.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable
from typing import Any

from wasmtime import TrapCode, _bindings, _ffi

from providers.wasmtime import engine

_SCALARS = {
    ctypes.c_bool: "bool",
    ctypes.c_char: "char",
    ctypes.c_byte: "int8_t",
    ctypes.c_ubyte: "uint8_t",
    ctypes.c_short: "int16_t",
    ctypes.c_ushort: "uint16_t",
    ctypes.c_int: "int",
    ctypes.c_uint: "uint32_t",
    ctypes.c_long: "long",
    ctypes.c_ulong: "size_t",
    ctypes.c_float: "float",
    ctypes.c_double: "double",
    ctypes.c_void_p: "void *",
    None: "void",
}
_CONSTANTS = ("WASMTIME_EXTERN_FUNC", "WASMTIME_EXTERN_MEMORY", "WASMTIME_COMPONENT_RESULT")
_NAME = re.compile(r"\b(?:wasm|wasmtime|wasi)_\w+\b")


def used_functions(sources: Iterable[str]) -> list[str]:
    """The functions of the C API that `sources` or the engine's configuration name, sorted."""
    names = {name for source in sources for name in _NAME.findall(source)}
    names.update(name for name, _ in engine.SETTINGS)
    names.update(("wasm_config_new", "wasm_engine_new_with_config"))
    return sorted(name for name in names if hasattr(_bindings, f"_{name}"))


class _Types:
    """Collects the types that declarations name, and writes what is held by value before its holder."""

    def __init__(self) -> None:
        self._forward: list[str] = []
        self._definitions: list[str] = []
        self._waiting: list[Any] = []
        self._seen: set[Any] = set()
        self._defined: set[Any] = set()

    def lines(self) -> list[str]:
        """The definitions of all types that were named until now."""
        while self._waiting:
            self._define(self._waiting.pop())
        return self._forward + self._definitions

    def pointer(self, name: str) -> str:
        """The declaration of a pointer to the library's function `name`."""
        function = getattr(_bindings, f"_{name}")
        return self._function(name, function.restype, function.argtypes)

    def _declare(self, kind: Any, name: str = "") -> str:
        """A C declaration of `name` (or of nothing, for a bare type) with ctypes' type `kind`."""
        if kind in _SCALARS:
            return f"{_SCALARS[kind]}{'' if _SCALARS[kind].endswith('*') else ' '}{name}".rstrip()
        if issubclass(kind, ctypes._Pointer):
            return self._declare(kind._type_, f"*{name}")
        if issubclass(kind, ctypes.Array):
            return self._declare(kind._type_, f"{name}[{kind._length_}]")
        if hasattr(kind, "_argtypes_"):
            return self._function(name, kind._restype_, kind._argtypes_)
        if kind not in self._seen:
            self._seen.add(kind)
            self._forward.append(f"{_tag(kind)};")
            self._waiting.append(kind)
        return f"{_tag(kind)} {name}".rstrip()

    def _function(self, name: str, result: Any, arguments: Iterable[Any]) -> str:
        types = ", ".join(self._declare(argument) for argument in arguments)
        return self._declare(result, f"(*{name})({types or 'void'})")

    def _define(self, kind: Any) -> None:
        if kind in self._defined or not getattr(kind, "_fields_", None):
            return
        self._defined.add(kind)
        fields = []
        for name, held, *_ in kind._fields_:
            fields.append(f"    {self._declare(held, name)};")
            if issubclass(held, ctypes.Structure | ctypes.Union):
                self._define(held)
        size = f'_Static_assert(sizeof({_tag(kind)}) == {ctypes.sizeof(kind)}, "{kind.__name__}");'
        self._definitions += [f"{_tag(kind)} {{", *fields, "};", size]


def _tag(kind: Any) -> str:
    return f"{'union' if issubclass(kind, ctypes.Union) else 'struct'} {kind.__name__}"


def header(functions: list[str], macros: dict[str, str]) -> str:
    """The header: types, constants, function pointers, and `macros` as string constants."""
    types = _Types()
    pointers = [f"extern {types.pointer(name)};" for name in functions]
    constants = [f"#define {name} {getattr(_ffi, name).value}" for name in _CONSTANTS]
    constants.append(f"#define WASMTIME_TRAP_UNREACHABLE {TrapCode.UNREACHABLE.value}")
    constants += [f'#define {name} "{value}"' for name, value in macros.items()]
    lines = [
        "// Generated; see declare.py.",
        "#pragma once",
        "#include <stdbool.h>",
        "#include <stddef.h>",
        "#include <stdint.h>",
        *types.lines(),
        *constants,
        *pointers,
        "// Set the pointers above to the functions of the loaded library; NULL, or what is missing.",
        "const char *wasmtime_api_bind(void *library);",
        "// A new engine with the configuration that compiled code was made for; NULL if there is none.",
        "struct wasm_engine_t *wasmtime_api_engine(void);",
    ]
    return "\n".join(lines) + "\n"


def source(functions: list[str]) -> str:
    """The definitions that go with `header`."""
    types = _Types()
    pointers = [f"{types.pointer(name)};" for name in functions]
    rows = [f'    {{"{name}", (void **)&{name}}},' for name in functions]
    calls = [f"    {name}(config, {_literal(value)});" for name, value in engine.SETTINGS]
    lines = [
        "// Generated; see declare.py.",
        '#include "wasmtime_api.h"',
        "#include <dlfcn.h>",
        *pointers,
        "static const struct {",
        "    const char *name;",
        "    void **pointer;",
        "} functions[] = {",
        *rows,
        "};",
        "const char *wasmtime_api_bind(void *library) {",
        "    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {",
        "        *functions[i].pointer = dlsym(library, functions[i].name);",
        "        if (*functions[i].pointer == NULL)",
        "            return dlerror();",
        "    }",
        "    return NULL;",
        "}",
        "struct wasm_engine_t *wasmtime_api_engine(void) {",
        "    struct wasm_config_t *config = wasm_config_new();",
        "    if (config == NULL)",
        "        return NULL;",
        *calls,
        "    return wasm_engine_new_with_config(config);",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _literal(value: bool | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
