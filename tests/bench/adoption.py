"""How long another agent takes to take charge of the containers that run.

    python -m tests.bench.adoption [CONTAINERS]

An agent is killed while that many containers sleep, each of a pod of its own. What is given is the time from
the call that opens the provider to the last container that it gives back, over 5 agents, of the median and of
the worst; the time until all of them are seen as attempts of their pods' containers; and the floor: the time
to read the same files and to open a pidfd of the same processes, and nothing else, in the same run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop

from providers.base import Identity
from providers.wasmtime import files
from providers.wasmtime.provider import WasmtimeProvider
from tests.bench.provider_rate import TMPFS, Bench
from vkubelet.api.objects import Pod
from vkubelet.pods import records
from vkubelet.pods.backoff import Backoff

AGENTS = 5
SLEEPS = Path(__file__).parents[1] / "guests" / "nap.wat"


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="vkubelet-bench-", dir=TMPFS) as directory:
        bench = Bench(Path(directory))
        await bench.provider.open(bench.ended.put_nowait)
        await start(bench, count)
        opened, known, floors = [], [], []
        for _ in range(AGENTS):
            await abandon(bench.provider)
            floors.append(floor(Path(directory) / "run" / "containers"))
            bench.provider = WasmtimeProvider(Path(directory) / "run", Path(directory) / "cache")
            began = time.perf_counter()
            states = await bench.provider.open(bench.ended.put_nowait)
            opened.append(time.perf_counter() - began)
            found = [records.record(state) for state in states]
            known.append(time.perf_counter() - began)
            assert len(found) == count
            assert all(each.attempt.exit is None for each in found)
        for state in states:
            await bench.provider.kill(state.id)
        for _ in states:
            await bench.provider.remove((await bench.ended.get()).id)
        await bench.provider.close()
    middle, least = statistics.median(opened), statistics.median(floors)
    print(f"{count} containers adopted: {middle * 1e3:.0f} ms, {max(opened) * 1e3:.0f} ms at worst")
    print(f"with their pods: {statistics.median(known) * 1e3:.0f} ms")
    print(
        f"floor, their files read and their pidfds opened: {least * 1e3:.0f} ms; {middle / least:.1f} times"
    )


async def start(bench: Bench, count: int) -> None:
    """Start them, a pod for each."""
    artifact = await bench.prepare("nap", SLEEPS.read_text())
    starting = []
    for number in range(count):
        document = {
            "metadata": {"name": f"p-{number}", "namespace": "bench", "uid": f"uid-{number}"},
            "spec": {"containers": [{"name": "main", "image": "bench"}]},
        }
        pod = msgspec.convert(document, Pod)
        (container,) = pod.spec.containers or ()
        labels = records.labels(pod, container, 0, 0, "bench@sha256:0", Backoff(), Identity(0, 0))
        spec = dataclasses.replace(bench.spec(artifact), labels=labels)
        starting.append(bench.provider.start(spec))
    claims = [
        bench.directory / "run" / "containers" / state.id / "started"
        for state in await asyncio.gather(*starting)
    ]
    while not all(claim.exists() for claim in claims):  # noqa: ASYNC110  a process tells nobody of its claim
        await asyncio.sleep(0.05)


async def abandon(provider: WasmtimeProvider) -> None:
    """Let go of everything, as the kernel does with what a killed agent has."""
    for task in provider._tasks:
        task.cancel()
    await asyncio.gather(*provider._tasks, return_exceptions=True)
    provider._launcher.close()
    provider._watches.close()
    provider._directory.close()


def floor(containers: Path) -> float:
    """Seconds to read the files of all containers, and to have a pidfd of each."""
    began = time.perf_counter()
    for directory in containers.iterdir():
        (directory / "spec").read_bytes()
        started = files.decode_started((directory / "started").read_bytes())
        Path(f"/proc/{started.pid}/stat").read_bytes()
        os.close(os.pidfd_open(started.pid))
    return time.perf_counter() - began


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
