"""What a file is by the names in it: real encodings, and anything else."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from oci import core_module
from oci.binary import NotWasmFileError
from oci.component import Interfaces
from oci.kind import Kind, contents

EVERYTHING = """
(module
  (import "a" "f" (func (param i32)))
  (import "a" "t" (table 1 2 funcref))
  (import "b" "r" (table 1 externref))
  (import "b" "m" (memory 1 3))
  (import "b" "w" (memory i64 1))
  (import "c" "g" (global (mut i64)))
  (import "c" "h" (global externref))
  (func (export "x"))
  (export "y" (memory 0)))
"""
HANDLER = '(component (instance $i) (export "wasi:http/incoming-handler@0.2.3" (instance $i)))'
RUN = '(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)) (export "x" (instance $i)))'


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.wasm"
    path.write_bytes(bytes(wasmtime.wat2wasm(text)))
    return path


def test_every_sort_of_import_is_named(tmp_path: Path) -> None:
    assert core_module.names(file(tmp_path, EVERYTHING)) == Interfaces(
        imports=("a.f", "a.t", "b.r", "b.m", "b.w", "c.g", "c.h"), exports=("x", "y")
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('(module (func (export "_start")))', Kind.P1_COMMAND),
        ('(module (func (export "_initialize")) (func (export "f")))', Kind.P1_REACTOR),
        ("(module)", Kind.MODULE),
        (RUN, Kind.P2_COMMAND),
        (HANDLER, Kind.HTTP),
        ("(component)", Kind.COMPONENT),
    ],
)
def test_kinds(tmp_path: Path, text: str, kind: Kind) -> None:
    assert contents(file(tmp_path, text)).kind is kind


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"\x02\x06\x01\x01a\x01b", "section 2 is cut short"),
        (b"\x02\x05\x01\x01a\x01b", "byte 15: it ends too early"),
        (b"\x02\x06\x01\x01a\x01b\x09", "byte 16: an import of kind 9"),
        (b"\x07\x02\x01\x05", "byte 1"),
    ],
)
def test_what_is_broken_is_refused_by_its_place(tmp_path: Path, data: bytes, cause: str) -> None:
    path = tmp_path / "x.wasm"
    path.write_bytes(b"\0asm\1\0\0\0" + data)
    with pytest.raises(NotWasmFileError, match=cause):
        contents(path)


@given(st.binary(max_size=60) | st.lists(st.integers(0, 12), max_size=60).map(bytes))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-module.wasm"
    path.write_bytes(b"\0asm\1\0\0\0" + data)
    with contextlib.suppress(NotWasmFileError):
        assert contents(path).kind in Kind
