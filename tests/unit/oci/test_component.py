"""What a binary says about itself, for real encodings and for anything else."""

import contextlib
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from oci.binary import NotWasmFileError
from oci.component import Interfaces, interfaces

COMPONENT = """
(component
  (import "wasi:io/poll@0.2.0" (instance $poll))
  (import "now" (func $now (result u64)))
  (import "t" (type $t (sub resource)))
  (core module $m (func (export "f")))
  (core instance $i (instantiate $m))
  (func $run (canon lift (core func $i "f")))
  (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run))
  (export "m" (core module $m))
  (export "clock" (func $now))
  (export "alias" (func $now) (func (result u64)))
  (export "u" (type $t))
)
"""


def _file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "x.wasm"
    path.write_bytes(data)
    return path


def test_a_core_module_has_no_interfaces(tmp_path: Path) -> None:
    assert interfaces(_file(tmp_path, bytes(wasmtime.wat2wasm("(module)")))) is None


def test_a_component_names_its_imports_and_exports(tmp_path: Path) -> None:
    path = _file(tmp_path, bytes(wasmtime.wat2wasm(COMPONENT)))
    assert interfaces(path) == Interfaces(
        imports=("wasi:io/poll@0.2.0", "now", "t"),
        exports=("wasi:cli/run@0.2.0", "m", "clock", "alias", "u"),
    )


def test_an_empty_component(tmp_path: Path) -> None:
    assert interfaces(_file(tmp_path, bytes(wasmtime.wat2wasm("(component)")))) == Interfaces((), ())


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "neither a core WebAssembly module nor a component"),
        (b"#!/bin/sh", "neither"),
        (b"\0asm\x0e\0\1\0", "neither"),
        (b"\0asm\x0d\0\1\0\x0a\x7f", "section 10 is cut short"),
        (b"\0asm\x0d\0\1\0\x0a\x02\x01\x07", "a name of kind 7"),
        (b"\0asm\x0d\0\1\0\x0a\x04\x01\x00\x00\x09", "a description of kind 9"),
        (b"\0asm\x0d\0\1\0\x0a\x0b" + b"\xff" * 11, "a number does not end"),
        (b"\0asm\x0d\0\1\0\x0a\x02\x01\x00\x01x\x01\x00", "does not end where it says"),
        (b"\0asm\x0d\0\1\0\x0a\x05\x01\x00\x01\xff\x01", "byte 14: "),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, data: bytes, cause: str) -> None:
    with pytest.raises(NotWasmFileError, match=cause):
        interfaces(_file(tmp_path, data))


@given(st.binary(max_size=60) | st.lists(st.integers(0, 12), max_size=60).map(bytes))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.wasm"
    path.write_bytes(b"\0asm\x0d\0\1\0" + data)
    with contextlib.suppress(NotWasmFileError):
        assert isinstance(interfaces(path), Interfaces)
