"""Snapshots: the new module begins where the initialisation ended, and knows nothing of this machine."""

from __future__ import annotations

import pytest
import wasmtime

from vkubelet.dev.snapshot import SnapshotError, snapshot

COUNTING = """
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "\\07")
  (global $small (mut i32) (i32.const 1))
  (global $large (mut i64) (i64.const -1))
  (func (export "begin")
    (global.set $small (i32.const -123456))
    (global.set $large (i64.const 0x7123456789abcdef))
    (drop (memory.grow (i32.const 3)))
    (i32.store (i32.const 200000) (i32.const 0x01020304))
    (i32.store8 (i32.const 16) (i32.add (i32.load8_u (i32.const 16)) (i32.const 1)))
    (i32.store (i32.const 32) (i32.const 99))
    (drop (call $args (i32.const 32) (i32.const 36)))
    (drop (call $random (i32.const 64) (i32.const 8)))
    (drop (call $time (i32.const 1) (i64.const 0) (i32.const 80)))
    (i32.store (i32.const 96) (call $prestat (i32.const 3) (i32.const 100))))
  (func (export "run"))
  (func (export "small") (result i32) (global.get $small))
  (func (export "large") (result i64) (global.get $large))
)
"""


def load(module: bytes) -> tuple[wasmtime.Store, wasmtime.InstanceExports]:
    engine = wasmtime.Engine()
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    linker.define_wasi()
    store.set_wasi(wasmtime.WasiConfig())
    return store, linker.instantiate(store, wasmtime.Module(engine, module)).exports(store)


def test_what_was_initialised_is_there_from_the_beginning() -> None:
    store, exports = load(snapshot(wasmtime.wat2wasm(COUNTING), "begin", "run"))
    memory = exports["memory"]
    assert memory.size(store) == 4
    assert memory.read(store, 200000, 200004) == b"\4\3\2\1"
    assert memory.read(store, 16, 17) == b"\10"
    assert exports["small"](store) == -123456
    assert exports["large"](store) == 0x7123456789ABCDEF
    assert set(exports) == {"memory", "_start", "small", "large"}
    exports["_start"](store)


def test_it_knows_nothing_of_where_it_was_made() -> None:
    module = wasmtime.wat2wasm(COUNTING)
    made = snapshot(module, "begin", "run")
    assert made == snapshot(module, "begin", "run")
    store, exports = load(made)
    memory = exports["memory"]
    assert memory.read(store, 32, 40) == bytes(8)  # no arguments
    assert len(set(memory.read(store, 64, 72))) == 1  # nothing that anybody could take for random
    assert memory.read(store, 80, 88) == b"\1" + bytes(7)
    assert memory.read(store, 96, 100) == b"\10\0\0\0"  # EBADF: no directory


@pytest.mark.parametrize(
    "text",
    [
        '(module (memory (export "memory") 1) (global (mut i32) (i32.const 0)) (func $f) (start $f)'
        '(func (export "begin")) (func (export "run")) (data (i32.const 0) "x"))',
        '(module (memory (export "memory") 1) (global (mut f64) (f64.const 0)) (func (export "begin"))'
        '(func (export "run")) (data (i32.const 0) "x"))',
        '(module (memory (export "memory") 1) (global (mut i32) (i32.const 0)) (func (export "run"))'
        '(func (export "begin") unreachable) (data (i32.const 0) "x"))',
        '(module (memory (export "memory") 1) (global (mut i32) (i32.const 0))'
        '(func (export "run")) (data (i32.const 0) "x"))',
        '(module (memory (export "memory") 1) (memory 1) (global (mut i32) (i32.const 0))'
        '(func (export "begin")) (func (export "run")) (data (i32.const 0) "x"))',
        '(module (memory (export "memory") 1) (global (mut i32) (i32.const 0)) (func (export "begin"))'
        '(func (export "run") (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 1))) (data "x"))',
    ],
)
def test_what_no_snapshot_can_be_made_of(text: str) -> None:
    with pytest.raises(SnapshotError):
        snapshot(wasmtime.wat2wasm(text), "begin", "run")


def test_no_module() -> None:
    with pytest.raises(SnapshotError, match="no WebAssembly"):
        snapshot(b"\x7fELF", "begin", "run")
