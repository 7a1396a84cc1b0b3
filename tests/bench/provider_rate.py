"""How fast the provider starts containers, and what one costs, with no Kubernetes around it.

    python -m tests.bench.provider_rate [CONTAINERS]

prints starts a second (asked for, run, ended, told of, removed), the same for bare processes that do
nothing (what the machine can do at all, measured in the same run), and memory for each sleeping container:
the difference of MemAvailable. Then what the sandbox costs: starts a second and processor time for each, with
and without it, in turns, by a launcher that is built without.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop
import wasmtime

from providers.base import Artifact, ContainerSpec, ContainerState
from providers.wasmtime import launcher
from providers.wasmtime.native import build
from providers.wasmtime.provider import WasmtimeProvider

TESTS = Path(__file__).parents[1]
GUESTS = TESTS / "guests"
NOTHING = '(module (func (export "_start")))'
SLEEPING = 500
ROUNDS = 7
TMPFS = "/dev/shm"


def available() -> int:
    """Bytes of memory that can still be had."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise LookupError("no MemAvailable in /proc/meminfo")


class Bench:
    """One provider, and what it has told of."""

    def __init__(self, directory: Path, program: Path = launcher.PROGRAM) -> None:
        self.directory = directory
        self.provider = WasmtimeProvider(directory / "run", directory / "cache", program=program)
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

    async def processor_time(self) -> float:
        """Seconds that the launcher and the containers that have ended have used."""
        connection = self.provider._launcher.connection
        assert connection is not None
        text = await asyncio.to_thread(Path(f"/proc/{connection.launcher_pid}/stat").read_text)
        ticks = text.rpartition(")")[2].split()[11:15]  # utime, stime, cutime, cstime
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def unconfined(directory: Path) -> Path:
    """A launcher without the sandbox."""
    program = directory / "vkubelet-launcher"
    kept = [build.NATIVE / name for name in build.SOURCES if name != "sandbox.c"]
    build.compile_program(program, [*kept, TESTS / "native" / "no_sandbox.c"])
    return program


async def sandbox(directory: Path, count: int) -> None:
    """Print what the sandbox costs a container that does nothing."""
    programs = {"with": launcher.PROGRAM, "without": await asyncio.to_thread(unconfined, directory)}
    rates: dict[str, list[float]] = {name: [] for name in programs}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(ROUNDS):
        for name, program in programs.items():
            place = directory / f"{name}-{number}"
            place.mkdir()
            bench = Bench(place, program)
            await bench.provider.open(bench.ended.put_nowait)
            nothing = await bench.prepare("nothing", NOTHING)
            await bench.rate(nothing, count // 10)
            before = await bench.processor_time()
            rates[name].append(await bench.rate(nothing, count))
            times[name].append((await bench.processor_time() - before) / count)
            await bench.provider.close()
    rate = {name: statistics.median(found) for name, found in rates.items()}
    used = {name: statistics.median(found) * 1e3 for name, found in times.items()}
    print(
        f"sandbox: {rate['with'] / rate['without']:.2f} of {rate['without']:.0f} containers/s without, "
        f"{1e3 / rate['with'] - 1e3 / rate['without']:.2f} ms a start; "
        f"{used['with'] - used['without']:.2f} ms of processor time beside {used['without']:.2f} ms"
    )


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
        await sandbox(Path(temporary), count // 3)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000))
