"""The limit of linear memory: what ends a guest that exceeds it, and what does not."""

from __future__ import annotations

import pytest

from providers.base import ExitReason

from .conftest import Node, assemble, guest

PAGE = 65536
MIB = 1024 * 1024
MEMORY = 32 * MIB

GROWS = """(module
  (memory (export "memory") {memory})
  (func (export "_start")
    {body}))"""
REFUSED = "(if (i32.ne (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))"
COMPONENT = """(component
  (core module $m
    (memory {memory})
    (func (export "run") (result i32)
      (drop (memory.grow (i32.const {pages})))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))"""


@pytest.mark.parametrize("step", [4096, 20 * MIB], ids=["small steps", "large steps"])
async def test_a_guest_that_exceeds_its_limit_is_ended(node: Node, step: int) -> None:
    ended, lines = await node.run(guest("hog"), str(step), memory_limit=MEMORY)
    assert (ended.code, ended.reason) == (137, ExitReason.OUT_OF_MEMORY)
    told, trace = ended.message.split("\n", 1)
    assert told.startswith("out of memory: the guest asked for ")
    assert told.endswith(f" bytes, and its limit is {MEMORY}")
    assert "wasm backtrace" in trace
    assert lines[0] == f"stderr F {told}"


async def test_it_is_not_asked_what_it_would_do_without(node: Node) -> None:
    ended, _ = await node.run(guest("hog"), "4096", "7", memory_limit=MEMORY)
    assert (ended.code, ended.reason) == (137, ExitReason.OUT_OF_MEMORY)


async def test_a_component_that_exceeds_its_limit_is_ended(node: Node) -> None:
    ended, _ = await node.run(assemble(COMPONENT.format(memory=1, pages=600)), memory_limit=MEMORY)
    assert (ended.code, ended.reason) == (137, ExitReason.OUT_OF_MEMORY)
    assert ended.message.startswith(f"out of memory: the guest asked for {601 * PAGE} bytes")
    ended, _ = await node.run(assemble(COMPONENT.format(memory=1, pages=400)), memory_limit=MEMORY)
    assert ended.reason is ExitReason.COMPLETED


async def test_growth_in_the_start_function_counts(node: Node) -> None:
    module = assemble(
        '(module (memory (export "memory") 1) (func $s (drop (memory.grow (i32.const 600)))) (start $s)'
        ' (func (export "_start")))'
    )
    ended, _ = await node.run(module, memory_limit=MEMORY)
    assert ended.reason is ExitReason.OUT_OF_MEMORY


@pytest.mark.parametrize("limit", [None, MEMORY])
async def test_a_maximum_of_its_own_is_the_guests_business(node: Node, limit: int | None) -> None:
    module = assemble(GROWS.format(memory="1 100", body=REFUSED.format(pages=200)))
    ended, _ = await node.run(module, memory_limit=limit)
    assert ended.reason is ExitReason.COMPLETED


async def test_a_maximum_of_its_own_beyond_the_limit_is_none(node: Node) -> None:
    module = assemble(GROWS.format(memory="1 1000", body=REFUSED.format(pages=2000)))
    ended, _ = await node.run(module, memory_limit=MEMORY)
    assert ended.reason is ExitReason.OUT_OF_MEMORY


async def test_a_component_that_exceeds_its_own_maximum_has_trapped(node: Node) -> None:
    ended, _ = await node.run(assemble(COMPONENT.format(memory="1 100", pages=200)), memory_limit=MEMORY)
    assert (ended.code, ended.reason) == (134, ExitReason.TRAP)


async def test_a_trap_at_the_limit_is_a_trap(node: Node) -> None:
    body = "(drop (memory.grow (i32.const 511))) unreachable"
    ended, _ = await node.run(assemble(GROWS.format(memory=1, body=body)), memory_limit=MEMORY)
    assert (ended.code, ended.reason) == (134, ExitReason.TRAP)


@pytest.mark.parametrize("kind", ["module", "component"])
async def test_a_limit_below_its_minimum_cannot_run(node: Node, kind: str) -> None:
    text = COMPONENT.format(memory=100, pages=0) if kind == "component" else GROWS.format(memory=100, body="")
    ended, lines = await node.run(assemble(text), memory_limit=PAGE)
    assert (ended.code, ended.reason, ended.started_at) == (128, ExitReason.CANNOT_RUN, 0)
    assert ended.message == (
        f"instantiating the {kind}: out of memory: the guest asked for {100 * PAGE} bytes, "
        f"and its limit is {PAGE}"
    )
    assert lines == []
