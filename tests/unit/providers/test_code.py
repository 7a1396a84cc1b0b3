"""Compiled code that the launcher keeps loaded: whoever is given it runs as if it had loaded it itself."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from pathlib import Path

from waiting import eventually

from providers.base import Artifact, ExitReason

from .conftest import COMPILED, Node, assemble, guest

KEPT = 8


def kept(node: Node) -> list[str]:
    """The files of compiled code that the launcher has open."""
    files = Path(f"/proc/{node.provider._launcher.connection.launcher_pid}/fd")
    names = []
    for file in files.iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(str(file.readlink()))
    return [name for name in names if name.startswith(str(COMPILED))]


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


async def test_code_is_kept_once_it_was_asked_for_again(node: Node) -> None:
    for times in range(4):
        ended, lines = await node.run(guest("hello"))
        assert ended.code == 0, ended.message
        assert "stdout F hello from a guest" in lines
        assert len(kept(node)) == min(times, 1)


async def test_a_component_is_kept_too(node: Node) -> None:
    for _ in range(3):
        ended, _ = await node.run(guest("component"))
        assert (ended.code, ended.reason) == (0, ExitReason.COMPLETED)
    assert len(kept(node)) == 1


async def test_it_keeps_what_was_used_last(node: Node) -> None:
    modules = [
        assemble(f'(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'
                 f'(memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))')
        for code in range(KEPT + 3)
    ]  # fmt: skip
    for _ in range(2):
        for code, module in enumerate(modules):
            for _ in range(2):
                ended, _ = await node.run(module)
                assert ended.code == code
            assert len(kept(node)) <= KEPT
    assert len(set(kept(node))) == KEPT


async def test_a_file_that_was_replaced_is_not_what_is_kept(node: Node, tmp_path: Path) -> None:
    """Whoever sees it replaced gets what is there now."""
    place = tmp_path / "code"

    async def run(code: bytes) -> tuple[int, str]:
        new = tmp_path / "new"
        new.write_bytes(code)
        new.replace(place)
        spec = await node.spec(guest("hello"))
        state = await node.provider.start(dataclasses.replace(spec, artifact=artifact))
        ended = await node.next_end()
        assert ended.id == state.id
        assert ended.exit is not None
        return ended.exit.code, ended.exit.message

    compiled = (await node.spec(guest("hello"))).artifact
    artifact = Artifact(place, compiled.kind)
    good = compiled.path.read_bytes()
    for _ in range(3):
        assert await run(good) == (0, "")
    code, message = await run(good[: len(good) // 2])
    assert code == 128
    assert message.startswith("loading the compiled module")
    for _ in range(3):
        assert (await run(b"nothing of the kind"))[0] == 128
    assert await run(good) == (0, "")


async def test_each_has_a_memory_of_its_own(node: Node) -> None:
    """The memory of kept code is mapped from one file by all."""
    module = assemble(
        '(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'
        '(memory (export "memory") 1) (data (i32.const 0) "\\07") (func (export "_start")'
        "(i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (i32.const 1)))"
        "(call $exit (i32.load8_u (i32.const 0)))))"
    )
    for _ in range(4):
        ended, _ = await node.run(module)
        assert ended.code == 8


async def test_each_has_random_numbers_of_its_own(node: Node) -> None:
    """Whatever the launcher has of the library, it has not begun to make any."""
    told = [(await node.run(guest("random")))[1] for _ in range(4)]
    assert len({line for lines in told for line in lines}) == len(told)


async def test_what_a_guest_does_with_files_takes_no_thread_of_its_own(node: Node) -> None:
    """One thread runs the guest, and one is the asynchronous runtime's, which waits."""
    state = await node.start(
        guest("actor"), "write", "/a=x", "read", "/a", "await", "/go", "write", "/b=y", "sleep", "1000"
    )
    root = node.provider.root(state.id)
    (root / "go").touch()
    await asyncio.to_thread(eventually, (root / "b").exists, "the guest has written")
    assert threads(state.pid) <= 2
