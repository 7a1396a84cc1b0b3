"""Components from C: a module without a C library, put into the component that a text describes.

It exists because no toolchain from a package registry makes preview 2 components of C. The text is assembled
by the runtime's own assembler; its last core module, an empty one, is then replaced by what was compiled. It
must not know what a guest does.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from wasmtime import wat2wasm

_PREAMBLE = 8
"""Bytes of magic number and version."""
_CORE_MODULE = 1
"""The id of a section that holds one core module (WebAssembly/component-model, design/mvp/Binary.md)."""


def compile_core(source: Path, target: Path) -> None:
    """Compile C to a core module that imports its memory and exports what the source says."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-ffreestanding"]
    command += [
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Os",
        "-s",
        "-nostdlib",
        "-Wl,--no-entry",
        "-Wl,--import-memory",
    ]
    subprocess.run([*command, "-o", str(target), str(source)], check=True)


def component(text: str, core: bytes) -> bytes:
    """The component of a text, with `core` in place of its last core module."""
    assembled = bytes(wat2wasm(text))
    *_, (begin, end) = ((begin, end) for kind, begin, end in _sections(assembled) if kind == _CORE_MODULE)
    return assembled[:begin] + bytes([_CORE_MODULE]) + _leb128(len(core)) + core + assembled[end:]


def _sections(binary: bytes) -> Iterator[tuple[int, int, int]]:
    """Each section's id, where it begins and where it ends."""
    position = _PREAMBLE
    while position < len(binary):
        begin = position
        size, shift = 0, 0
        while True:
            position += 1
            size |= (binary[position] & 0x7F) << shift
            shift += 7
            if binary[position] < 0x80:
                break
        position += 1 + size
        yield binary[begin], begin, position


def _leb128(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
