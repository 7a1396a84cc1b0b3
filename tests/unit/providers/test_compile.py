"""Compiling ahead of time: what is refused and why, the cache, and compilers that are cut short."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import eventually

from providers.base import Artifact, DamagedModuleError, InvalidModuleError, ModuleKind, ProviderError
from providers.wasmtime import compile_worker, engine
from providers.wasmtime.compile import Compiler, Limits

from .conftest import assemble, digest_of, guest

COMMAND = '(func (export "_start"))'
RUN = """(component {imports}
  (core module $m (func (export "r") (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "r")))
  (instance $c (export "{function}" (func $run)))
  (export "{interface}" (instance $c)))"""


def command(imports: str = "", interface: str = "wasi:cli/run@0.2.0", function: str = "run") -> Path:
    """A component that exports one function."""
    return assemble(RUN.format(imports=imports, interface=interface, function=function))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names(directory: Path) -> list[str]:
    """What is in a directory, if there is one."""
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def mode(path: Path) -> int:
    """The permissions of a file."""
    return path.stat().st_mode & 0o777


async def prepare(cache: Path, module: Path) -> Artifact:
    return await Compiler(cache).prepare(module, digest_of(module))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a WebAssembly binary"),
        (b"#!/bin/sh\n", "not a WebAssembly binary"),
        (b"(module)", "not a WebAssembly binary"),
        (b"\0asm", "unknown version or layer"),
        (b"\0asm\x02\0\0\0", r"unknown version or layer \(02 00 00 00\)"),
        (b"\0asm\x01\0\0\0\xff", "not a valid WebAssembly module: .*malformed section"),
        (b"\0asm\x0d\0\1\0\xff", "not a valid WebAssembly component: "),
    ],
)
async def test_what_is_no_webassembly(cache: Path, tmp_path: Path, content: bytes, message: str) -> None:
    module = tmp_path / "module"
    module.write_bytes(content)
    with pytest.raises(InvalidModuleError, match=message):
        await prepare(cache, module)
    assert names(cache) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(module)", "does not export the function _start; it exports nothing"),
        (f'(module {COMMAND.replace("_start", "main")} (memory (export "m") 1))', "it exports m, main"),
        ('(module (global (export "_start") i32 (i32.const 0)))', "does not export the function _start"),
        ('(module (func (export "_start") (param i32)))', "_start takes parameters or has results"),
        (
            f'(module (import "env" "host" (func)) {COMMAND})',
            "unknown import: `env::host` has not been defined",
        ),
        (
            f'(module (import "vkubelet_terminal" "beep" (func)) {COMMAND})',
            "unknown import: `vkubelet_terminal::beep` has not been defined",
        ),
        (
            f'(module (import "vkubelet_terminal" "set_raw" (func)) {COMMAND})',
            "incompatible import type for `vkubelet_terminal::set_raw`",
        ),
        (
            f'(module (import "wasi_snapshot_preview1" "fd_nothing" (func)) {COMMAND})',
            "preview 1 provides: .*wasi_snapshot_preview1::fd_nothing",
        ),
        (
            f'(module (import "wasi_snapshot_preview1" "fd_write" (func)) {COMMAND})',
            "preview 1 provides: .*wasi_snapshot_preview1::fd_write",
        ),
        ("(component)", "does not export wasi:cli/run@0.2; it exports nothing"),
    ],
)
async def test_modules_that_cannot_run_here(cache: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidModuleError, match=message):
        await prepare(cache, assemble(text))


async def test_components_that_cannot_run_here(cache: Path) -> None:
    with pytest.raises(InvalidModuleError, match=r"it exports wasi:http/incoming-handler@0\.2\.0"):
        await prepare(cache, command(interface="wasi:http/incoming-handler@0.2.0", function="handle"))
    with pytest.raises(InvalidModuleError, match="does not export wasi:cli/run"):
        await prepare(cache, command(function="walk"))
    with pytest.raises(InvalidModuleError, match="does not export wasi:cli/run"):
        await prepare(cache, command(interface="wasi:cli/run@0.3.0"))
    unknown = command('(import "my:own/thing@1.2.3" (instance (export "f" (func))))')
    with pytest.raises(InvalidModuleError, match=r"preview 2 provides: .*my:own/thing@1\.2\.3"):
        await prepare(cache, unknown)
    other = command('(import "wasi:cli/environment@0.2.0" (instance (export "f" (func))))')
    with pytest.raises(InvalidModuleError, match=r"preview 2 provides: .*wasi:cli/environment@0\.2\.0"):
        await prepare(cache, other)


@pytest.mark.parametrize("version", ["0.2.0", "0.2.3", "0.2.8", "0.2.99"])
async def test_any_0_2_version_of_run_is_found(cache: Path, version: str) -> None:
    artifact = await prepare(cache, command(interface=f"wasi:cli/run@{version}"))
    assert artifact.kind is ModuleKind.COMPONENT


async def test_nothing_of_a_component_runs_while_it_is_checked(cache: Path) -> None:
    """A core module's start function would: this one never ends."""
    text = RUN.format(imports="", interface="wasi:cli/run@0.2.0", function="run")
    endless = text.replace("(core module $m", "(core module $m (func $f (loop br 0)) (start $f)")
    async with asyncio.timeout(60):
        await prepare(cache, assemble(endless))


