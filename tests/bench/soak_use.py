"""Pods that stay and are used, and whether anything of what is done to them stays as well.

    python -m tests.bench.soak_use [--rounds N] [--first N]

A control plane and a node of its own run on this machine, with 25 pods. In rounds the node is asked at its
own port, as an API server asks it, for exec, attach, logs, port-forward and pages of every kind, by clients
of which half vanish without a word; meanwhile containers are probed each second, and others end, are killed
by their probes or have their pod start over, and are restarted a second later. What the node has is looked at
after the first rounds, when all logs have as many files as they ever get, and after the last. At a look
nothing is asked, and nothing restarts: only the probes go on, so that of several looks the least counts. The
exit code is 1 if anything but memory is more than before, or memory by more than an allocator explains.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import uvloop

from tests.bench.caller import Caller
from tests.bench.client import BenchError, PodClient, watching
from tests.bench.cluster import Cluster, fresh
from tests.bench.exec import reached
from tests.bench.node import Vkubelet, running
from tests.bench.probes import serving
from tests.bench.staying import SERVING, TALKED, Gate, Staying
from tests.bench.visits import METRICS, Visit, Visits
from tests.bench.watched import Looks, Watched, rest, settled, show
from vkubelet.dev.build import cluster_binary
from vkubelet.dev.layout import default_cache
from vkubelet.dev.report import Report

ROUNDS, FIRST = 60, 20
AT_ONCE = 8
"""Visits under way at the same time."""
LOOKS, PAUSE = 8, 0.37
"""How often is looked, and the seconds between two looks: no divisor of a probe's period."""
LONGEST_VISIT = 60.0
LOG_SIZE = 8192
"""Bytes after which a log is rotated: a log of the pods' gets there within seconds."""


class Soak:
    """The pods, who asks for them, and what the node has."""

    def __init__(
        self, cluster: Cluster, node: Vkubelet, client: PodClient, port: int, tls: ssl.SSLContext
    ) -> None:
        """`port` and `tls` are the node's own, as an API server has them."""
        self._client = client
        self._port, self._tls = port, tls
        self._cluster = cluster
        self._watched = Watched(node, cluster.directory / "node")
        self._gate = Gate(cluster.directory / "gate")
        self._pods = Staying(client.api, self._gate)
        self._echo: Mapping[str, int] = {}
        self._visited = 0

    async def run(self, rounds: int, begin_after: int) -> int:
        """Print what was found; how many kinds of things are left."""
        async with serving() as web:
            await self._pods.create(self._cluster, web)
            self._echo = await self._listening()
            await self._rounds(begin_after)
            await rest(self._client)
            before = await self._least()
            visited, restarted = self._visited, await self._pods.restarts()
            begin = time.perf_counter()
            await self._rounds(rounds)
            took = time.perf_counter() - begin
            visited, restarted = self._visited - visited, await self._pods.restarts() - restarted
            print(f"  {rounds} rounds: {visited} visits and {restarted} restarts in {took:.0f} s")
            await rest(self._client)
            return show(before, await settled(self._least, before))

    async def _rounds(self, count: int) -> None:
        """Visit the pods while the gate is open, and see all containers run again."""
        self._gate.open()
        for number in range(count):
            async with self._calling() as caller:
                await self._round(Visits(caller, self._echo), number)
            if sys.stdout.isatty():
                print(f"\r  {number + 1} rounds", end="\r", flush=True)
        self._gate.close()
        await self._pods.all_run()

    async def _round(self, visits: Visits, number: int) -> None:
        """Each kind of visit once to each pod."""
        waiting = [
            (name, visit, number + pod) for pod in range(TALKED) for name, visit in visits.kinds().items()
        ]
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._visit_all(waiting))

    async def _visit_all(self, waiting: list[tuple[str, Visit, int]]) -> None:
        while waiting:
            name, visit, number = waiting.pop()
            try:
                async with asyncio.timeout(LONGEST_VISIT):
                    await visit(number)
            except (TimeoutError, OSError, aiohttp.ClientError, AssertionError, BenchError) as error:
                raise BenchError(f"{name}: {error or type(error).__name__}") from error
            self._visited += 1

    @asynccontextmanager
    async def _calling(self) -> AsyncIterator[Caller]:
        """Connections are kept within the block, and closed with it."""
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Caller(session, self._port, self._tls)

    async def _listening(self) -> Mapping[str, int]:
        """The port of each pod that serves, which its log tells."""
        found = {}
        async with self._calling() as caller:
            for pod in (f"serving-{number}" for number in range(SERVING)):
                said = re.search(
                    r"listening on (\d+)", await caller.text(f"containerLogs/default/{pod}/main")
                )
                if said is None:
                    raise BenchError(f"pod {pod} does not listen")
                found[pod] = int(said[1])
        return found

    async def _least(self) -> Looks:
        """The least of several looks, and how much there is to read of the node's figures.

        Those of the last look count: what files take is measured when figures are first asked for.
        """
        looks, lines = [], Looks()
        for _ in range(LOOKS):
            looks.append(await self._watched.look())
            async with self._calling() as caller:
                lines = {f"lines of {page}": (await caller.text(page)).count("\n") for page in METRICS}
            await asyncio.sleep(PAUSE)
        return {name: min(look[name] for look in looks) for name in looks[0]} | lines


async def soak(cluster: Cluster, node: Vkubelet, rounds: int, begin_after: int) -> int:
    """How many kinds of things are left."""
    async with watching(cluster.ready.kubeconfig, node.node, cluster.image) as client:
        port, tls = await asyncio.to_thread(reached, cluster.ready.kubeconfig)
        return await Soak(cluster, node, client, port, tls).run(rounds, begin_after)


def main() -> int:
    """Run on a control plane and a node of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of visits between the looks")
    parser.add_argument("--first", type=int, default=FIRST, help="rounds before the first look")
    options = parser.parse_args()
    # Ended like interrupted: everything that was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    more = [f"--container-log-max-size={LOG_SIZE}"]
    with (
        fresh(cluster_binary(default_cache(), Report())) as cluster,
        running(cluster.ready, cluster.directory, "tests.bench.impatient", more) as node,
    ):
        return min(uvloop.run(soak(cluster, node, options.rounds, options.first)), 1)


if __name__ == "__main__":
    sys.exit(main())
