"""The Summary API's object, as a pure function of a snapshot.

It exists so that the shape, which is k8s.io/kubelet's stats/v1alpha1, is in one place. Fields that nothing on
this node measures (network, IO pressure, containers' swap) are absent, as the API has it. It must not know
requests.
"""

from __future__ import annotations

from typing import Any

from providers.base import Usage
from providers.disk import DiskUsage
from vkubelet.api.containers import Container
from vkubelet.api.times import rfc3339
from vkubelet.pods.machine import FileSystemUsage, MachineUsage
from vkubelet.pods.observed import SECOND
from vkubelet.pods.resources import limit
from vkubelet.server.metrics.logs import LogSizes
from vkubelet.server.metrics.snapshot import AGENT, NODE, RUNTIME, PodSnapshot, Snapshot

Object = dict[str, Any]


def summary(
    snapshot: Snapshot, node: str, agent_started_at: float, logs: LogSizes | None, images_size: int
) -> Object:
    """The Summary of the node named `node`; without `logs` that of CPU and memory only."""
    return {
        "node": _node(snapshot, node, agent_started_at, images_size, whole=logs is not None),
        "pods": [_pod(snapshot, pod, logs) for pod in snapshot.pods],
    }


def _node(snapshot: Snapshot, name: str, agent_started_at: float, images_size: int, *, whole: bool) -> Object:
    machine = snapshot.machine
    time = rfc3339(machine.measured_at)
    found: Object = {
        "nodeName": name,
        "systemContainers": _system_containers(snapshot, agent_started_at),
        "startTime": rfc3339(machine.booted_at),
        "cpu": _cpu(time, machine.cpu, snapshot.rates.get(NODE)),
        "memory": {
            "time": time,
            "availableBytes": machine.memory_available,
            "usageBytes": machine.memory_used,
            "workingSetBytes": machine.working_set,
            "rssBytes": machine.anonymous,
            "pageFaults": machine.page_faults,
            "majorPageFaults": machine.major_page_faults,
        },
    }
    if machine.swap_capacity is not None and machine.swap_used is not None:
        available = machine.swap_capacity - machine.swap_used
        found["swap"] = {"time": time, "swapAvailableBytes": available, "swapUsageBytes": machine.swap_used}
    if whole:
        found["fs"] = _file_system(time, machine.file_system)
        found["runtime"] = _runtime(time, machine, snapshot, images_size)
        found["rlimit"] = {"time": time, "maxpid": machine.processes_capacity, "curproc": machine.processes}
    return found


def _runtime(time: str, machine: MachineUsage, snapshot: Snapshot, images_size: int) -> Object:
    disks = [usage.disk or 0 for pod in snapshot.pods for _, usage in pod.containers]
    return {
        "imageFs": _part(time, machine.file_system, images_size, None),
        "containerFs": _part(time, machine.container_file_system, sum(disks), None),
    }


def _system_containers(snapshot: Snapshot, agent_started_at: float) -> list[Object]:
    """The agent stands for the kubelet, the provider's own processes for the container runtime.

    All of them are looked at since the agent has started.
    """
    time, agent, runtime = rfc3339(snapshot.at), snapshot.agent, snapshot.runtime
    started = rfc3339(agent_started_at)
    found = [
        {
            "name": "kubelet",
            "startTime": started,
            "cpu": _cpu(time, agent.cpu, snapshot.rates.get(AGENT)),
            "memory": {
                "time": time,
                "usageBytes": agent.memory,
                "workingSetBytes": agent.anonymous + agent.shared,
                "rssBytes": agent.anonymous,
                "pageFaults": agent.page_faults,
                "majorPageFaults": agent.major_page_faults,
            },
        },
    ]
    usages = [usage for pod in snapshot.pods for _, usage in pod.containers]
    if runtime is not None:
        cpu = _cpu(time, runtime.cpu, snapshot.rates.get(RUNTIME))
        found.append(
            {"name": "runtime", "startTime": started, "cpu": cpu, "memory": _memory(time, [runtime])}
        )
    pods = _cpu(time, sum(pod.cpu for pod in snapshot.pods), None)
    found.append({"name": "pods", "startTime": started, "cpu": pods, "memory": _memory(time, usages)})
    return found


def _pod(snapshot: Snapshot, pod: PodSnapshot, logs: LogSizes | None) -> Object:
    meta, time = pod.entry.pod.metadata, rfc3339(snapshot.at)
    usages = [usage for _, usage in pod.containers]
    found: Object = {
        "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "startTime": rfc3339(pod.entry.started_at),
        "containers": [],
        "cpu": _cpu(time, pod.cpu, snapshot.rates.get(meta.uid)),
        "memory": _memory(time, usages),
    }
    used, inodes = 0, 0
    for container, usage in pod.containers:
        one: Object = {
            "name": container.spec.name,
            "startTime": rfc3339(container.started_at / SECOND),
            "cpu": _cpu(time, usage.cpu, snapshot.rates.get(container.id)),
            "memory": _memory(time, [usage], container.spec),
        }
        if logs is not None:
            log = logs.get((meta.uid, container.spec.name), DiskUsage(0, 0))
            machine = snapshot.machine
            one["rootfs"] = _part(time, machine.container_file_system, usage.disk, usage.inodes)
            one["logs"] = _part(time, machine.log_file_system, log.size, log.inodes)
            used += log.size + (usage.disk or 0)
            inodes += log.inodes + (usage.inodes or 0)
        found["containers"].append(one)
    if logs is not None:
        found["ephemeral-storage"] = _part(time, snapshot.machine.file_system, used, inodes)
        found["process_stats"] = {"process_count": sum(usage.processes for usage in usages)}
    return found


def _cpu(time: str, total: int, rate: int | None) -> Object:
    found: Object = {"time": time}
    if rate is not None:
        found["usageNanoCores"] = rate
    return found | {"usageCoreNanoSeconds": total}


def _memory(time: str, usages: list[Usage], spec: Container | None = None) -> Object:
    """Of one container, or of many together; the limit in the one's `spec` tells what is left."""
    working_set = sum(usage.working_set for usage in usages)
    found: Object = {"time": time}
    most = limit(spec, "memory") if spec is not None else None
    if most is not None:
        found["availableBytes"] = max(int(most) - working_set, 0)
    return found | {
        "usageBytes": sum(usage.memory for usage in usages),
        "workingSetBytes": working_set,
        "rssBytes": sum(usage.rss for usage in usages),
        "pageFaults": sum(usage.page_faults for usage in usages),
        "majorPageFaults": sum(usage.major_page_faults for usage in usages),
    }


def _file_system(time: str, found: FileSystemUsage) -> Object:
    """A whole file system."""
    return _part(time, found, found.used, found.inodes - found.inodes_free)


def _part(time: str, found: FileSystemUsage, used: int | None, inodes_used: int | None) -> Object:
    """What something takes of a file system; None is not known (yet)."""
    part: Object = {
        "time": time,
        "availableBytes": found.available,
        "capacityBytes": found.capacity,
        "inodesFree": found.inodes_free,
        "inodes": found.inodes,
    }
    if used is not None:
        part["usedBytes"] = used
    if inodes_used is not None:
        part["inodesUsed"] = inodes_used
    return part