async def test_compiled_once_for_all_who_ask(cache: Path) -> None:
    compiler, module = Compiler(cache), guest("hello")
    asked = [compiler.prepare(module, digest_of(module)) for _ in range(20)]
    (artifact,) = set(await asyncio.gather(*asked))
    assert artifact.kind is ModuleKind.MODULE
    assert mode(artifact.path) == 0o600
    assert mode(cache) == 0o700
    assert [name.rpartition(".")[2] for name in names(cache)] == ["cwasm", "json"]
    assert engine.version() in artifact.path.name
    before = artifact.path.stat().st_mtime_ns
    assert await compiler.prepare(module, digest_of(module)) == artifact
    assert await prepare(cache, module) == artifact
    assert artifact.path.stat().st_mtime_ns == before


async def test_the_cache_serves_where_the_module_is_gone(cache: Path, tmp_path: Path) -> None:
    module = guest("hello")
    artifact = await prepare(cache, module)
    assert await Compiler(cache).prepare(tmp_path / "gone", digest_of(module)) == artifact


def cut(artifact: Artifact) -> None:
    os.truncate(artifact.path, artifact.path.stat().st_size // 2)


def flip(artifact: Artifact) -> None:
    content = bytearray(artifact.path.read_bytes())
    content[len(content) // 2] ^= 1
    artifact.path.write_bytes(content)


def open_to_others(artifact: Artifact) -> None:
    artifact.path.chmod(0o666)
    os.utime(artifact.path)


def garble_facts(artifact: Artifact) -> None:
    artifact.path.with_suffix(".json").write_text("{")


def strip_facts(artifact: Artifact) -> None:
    artifact.path.with_suffix(".json").write_text(json.dumps({"kind": "module"}))


@pytest.mark.parametrize("damage", [cut, flip, open_to_others, garble_facts, strip_facts])
async def test_damaged_code_is_set_aside_and_compiled_again(
    cache: Path, damage: Callable[[Artifact], None], caplog: pytest.LogCaptureFixture
) -> None:
    module = guest("hello")
    artifact = await prepare(cache, module)
    good = artifact.path.read_bytes()
    damage(artifact)
    assert await prepare(cache, module) == artifact
    assert artifact.path.read_bytes() == good
    assert "is set aside" in caplog.text
    assert len([name for name in names(cache) if ".corrupt-" in name and not name.endswith(".json")]) == 1
    await Compiler(cache).discard(digest_of(module))
    assert names(cache) == []


@pytest.mark.parametrize("damage", [cut, flip])
async def test_damage_under_a_running_agent_is_seen(cache: Path, damage: Callable[[Artifact], None]) -> None:
    compiler, module = Compiler(cache), guest("hello")
    artifact = await compiler.prepare(module, digest_of(module))
    good = artifact.path.read_bytes()
    damage(artifact)
    await compiler.prepare(module, digest_of(module))
    assert artifact.path.read_bytes() == good


async def test_code_without_facts_is_compiled_again(cache: Path) -> None:
    """As a compilation leaves it that was cut short between the two."""
    module = guest("hello")
    artifact = await prepare(cache, module)
    artifact.path.with_suffix(".json").unlink()
    assert await prepare(cache, module) == artifact


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:" + "g" * 64, "../../etc/passwd", "md5:" + "0" * 32]
)
async def test_what_is_no_digest(cache: Path, digest: str) -> None:
    with pytest.raises(ProviderError, match="is no digest"):
        await Compiler(cache).prepare(guest("hello"), digest)


async def test_one_who_asks_may_go(cache: Path) -> None:
    compiler, module = Compiler(cache), guest("hello")
    first, second = (asyncio.ensure_future(compiler.prepare(module, digest_of(module))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).kind is ModuleKind.MODULE
    assert first.cancelled()


async def test_when_all_who_asked_are_gone_so_is_the_compiler(cache: Path) -> None:
    compiler, module = Compiler(cache), guest("hello")
    asked = asyncio.ensure_future(compiler.prepare(module, digest_of(module)))
    await asyncio.to_thread(eventually, cache.exists, "the compiler's work")
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await compiler.close()
    assert names(cache) == []
    assert (await compiler.prepare(module, digest_of(module))).kind is ModuleKind.MODULE


async def test_who_goes_while_the_code_is_put_in_place_leaves_it_whole(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, module = Compiler(cache), guest("hello")
    synced, fsync = threading.Event(), os.fsync

    def slow(descriptor: int) -> None:
        synced.wait(60)
        fsync(descriptor)

    monkeypatch.setattr("providers.wasmtime.compile.os.fsync", slow)
    asked = asyncio.ensure_future(compiler.prepare(module, digest_of(module)))
    await asyncio.to_thread(
        eventually, lambda: [name for name in names(cache) if ".facts-" in name], "facts of the code"
    )
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    closing = asyncio.ensure_future(compiler.close())
    await asyncio.sleep(0)
    synced.set()
    await closing
    assert [Path(name).suffix for name in names(cache)] == [".cwasm", ".json"]


async def test_who_asks_when_all_others_have_just_gone_is_served(cache: Path) -> None:
    compiler, module = Compiler(cache), guest("hello")
    gone = asyncio.ensure_future(compiler.prepare(module, digest_of(module)))
    await asyncio.to_thread(eventually, lambda: names(cache), "the compiler's work")
    gone.cancel()
    await asyncio.sleep(0)
    # What those waited for is ending, which takes a moment, and is nothing that anybody could wait for.
    assert (await compiler.prepare(module, digest_of(module))).kind is ModuleKind.MODULE
    await compiler.close()
    assert all(not name.count(".new-") for name in names(cache))


async def test_a_module_that_cannot_be_read(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="compiling the module: FileNotFoundError"):
        await Compiler(cache).prepare(tmp_path / "none", "sha256:" + "0" * 64)


async def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProviderError, match="the cache of compiled code"):
        await prepare(tmp_path / "file" / "cache", guest("hello"))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(memory_bytes=64 * 2**20), "the compiler ended with code|compiling the module: "),
        (Limits(cpu_seconds=1), "the compiler ended with code -"),
        (Limits(seconds=0.001), "took more than 0.001 s"),
    ],
)
async def test_a_compiler_that_exceeds_its_limits(cache: Path, limits: Limits, message: str) -> None:
    body = "(i32.add " * 300 + "(i32.const 1)" + " (i32.const 2))" * 300
    module = assemble(f"(module {COMMAND} {f'(func (result i32) {body})' * 4000})")
    with pytest.raises(ProviderError, match=message):
        await Compiler(cache, limits).prepare(module, digest_of(module))
    assert names(cache) == []


