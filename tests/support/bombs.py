"""Modules whose few lines want more of a node than it has."""

from __future__ import annotations

TABLE = """(module (memory (export "memory") 1) (table {minimum} funcref)
  (func (export "_start")
    (loop $more (br_if $more (i32.ne (table.grow (ref.null func) (i32.const 100000)) (i32.const -1))))
    unreachable))"""
"""Grows a table that begins with so many elements until it is refused."""
OBJECTS = """(module (memory (export "memory") 1) (type $array (array (mut i64)))
  (table 10000 (ref null $array))
  (func (export "_start") (local $i i32)
    (loop $more
      (table.set (local.get $i) (array.new $array (i64.const 1) (i32.const 100000)))
      (br_if $more (local.tee $i (i32.add (local.get $i) (i32.const 1)))))))"""
"""Keeps making objects of the garbage collector's, 800 KB each."""


def doubling(levels: int) -> str:
    """A component of a few lines that is 2 to the power of `levels` instances of another."""
    text = "(component (component $a0 (core module $m (memory 1)) (core instance (instantiate $m)))"
    for level in range(1, levels + 1):
        text += f"(component $a{level} " + f"(instance (instantiate $a{level - 1}))" * 2 + ")"
    return (
        f"{text} (instance (instantiate $a{levels}))"
        '(core module $m (func (export "run") (result i32) (i32.const 0)))'
        "(core instance $i (instantiate $m))"
        '(func $run (result (result)) (canon lift (core func $i "run")))'
        '(instance $command (export "run" (func $run))) (export "wasi:cli/run@0.2.0" (instance $command)))'
    )
