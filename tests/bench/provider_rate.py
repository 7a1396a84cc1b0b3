"""How fast the provider starts containers, and what one costs, with no Kubernetes around it.

    python -m tests.bench.provider_rate [CONTAINERS]

prints starts a second (asked for, run, ended, told of, removed), the same for bare processes that do
nothing (what the machine can do at all, measured in the same run), and memory for each sleeping container:
the difference of MemAvailable.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

import uvloop
import wasmtime

from providers.base import Artifact, ContainerSpec, ContainerState
from providers.wasmtime.provider import WasmtimeProvider

GUESTS = Path(__file__).parents[1] / "guests"
NOTHING = '(module (func (export "_start")))'
SLEEPING = 500
TMPFS = "/dev/shm"


def available() -> int:
    """Bytes of memory that can still be had."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise LookupError("no MemAvailable in /proc/meminfo")


class Bench:
    """One provider, and what it has told of."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.provider = WasmtimeProvider(directory / "run", directory / "cache")
        self.ended: asyncio.Queue[ContainerState] = asyncio.Queue()
        (directory / "logs").mkdir()

    async def prepare(self, name: str, text: str) -> Artifact:
        binary = self.directory / f"{name}.wasm"
        binary.write_bytes(wasmtime.wat2wasm(text))
        digest = hashlib.sha256(binary.read_bytes()).hexdigest()
        return await self.provider.prepare(binary, f"sha256:{digest}")

    def spec(self, artifact: Artifact) -> ContainerSpec:
        container_id = secrets.token_hex(32)
        return ContainerSpec(
            id=container_id,
            labels={"name": "bench"},
            artifact=artifact,
            args=("guest",),
            env=(("HOSTNAME", "bench"),),
            log_path=self.directory / "logs" / f"{container_id}.log",
        )

    async def rate(self, artifact: Artifact, count: int) -> float:
        """Containers a second, from spec to removal."""
        began = time.perf_counter()
        starts = [asyncio.ensure_future(self.provider.start(self.spec(artifact))) for _ in range(count)]
        for _ in range(count):
            await self.provider.remove((await self.ended.get()).id)
        await asyncio.gather(*starts)
        return count / (time.perf_counter() - began)

    async def memory(self, artifact: Artifact) -> float:
        """Bytes for each container of SLEEPING that sleep."""
        before = available()
        states = await asyncio.gather(*(self.provider.start(self.spec(artifact)) for _ in range(SLEEPING)))
        await asyncio.sleep(2)  # let all of them come to rest: nothing tells of a guest that sleeps
        used = before - available()
        for state in states:
            await self.provider.kill(state.id)
        for _ in states:
            await self.provider.remove((await self.ended.get()).id)
        return used / SLEEPING


def floor(count: int) -> float:
    """Processes a second that are spawned, do nothing and are waited for, one after another."""
    began = time.perf_counter()
    for _ in range(count):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return count / (time.perf_counter() - began)


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="vkubelet-bench-", dir=TMPFS) as temporary:
        bench = Bench(Path(temporary))
        await bench.provider.open(bench.ended.put_nowait)
        nothing = await bench.prepare("nothing", NOTHING)
        nap = await bench.prepare("nap", (GUESTS / "nap.wat").read_text())
        component = await bench.prepare("component", (GUESTS / "component.wat").read_text())
        await bench.rate(nothing, count // 10)
        least = floor(count // 2)
        for name, artifact in (("module", nothing), ("component", component)):
            rate = await bench.rate(artifact, count)
            print(f"{name}: {rate:.0f} containers/s, {rate / least:.2f} of {least:.0f} bare processes/s")
        print(f"sleeping module: {await bench.memory(nap) / 2**20:.2f} MiB each, {SLEEPING} of them")
        await bench.provider.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000))
