"""Real launchers, real guests: the provider as the agent has it, with a launcher built from these sources.

The launcher is built three times, as it is shipped and with each sanitizer, and what a sanitizer has to
say ends up in launcher.log, where every test that ran a launcher looks last.
"""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from guests import GUESTS, build_guest
from waiting import eventually, until

from providers.base import ContainerSpec, ContainerState, Exit
from providers.wasmtime.native import build
from providers.wasmtime.provider import WasmtimeProvider

ROOT = Path(__file__).parents[3]
BUILT = ROOT / ".cache" / "native"
COMPILED = ROOT / ".cache" / "compiled"
NATIVE_TESTS = ROOT / "tests" / "native"
DEADLINE = 60.0

VARIANTS = ("shipped", "ubsan", "asan")
# A client that takes nothing is let go of sooner than by the shipped launcher, which ends sooner when it is
# of no use: tests have to wait for both.
PATIENCE = ("-DATTACH_PATIENCE_MS=1000", "-DIDLE_MS=10000")
FLAGS = {
    "shipped": ("-O2", *PATIENCE),
    "ubsan": ("-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=all", *PATIENCE),
    # Its library makes system calls that nothing else makes: only this variant's sandbox lets them be made.
    "asan": (
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-DSANITIZED",
        *PATIENCE,
    ),
}


def compiler(variant: str) -> list[str]:
    """zig has no runtime for AddressSanitizer; gcc and clang bring theirs, and cargo needs one of them."""
    if variant != "asan":
        return build.zig()
    for name in ("gcc", "clang"):
        if shutil.which(name):
            return [name]
    pytest.fail("AddressSanitizer needs gcc or clang: install one")


def native(name: str, variant: str, sources: list[Path]) -> Path:
    """A native program, built once for each version of its sources."""
    digest = hashlib.sha256(build.identity().encode())
    for part in (*sources, *sorted(NATIVE_TESTS.glob("*.h")), Path(__file__)):
        digest.update(part.read_bytes())
    program = BUILT / f"{name}-{variant}-{digest.hexdigest()[:16]}"
    if not program.exists():
        build.compile_program(program, sources, compiler=compiler(variant), flags=FLAGS[variant])
    return program


def launcher_program(variant: str) -> Path:
    return native("vkubelet-launcher", variant, [build.NATIVE / name for name in build.SOURCES])


@pytest.fixture(scope="session", params=VARIANTS)
def program(request: pytest.FixtureRequest) -> Path:
    """The launcher, in each variant."""
    return launcher_program(request.param)


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The launcher as it is shipped."""
    return launcher_program("shipped")


def guest(name: str) -> Path:
    """A guest of tests/guests, from C or from text."""
    text = GUESTS / f"{name}.wat"
    return assemble(text.read_text()) if text.exists() else build_guest(name)


def assemble(text: str) -> Path:
    """A guest that is written as text."""
    binary = bytes(wasmtime.wat2wasm(text))
    path = BUILT / f"{hashlib.sha256(binary).hexdigest()[:16]}.wasm"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")  # another process may make it too
    fresh.write_bytes(binary)
    fresh.replace(path)
    return path


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@dataclasses.dataclass
class Node:
    """A node's directories, and as many agents, one after another, as a test wants."""

    directory: Path
    program: Path
    ended: asyncio.Queue[ContainerState] = dataclasses.field(default_factory=asyncio.Queue)
    provider: Any = None
    found: list[ContainerState] = dataclasses.field(default_factory=list)

    @property
    def run_dir(self) -> Path:
        return self.directory / "run"

    @property
    def roots_dir(self) -> Path:
        return self.directory / "roots"

    async def open(self) -> list[ContainerState]:
        """A new agent takes charge."""
        self.provider = WasmtimeProvider(self.run_dir, COMPILED, self.roots_dir, program=self.program)
        self.found = await self.provider.open(self.ended.put_nowait)
        return self.found

    async def vanish(self) -> None:
        """The agent is gone as when it is killed: its files are closed, and nothing else happens."""
        tasks = list(self.provider._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.provider._launcher.connection is not None:
            self.provider._launcher.connection.close()
        self.provider._watches.close()
        self.provider._directory.close()
        self.provider = None

    async def spec(self, module: Path, *args: str, **fields: Any) -> ContainerSpec:
        artifact = await self.provider.prepare(module, digest_of(module))
        container_id = secrets.token_hex(32)
        logs = self.directory / "logs"
        logs.mkdir(exist_ok=True)
        values: dict[str, Any] = {"labels": {"name": module.stem}, "env": (("HOME", "/"),)}
        values |= {"log_path": logs / f"{container_id[:8]}.log"} | fields
        return ContainerSpec(id=container_id, artifact=artifact, args=("guest", *args), **values)

    async def start(self, module: Path, *args: str, **fields: Any) -> ContainerState:
        state: ContainerState = await self.provider.start(await self.spec(module, *args, **fields))
        return state

    async def run(self, module: Path, *args: str, **fields: Any) -> tuple[Exit, list[str]]:
        """Run a guest to its end: how it ended, and the lines of its log without their times."""
        state = await self.start(module, *args, **fields)
        ended = await self.next_end()
        assert ended.id == state.id
        return _exit(ended), log_lines(state.log_path)

    async def next_end(self) -> ContainerState:
        async with asyncio.timeout(DEADLINE):
            return await self.ended.get()

    def container(self, container_id: str) -> Path:
        return self.run_dir / "containers" / container_id


def _exit(state: ContainerState) -> Exit:
    assert state.exit is not None
    return state.exit


def log_lines(path: Path) -> list[str]:
    """A log's lines, each without its time."""
    if not path.exists():
        return []
    return [line.partition(" ")[2] for line in path.read_text().splitlines()]


async def sleeping(node: Node, **more: Any) -> ContainerState:
    """A container whose guest has begun, and goes on until it is ended."""
    state = await node.start(guest("sleep"), **more)
    await until(lambda: log_lines(state.log_path))
    return state


def _is_free(lock: Path) -> bool:
    """Whether there is nobody who holds it."""
    if not lock.exists():
        return True
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[[Path], Node]]:
    """Nodes without an agent, for tests that say when there is one. Ends what they leave."""
    nodes: list[Node] = []

    def make(program: Path) -> Node:
        nodes.append(Node(tmp_path / f"node{len(nodes)}", program))
        nodes[-1].directory.mkdir()
        return nodes[-1]

    yield make
    for node in nodes:
        # A sanitizer says last what was never freed.
        eventually(lambda node=node: _is_free(node.run_dir / "launcher.lock"), "the launcher has not ended")
        log = node.run_dir / "launcher.log"
        said = log.read_text(errors="replace") if log.exists() else ""
        assert "Sanitizer" not in said, said
        assert "runtime error" not in said, said
        assert "panic" not in said, said


@pytest.fixture
async def node(make_node: Callable[[Path], Node], program: Path) -> AsyncIterator[Node]:
    """A node with an agent in charge, with each variant of the launcher; at the end all of it is ended."""
    node = make_node(program)
    await node.open()
    yield node
    await stop(node)


async def stop(node: Node) -> None:
    """End all containers, then the launcher with its last agent."""
    if node.provider is None:
        await node.open()
    for container in list(node.provider._containers.values()):
        if not container.ended:
            await node.provider.kill(container.state.id)
            await node.next_end()
    await node.provider.close()
