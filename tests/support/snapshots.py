"""A snapshot of a node made of values, for what is rendered from one."""

from __future__ import annotations

from typing import Any

from providers.base import Usage
from providers.procfs import ProcessUsage
from vkubelet.api.containers import Container, ResourceRequirements
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec, PodStatus
from vkubelet.pods.inventory import ContainerEntry, PodEntry
from vkubelet.pods.machine import FileSystemUsage, MachineUsage
from vkubelet.server.metrics.snapshot import PodSnapshot, Snapshot

MIB = 1024 * 1024
SECOND = 1_000_000_000
AT = 1_700_000_100.25


def usage(**changes: Any) -> Usage:
    values: dict[str, Any] = {
        "cpu": 1_500_000_000,
        "memory": 3 * MIB,
        "working_set": 2 * MIB,
        "rss": MIB,
        "page_faults": 70,
        "major_page_faults": 2,
        "processes": 1,
        "threads": 3,
        "disk": 8192,
        "inodes": 2,
    }
    return Usage(**(values | changes))


def machine(**changes: Any) -> MachineUsage:
    values: dict[str, Any] = {
        "measured_at": AT,
        "booted_at": 1_600_000_000.0,
        "millicores": 2000,
        "cpu": 90 * SECOND,
        "memory_capacity": 1000 * MIB,
        "memory_available": 600 * MIB,
        "memory_used": 500 * MIB,
        "anonymous": 300 * MIB,
        "page_faults": 5000,
        "major_page_faults": 6,
        "swap_capacity": None,
        "swap_used": None,
        "file_system": FileSystemUsage(1000, 700, 250, 100, 60),
        "container_file_system": FileSystemUsage(2000, 1900, 50, 200, 150),
        "log_file_system": FileSystemUsage(3000, 2900, 60, 300, 250),
        "processes": 120,
        "processes_capacity": 4000,
    }
    return MachineUsage(**(values | changes))


def container(name: str = "main", *, running: bool = True, **spec: Any) -> ContainerEntry:
    requirements = ResourceRequirements(limits=spec.pop("limits", None), requests=spec.pop("requests", None))
    return ContainerEntry(
        Container(name=name, image=f"registry.test/{name}:v1", resources=requirements, **spec),
        id=name[0] * 64,
        image_id=f"registry.test/{name}@sha256:1",
        started_at=1_700_000_000 * SECOND + SECOND // 2,
        running=running,
    )


def pod_entry(name: str, *containers: ContainerEntry, phase: str = "Running") -> PodEntry:
    pod = Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"{name}-uid"),
        spec=PodSpec(containers=[entry.spec for entry in containers]),
        status=PodStatus(phase=phase),
    )
    return PodEntry(pod, 1_699_999_999.0, containers)


AGENT = ProcessUsage(7 * SECOND, 40 * MIB, 30 * MIB, MIB, 900, 1, 5, 12345, 10_000, 0.0)


def snapshot(*entries: PodEntry, rates: dict[str, int] | None = None, **changes: Any) -> Snapshot:
    """All running containers of `entries`, each with the same usage."""
    pods = []
    for entry in entries:
        found = tuple((one, usage()) for one in entry.containers if one.running)
        if found:
            pods.append(PodSnapshot(entry, found, sum(used.cpu for _, used in found)))
    values: dict[str, Any] = {
        "at": AT,
        "machine": machine(),
        "agent": AGENT,
        "runtime": usage(cpu=SECOND, disk=None, inodes=None),
        "inventory": entries,
        "pods": tuple(pods),
        "rates": rates or {},
    }
    return Snapshot(**(values | changes))
