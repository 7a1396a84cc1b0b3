"""The Summary API's object of a snapshot."""

from __future__ import annotations

import pytest
from snapshots import AGENT, MIB, SECOND, container, machine, pod_entry, snapshot

from providers.disk import DiskUsage
from vkubelet.server.metrics.summary import summary

TIME = "2023-11-14T22:15:00Z"
MEMORY = {
    "time": TIME,
    "usageBytes": 3 * MIB,
    "workingSetBytes": 2 * MIB,
    "rssBytes": MIB,
    "pageFaults": 70,
    "majorPageFaults": 2,
}
LOGS = {("web-uid", "main"): DiskUsage(4096, 3)}


def test_a_pod_whole() -> None:
    seen = snapshot(pod_entry("web", container()), rates={"web-uid": 20, "m" * 64: 10})
    (pod,) = summary(seen, "here", 0.0, LOGS, 0)["pods"]
    assert pod == {
        "podRef": {"name": "web", "namespace": "default", "uid": "web-uid"},
        "startTime": "2023-11-14T22:13:19Z",
        "containers": [
            {
                "name": "main",
                "startTime": "2023-11-14T22:13:20Z",
                "cpu": {"time": TIME, "usageNanoCores": 10, "usageCoreNanoSeconds": 1_500_000_000},
                "memory": MEMORY,
                "rootfs": {
                    "time": TIME,
                    "availableBytes": 1900,
                    "capacityBytes": 2000,
                    "inodesFree": 150,
                    "inodes": 200,
                    "usedBytes": 8192,
                    "inodesUsed": 2,
                },
                "logs": {
                    "time": TIME,
                    "availableBytes": 2900,
                    "capacityBytes": 3000,
                    "inodesFree": 250,
                    "inodes": 300,
                    "usedBytes": 4096,
                    "inodesUsed": 3,
                },
            }
        ],
        "cpu": {"time": TIME, "usageNanoCores": 20, "usageCoreNanoSeconds": 1_500_000_000},
        "memory": MEMORY,
        "ephemeral-storage": {
            "time": TIME,
            "availableBytes": 700,
            "capacityBytes": 1000,
            "inodesFree": 60,
            "inodes": 100,
            "usedBytes": 12288,
            "inodesUsed": 5,
        },
        "process_stats": {"process_count": 1},
    }


def test_only_cpu_and_memory() -> None:
    found = summary(snapshot(pod_entry("web", container())), "here", 0.0, None, 0)
    assert found["pods"][0].keys() == {"podRef", "startTime", "containers", "cpu", "memory"}
    assert found["pods"][0]["containers"][0].keys() == {"name", "startTime", "cpu", "memory"}
    assert found["node"].keys() == {"nodeName", "systemContainers", "startTime", "cpu", "memory"}


def test_a_rate_that_is_not_known_is_absent() -> None:
    (pod,) = summary(snapshot(pod_entry("web", container())), "here", 0.0, None, 0)["pods"]
    assert pod["cpu"].keys() == {"time", "usageCoreNanoSeconds"}


@pytest.mark.parametrize(
    ("limit", "left"), [("64Mi", 62 * MIB), ("1Mi", 0), ("nonsense", None), (None, None)]
)
def test_what_a_memory_limit_leaves(limit: str | None, left: int | None) -> None:
    limited = container(limits={"memory": limit} if limit else None)
    (pod,) = summary(snapshot(pod_entry("web", limited)), "here", 0.0, None, 0)["pods"]
    assert pod["containers"][0]["memory"].get("availableBytes") == left
    assert "availableBytes" not in pod["memory"]


def test_the_node() -> None:
    seen = snapshot(
        pod_entry("web", container("main"), container("side")),
        rates={"node": 7, "agent": 5},
        machine=machine(swap_capacity=100, swap_used=40),
    )
    node = summary(seen, "here", 1_650_000_000.0, LOGS, 333)["node"]
    assert node["nodeName"] == "here"
    assert node["startTime"] == "2020-09-13T12:26:40Z"
    assert node["cpu"] == {"time": TIME, "usageNanoCores": 7, "usageCoreNanoSeconds": 90 * SECOND}
    assert node["memory"] == {
        "time": TIME,
        "availableBytes": 600 * MIB,
        "usageBytes": 500 * MIB,
        "workingSetBytes": 400 * MIB,
        "rssBytes": 300 * MIB,
        "pageFaults": 5000,
        "majorPageFaults": 6,
    }
    assert node["swap"] == {"time": TIME, "swapAvailableBytes": 60, "swapUsageBytes": 40}
    assert (node["fs"]["usedBytes"], node["fs"]["inodesUsed"]) == (250, 40)
    assert node["runtime"]["imageFs"]["usedBytes"] == 333
    assert node["runtime"]["containerFs"]["usedBytes"] == 2 * 8192
    assert node["rlimit"] == {"time": TIME, "maxpid": 4000, "curproc": 120}


def test_system_containers() -> None:
    seen = snapshot(pod_entry("web", container("main"), container("side")), rates={"agent": 5})
    kubelet, runtime, pods = summary(seen, "here", 1_650_000_000.0, LOGS, 0)["node"]["systemContainers"]
    assert kubelet == {
        "name": "kubelet",
        "startTime": "2022-04-15T05:20:00Z",
        "cpu": {"time": TIME, "usageNanoCores": 5, "usageCoreNanoSeconds": AGENT.cpu},
        "memory": {
            "time": TIME,
            "usageBytes": 40 * MIB,
            "workingSetBytes": 31 * MIB,
            "rssBytes": 30 * MIB,
            "pageFaults": 900,
            "majorPageFaults": 1,
        },
    }
    assert (runtime["name"], runtime["cpu"]["usageCoreNanoSeconds"]) == ("runtime", SECOND)
    assert (pods["name"], pods["cpu"]["usageCoreNanoSeconds"]) == ("pods", 3 * SECOND)
    assert pods["memory"]["workingSetBytes"] == 4 * MIB


def test_without_a_launcher_there_is_no_runtime() -> None:
    found = summary(snapshot(runtime=None), "here", 0.0, None, 0)["node"]["systemContainers"]
    assert [one["name"] for one in found] == ["kubelet", "pods"]


def test_a_pod_that_runs_nothing_is_absent() -> None:
    seen = snapshot(pod_entry("over", container(running=False)), pod_entry("new"))
    assert summary(seen, "here", 0.0, None, 0)["pods"] == []
