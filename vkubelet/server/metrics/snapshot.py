"""One look at all that is measured: the machine, the agent, the launcher and every container.

It exists so that each endpoint renders the same values, and so that questions which come at the same time
share one look. It must not know any format.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from providers.base import Usage
from providers.procfs import ProcessUsage, process_usage
from vkubelet.pods.inventory import ContainerEntry, Inventory, PodEntry
from vkubelet.pods.machine import MachineUsage
from vkubelet.server.metrics.rates import Rates
from vkubelet.server.metrics.totals import PodTotals

NODE, AGENT, RUNTIME = "node", "agent", "runtime"


class UsageSource(Protocol):
    """What is asked of the provider."""

    async def usage(self, container_ids: Iterable[str]) -> dict[str, Usage]:
        """See providers.base.Provider."""
        ...

    async def overhead(self) -> Usage | None:
        """See providers.base.Provider."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class PodSnapshot:
    """A pod with those of its containers that run and were measured. `cpu` (ns) is of ended ones too."""

    entry: PodEntry
    containers: tuple[tuple[ContainerEntry, Usage], ...]
    cpu: int


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """What was measured at `at`, in seconds since the epoch.

    `pods` are those that run something. `rates` has the cores in use, in billionths, of each container by its
    id, each pod by its uid, and of NODE, AGENT and RUNTIME, as far as they are known.
    """

    at: float
    machine: MachineUsage
    agent: ProcessUsage
    runtime: Usage | None
    inventory: tuple[PodEntry, ...]
    pods: tuple[PodSnapshot, ...]
    rates: Mapping[str, int]


class Observer:
    """Takes snapshots. It belongs to one event loop."""

    def __init__(
        self, inventory: Inventory, provider: UsageSource, machine: Callable[[], MachineUsage]
    ) -> None:
        """`machine` reads the machine's usage; it blocks and is called in a thread."""
        self._inventory = inventory
        self._provider = provider
        self._machine = machine
        self._rates = Rates()
        self._totals = PodTotals()
        self._looking: asyncio.Task[Snapshot] | None = None

    async def snapshot(self) -> Snapshot:
        """Look, or share the look that is under way. Raises OSError, ProviderError."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="snapshot")
            # Whoever asked may be gone when it fails.
            self._looking.add_done_callback(lambda look: look.cancelled() or look.exception())
        return await asyncio.shield(self._looking)

    async def close(self) -> None:
        """End the look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look(self) -> Snapshot:
        entries = self._inventory.pods()
        running = [container.id for entry in entries for container in entry.containers if container.running]
        at = time.time()
        usages = await self._provider.usage(running)
        runtime = await self._provider.overhead()
        machine = await asyncio.to_thread(self._machine)
        agent = await asyncio.to_thread(process_usage, os.getpid())
        if agent is None:
            raise ProcessLookupError("this process does not find itself")
        pods = []
        for entry in entries:
            found = tuple(
                (container, usages[container.id]) for container in entry.containers if container.id in usages
            )
            uid = entry.pod.metadata.uid
            cpu = self._totals.total(uid, {container.id: usage.cpu for container, usage in found})
            if found:
                pods.append(PodSnapshot(entry, found, cpu))
        self._totals.keep(entry.pod.metadata.uid for entry in entries)
        return Snapshot(
            at,
            machine,
            agent,
            runtime,
            tuple(entries),
            tuple(pods),
            self._grown(at, machine, agent, runtime, pods),
        )

    def _grown(
        self,
        at: float,
        machine: MachineUsage,
        agent: ProcessUsage,
        runtime: Usage | None,
        pods: Iterable[PodSnapshot],
    ) -> dict[str, int]:
        counters = {NODE: (machine.cpu, machine.measured_at), AGENT: (agent.cpu, at)}
        if runtime is not None:
            counters[RUNTIME] = (runtime.cpu, at)
        for pod in pods:
            counters[pod.entry.pod.metadata.uid] = (pod.cpu, at)
            counters |= {container.id: (usage.cpu, at) for container, usage in pod.containers}
        rates = {name: self._rates.rate(name, value, moment) for name, (value, moment) in counters.items()}
        self._rates.keep(rates)
        return {name: rate for name, rate in rates.items() if rate is not None}