def test_kinds_are_told_from_the_first_bytes() -> None:
    assert compile_worker.kind_of(guest("hello").read_bytes()) is ModuleKind.MODULE
    assert compile_worker.kind_of(guest("component").read_bytes()) is ModuleKind.COMPONENT


async def test_a_module_that_its_disk_has_changed_is_not_compiled(tmp_path: Path) -> None:
    module, cache = tmp_path / "module.wasm", tmp_path / "cache"
    data = bytearray(guest("hello").read_bytes())
    digest = digest_of(guest("hello"))
    data[-1] ^= 1
    module.write_bytes(data)
    with pytest.raises(DamagedModuleError, match=f"it is {digest_of(module)} instead of {digest}"):
        await Compiler(cache).prepare(module, digest)
    assert list(cache.iterdir()) == []
    data[-1] ^= 1
    module.write_bytes(data)
    assert (await Compiler(cache).prepare(module, digest)).kind is ModuleKind.MODULE


@pytest.mark.parametrize("suffixes", [(".json",), (".cwasm",), (".json", ".cwasm")])
async def test_directories_in_the_place_of_compiled_code_are_set_aside(
    cache: Path, suffixes: tuple[str, ...]
) -> None:
    artifact = await prepare(cache, guest("hello"))
    for suffix in suffixes:
        artifact.path.with_suffix(suffix).unlink()
        artifact.path.with_suffix(suffix).mkdir()
    again = await prepare(cache, guest("hello"))
    assert again == artifact
    assert again.path.is_file()
    assert len([name for name in names(cache) if ".corrupt-" in name]) == 2
    await Compiler(cache).discard(digest_of(guest("hello")))
    assert names(cache) == []
