"""A module that begins where another one's initialisation has ended.

It exists because starting Go's runtime takes longer than most of the toolbox's commands do. A module that was
built as a library runs its initialisation here, in an instance that has no arguments, environment, files or
random numbers of this machine's; its memory and global variables are then what the new module begins with. It
must not know what the module is for. Numbers are those of the WebAssembly specification (5, binary format).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import wasmtime

HEADER = b"\0asm\x01\0\0\0"
_CUSTOM, _MEMORY, _GLOBAL, _EXPORT, _START, _DATA, _DATA_COUNT = 0, 5, 6, 7, 8, 11, 12
_KIND_FUNCTION, _KIND_GLOBAL = 0, 3
_I32, _I64 = 0x7F, 0x7E
_CONSTANT = {_I32: b"\x41", _I64: b"\x42"}
_END = b"\x0b"
_PAGE = 65536
_GRAIN = 256
_GAP = 4096
"""Bytes of nothing that are worth a segment of their own."""

Stub = Callable[[wasmtime.Store, wasmtime.Memory, tuple[int, ...]], int]
_BAD_FILE, _SUCCESS = 8, 0


class SnapshotError(Exception):
    """The module is not one of which a snapshot can be made; the text says why."""


@dataclass(frozen=True, slots=True)
class _Section:
    kind: int
    content: bytes


@dataclass(frozen=True, slots=True)
class _Export:
    name: str
    kind: int
    index: int


def snapshot(module: bytes, initialise: str, begin: str) -> bytes:
    """`module` once its export `initialise` has run; `begin` becomes its `_start`. Raises SnapshotError.

    The same module gives the same bytes.
    """
    sections = list(_sections(module))
    known = {section.kind: section.content for section in sections if section.kind != _CUSTOM}
    if _START in known or _DATA_COUNT in known:
        raise SnapshotError("it starts by itself, or fills its memory otherwise than by what is in it")
    globals_ = _globals(known[_GLOBAL])
    exports = _exports(known[_EXPORT])
    memory, values = _run(_with_globals_exported(sections, exports, len(globals_)), initialise, len(globals_))
    replaced = {
        _MEMORY: _memory_of(known[_MEMORY], len(memory) // _PAGE),
        _GLOBAL: _vector(
            bytes([kind, mutable]) + _CONSTANT[kind] + _signed(value) + _END
            for (kind, mutable), value in zip(globals_, values, strict=True)
        ),
        _EXPORT: _encode_exports(_begun(exports, initialise, begin)),
        _DATA: _vector(
            b"\0" + _CONSTANT[_I32] + _signed(start) + _END + _unsigned(end - start) + memory[start:end]
            for start, end in _used(memory)
        ),
    }
    return _encode(_Section(each.kind, replaced.get(each.kind, each.content)) for each in sections)


def _begun(exports: list[_Export], initialise: str, begin: str) -> Iterator[_Export]:
    for export in exports:
        if export.name == begin:
            yield _Export("_start", export.kind, export.index)
        elif export.name != initialise:
            yield export


def _run(module: bytes, initialise: str, count: int) -> tuple[bytes, list[int]]:
    """Initialise the module; gives its memory and the values of its global variables."""
    config = wasmtime.Config()
    config.cranelift_opt_level = "none"  # for one run: compiling is to be fast, not the code
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    linker = wasmtime.Linker(engine)
    linker.allow_shadowing = True  # a function may be imported twice
    compiled = wasmtime.Module(engine, module)
    exports: dict[str, wasmtime.Memory] = {}
    for needed in compiled.imports:
        if not isinstance(needed.type, wasmtime.FuncType):
            raise SnapshotError(f"it imports {needed.name}, which is no function")
        answer = _ANSWERS.get(str(needed.name), _nothing)

        def call(*arguments: int, answer: Stub = answer) -> int:
            return answer(store, exports["memory"], arguments)

        linker.define_func(needed.module, str(needed.name), needed.type, call)
    try:
        instance = linker.instantiate(store, compiled).exports(store)
        memory = instance["memory"]
        run = instance[initialise]
        if not isinstance(memory, wasmtime.Memory) or not isinstance(run, wasmtime.Func):
            raise SnapshotError(f"memory or {initialise} are not what they should be")
        exports["memory"] = memory
        run(store)
    except (KeyError, wasmtime.WasmtimeError, wasmtime.Trap) as error:
        raise SnapshotError(f"it cannot be initialised: {error}") from error
    variables = [instance[_exported(index)] for index in range(count)]
    values = [each.value(store) for each in variables if isinstance(each, wasmtime.Global)]
    return bytes(memory.read(store, 0, memory.data_len(store))), values


def _nothing(_store: wasmtime.Store, _memory: wasmtime.Memory, _arguments: tuple[int, ...]) -> int:
    """There is no such file, or nobody who would say."""
    return _BAD_FILE


def _no_strings(store: wasmtime.Store, memory: wasmtime.Memory, arguments: tuple[int, ...]) -> int:
    """Neither arguments nor environment: none of them, in no bytes."""
    for place in arguments:
        memory.write(store, bytes(4), place)
    return _SUCCESS


def _time(store: wasmtime.Store, memory: wasmtime.Memory, arguments: tuple[int, ...]) -> int:
    """Time has not begun, but for the moment that tells a clock from none."""
    memory.write(store, (1).to_bytes(8, "little"), arguments[2])
    return _SUCCESS


def _random(store: wasmtime.Store, memory: wasmtime.Memory, arguments: tuple[int, ...]) -> int:
    """The same for all: whoever needs what nobody can know has to ask again."""
    memory.write(store, b"\x5a" * arguments[1], arguments[0])
    return _SUCCESS


_ANSWERS: dict[str, Stub] = {
    "args_sizes_get": _no_strings,
    "environ_sizes_get": _no_strings,
    "clock_time_get": _time,
    "random_get": _random,
}
"""What WASI says before there is a world; all else is refused."""


def _used(memory: bytes) -> Iterator[tuple[int, int]]:
    """The parts of memory in which there is something."""
    nothing = bytes(_GRAIN)
    start = end = -1
    for at in range(0, len(memory), _GRAIN):
        if memory[at : at + _GRAIN] == nothing:
            continue
        if start >= 0 and at - end >= _GAP:
            yield start, end
            start = -1
        if start < 0:
            start = at
        end = at + _GRAIN
    if start >= 0:
        yield start, end


def _exported(index: int) -> str:
    return f"global {index}"


def _with_globals_exported(sections: list[_Section], exports: list[_Export], count: int) -> bytes:
    more = [_Export(_exported(index), _KIND_GLOBAL, index) for index in range(count)]
    encoded = _encode_exports([*exports, *more])
    return _encode(_Section(each.kind, encoded) if each.kind == _EXPORT else each for each in sections)


def _sections(module: bytes) -> Iterator[_Section]:
    if not module.startswith(HEADER):
        raise SnapshotError("it is no WebAssembly module")
    at = len(HEADER)
    while at < len(module):
        size, begin = _read(module, at + 1)
        yield _Section(module[at], module[begin : begin + size])
        at = begin + size


def _encode(sections: Iterator[_Section]) -> bytes:
    return HEADER + b"".join(
        bytes([each.kind]) + _unsigned(len(each.content)) + each.content for each in sections
    )


def _globals(content: bytes) -> list[tuple[int, int]]:
    """Type and mutability of each global variable, all of which begin with a number."""
    count, at = _read(content, 0)
    found = []
    for _ in range(count):
        kind, mutable, instruction = content[at : at + 3]
        if kind not in _CONSTANT or bytes([instruction]) != _CONSTANT[kind]:
            raise SnapshotError("a global variable is no whole number")
        _, at = _read(content, at + 3)
        if content[at : at + 1] != _END:
            raise SnapshotError("a global variable begins with more than a number")
        at += 1
        found.append((kind, mutable))
    return found


def _exports(content: bytes) -> list[_Export]:
    count, at = _read(content, 0)
    found = []
    for _ in range(count):
        size, at = _read(content, at)
        name, kind = content[at : at + size].decode(), content[at + size]
        index, at = _read(content, at + size + 1)
        found.append(_Export(name, kind, index))
    return found


def _encode_exports(exports: list[_Export] | Iterator[_Export]) -> bytes:
    names = [(each.name.encode(), each) for each in exports]
    return _vector(
        _unsigned(len(name)) + name + bytes([each.kind]) + _unsigned(each.index) for name, each in names
    )


def _memory_of(content: bytes, pages: int) -> bytes:
    """The one memory, which begins with as many pages."""
    count, at = _read(content, 0)
    if count != 1:
        raise SnapshotError("it has not one memory")
    _, end = _read(content, at + 1)
    return content[: at + 1] + _unsigned(pages) + content[end:]


def _vector(parts: Iterator[bytes]) -> bytes:
    encoded = list(parts)
    return _unsigned(len(encoded)) + b"".join(encoded)


def _read(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and what is behind it."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def _unsigned(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _signed(number: int) -> bytes:
    encoded = bytearray()
    while not -0x40 <= number < 0x40:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number & 0x7F)
    return bytes(encoded)
