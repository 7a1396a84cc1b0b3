"""Visits to vkubelet and to kwok in turn: same client, same machine, a fresh control plane for each.

The order changes from round to round, so that what drifts on the machine hits both; medians are quoted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console

from tests.bench import idle, memory, pod_start
from tests.bench.client import watching
from tests.bench.cluster import REST, Cluster, fresh, rest
from tests.bench.kwok import Kwok
from tests.bench.kwok_program import Program, program
from tests.bench.node import Vkubelet
from tests.bench.node_figures import Figures, medians, show
from tests.bench.node_peer import Peer
from vkubelet.dev import process
from vkubelet.dev.build import cluster_binary
from vkubelet.dev.layout import DevError
from vkubelet.dev.report import Report

NAMES = ("pod_start", "memory", "idle")
WARM_UP = 20
"""Pods before the clock starts: the module is pulled and compiled, connections are open."""
WIDTH = 110
"""Columns that no table is folded below, as in a pipe."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured. Times in seconds."""

    rounds: int = 3
    rate_pods: int = 100
    pods: int = 500
    seconds: float = 30


QUICK = Sizes(rounds=1, rate_pods=25, pods=100, seconds=10)


def run(wanted: Collection[str], sizes: Sizes, cache: Path, only: str | None = None) -> None:
    """Measure and print what is `wanted` of NAMES, of both peers or of `only` one."""
    report = Report()
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    binary = cluster_binary(cache, report)
    kwok = program(cache, report)
    visits: dict[str, list[Figures]] = {Vkubelet.name: [], Kwok.name: []}
    for number in range(sizes.rounds):
        for name in sorted(visits, reverse=number % 2 == 0):
            if only in (None, name):
                report.step(f"Round {number + 1} of {sizes.rounds}: {name}")
                visits[name].append(_visit(name, binary, kwok, wanted, sizes, report))
                report.step("  " + ", ".join(f"{key} {value:.4g}" for key, value in visits[name][-1].items()))
    ours, peer = medians(visits[Vkubelet.name]), medians(visits[Kwok.name])
    console.print(f"\nMedians of {sizes.rounds} round(s). kwok runs nothing: it is the floor.\n")
    tables = {
        "pod_start": (
            (pod_start.RATE_TITLE, pod_start.RATE_ROWS),
            (pod_start.BURST_TITLE, pod_start.BURST_ROWS),
        ),
        "memory": ((memory.TITLE, memory.ROWS),),
        "idle": ((idle.TITLE, idle.ROWS),),
    }
    for name in wanted:
        for title, rows in tables[name]:
            show(console, title.format(**vars(sizes)), rows, ours, peer)


def _visit(
    name: str, binary: Path, kwok: Program, wanted: Collection[str], sizes: Sizes, report: Report
) -> Figures:
    with fresh(binary) as cluster:
        peer: Peer = (
            Kwok(kwok, cluster.ready, cluster.directory)
            if name == Kwok.name
            else Vkubelet(cluster.ready, cluster.directory)
        )
        try:
            peer.start()
            return uvloop.run(_measure(peer, cluster, wanted, sizes, report))
        except DevError:
            raise  # It has the log's end in its text.
        except Exception:
            report.step(f"The last lines of {name}'s log:\n{process.tail(peer.log)}")
            raise
        finally:
            peer.stop()


async def _measure(
    peer: Peer, cluster: Cluster, wanted: Collection[str], sizes: Sizes, report: Report
) -> Figures:
    control = cluster.processes()
    found: Figures = {}
    async with watching(cluster.ready.kubeconfig, peer.node, cluster.image) as client:
        await client.create([f"warm-{number}" for number in range(WARM_UP)])
        await client.delete_all()
        await client.settled()
        busy = await rest()
        if busy > REST:
            report.step(
                f"  This machine is not at rest ({busy:.0%} busy): trust ratios little, numbers less."
            )
        if "pod_start" in wanted:
            found |= await pod_start.at_a_rate(client, sizes.rate_pods)
            await client.settled()
        bare = memory.Memory(control, peer.processes(), peer.containers())
        found |= await pod_start.burst(client, sizes.pods, peer, control)
        if "memory" in wanted or "idle" in wanted:
            await client.settled()
        if "memory" in wanted:
            full = memory.Memory(control, peer.processes(), peer.containers())
            found |= memory.figures(bare, full, sizes.pods)
        if "idle" in wanted:
            found |= await idle.measure(peer.processes(), sizes.seconds)
        await client.delete_all()
    return found
