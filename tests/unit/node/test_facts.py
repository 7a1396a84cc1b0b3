"""What is read of a machine: this one, and others made of files."""

import ipaddress
import os
from pathlib import Path

import pytest

from vkubelet.config import Config, ConfigError
from vkubelet.node import cgroup, facts
from vkubelet.node.facts import Resources

GIB = 1024**3
FILES = {
    "proc/meminfo": "MemTotal:       8388608 kB\nMemAvailable:   4194304 kB\nHugePages_Total:       0\n",
    "proc/self/cgroup": "0::/\n",
    "proc/sys/kernel/random/boot_id": "boot-1\n",
    "proc/sys/kernel/pid_max": "4000\n",
    "proc/sys/kernel/threads-max": "1000\n",
    "proc/loadavg": "0.1 0.2 0.3 2/250 4711\n",
    "etc/machine-id": "machine-1\n",
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian 12"\n',
}


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in {**FILES, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {
    "proc/self/cgroup": "0::/kube/agent\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory pids\n",
    "sys/fs/cgroup/kube/memory.max": f"{2 * GIB}\n",
    "sys/fs/cgroup/kube/memory.current": f"{GIB}\n",
    "sys/fs/cgroup/kube/memory.stat": f"anon 5\ninactive_file {GIB // 4}\n",
    "sys/fs/cgroup/kube/agent/memory.max": "max\n",
    "sys/fs/cgroup/kube/agent/cpu.max": "50000 100000\n",
    "sys/fs/cgroup/kube/cpu.max": "max 100000\n",
    "sys/fs/cgroup/kube/pids.max": "300\n",
}
V1 = {
    "proc/self/cgroup": "3:memory:/box\n2:cpu,cpuacct:/box\n1:pids:/\n0::/\n",
    "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{2 * GIB}\n",
    "sys/fs/cgroup/memory/box/memory.usage_in_bytes": f"{GIB}\n",
    "sys/fs/cgroup/memory/box/memory.stat": f"total_rss 5\ntotal_inactive_file {GIB // 4}\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/pids/pids.max": "300\n",
}


@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
def test_the_tightest_limit_of_all_groups_counts(tmp_path: Path, files: dict[str, str]) -> None:
    root = machine(tmp_path, files)
    assert cgroup.read(root) == cgroup.Limits(
        memory=2 * GIB,
        memory_used=GIB - GIB // 4,
        memory_charged=GIB,
        memory_anonymous=5,
        millicores=500,
        processes=300,
    )
    found = facts.read(Config(root_dir=str(tmp_path), max_pods=7), root)
    assert found.capacity.memory == 2 * GIB
    assert found.capacity.millicores == 500
    assert found.capacity.pods == 7
    left = facts.signals(root)
    assert left.memory_available == GIB + GIB // 4
    assert (left.processes_available, left.processes_capacity) == (50, 300)


def test_without_limits_the_machine_counts(tmp_path: Path) -> None:
    root = machine(tmp_path, {})
    assert cgroup.read(root) == cgroup.Limits()
    found = facts.read(Config(root_dir=str(tmp_path)), root)
    assert found.capacity.memory == 8 * GIB
    assert found.capacity.millicores == len(os.sched_getaffinity(0)) * 1000
    assert (found.machine_id, found.system_uuid, found.boot_id) == ("machine-1", "machine-1", "boot-1")
    assert found.os_image == "Debian 12"
    left = facts.signals(root)
    assert left.memory_available == 4 * GIB
    assert (left.processes_available, left.processes_capacity) == (750, 1000)


def test_this_machine_is_read_for_real(tmp_path: Path) -> None:
    found = facts.read(Config(root_dir=str(tmp_path)))
    filesystem = os.statvfs(tmp_path)
    assert found.capacity.storage == filesystem.f_blocks * filesystem.f_frsize
    assert 0 < found.allocatable.memory < found.capacity.memory
    assert found.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert found.container_runtime_version.startswith("wasmtime://")
    left = facts.signals()
    assert 0 < left.memory_available <= found.capacity.memory
    assert 0 < left.processes_available < left.processes_capacity


def test_allocatable_is_capacity_without_reservations_and_thresholds() -> None:
    capacity = Resources(millicores=4000, memory=4 * GIB, storage=100_000, pods=110)
    config = Config(system_reserved_cpu=0.5, system_reserved_memory=GIB)
    assert facts.allocatable(capacity, config) == Resources(
        millicores=3500, memory=3 * GIB - 100 * 1024**2, storage=87 * 1024, pods=110
    )
    own = Config(system_reserved_memory=GIB, eviction_hard={"nodefs.available": "50Ki"})
    assert facts.allocatable(capacity, own).memory == 3 * GIB, "what is not watched is not kept back"
    assert facts.allocatable(capacity, own).storage == 47 * 1024
    starved = facts.allocatable(Resources(millicores=100, memory=GIB, storage=0, pods=1), config)
    assert (starved.millicores, starved.memory) == (0, 0), "never below nothing"


@pytest.mark.parametrize(
    ("node_ip", "cause"),
    [
        ("nonsense", "not an IP address"),
        ("0.0.0.0", "not an address that"),  # noqa: S104
        ("224.0.0.1", "not an address that"),
        ("203.0.113.7", "not an address of this machine"),
    ],
)
def test_a_node_ip_that_cannot_be(node_ip: str, cause: str) -> None:
    with pytest.raises(ConfigError, match=f"node_ip.*{node_ip}.*{cause}"):
        facts.host_ip(Config(node_ip=node_ip), "https://127.0.0.1:6443")


def test_the_configured_address_is_taken() -> None:
    assert facts.host_ip(Config(node_ip="127.0.0.1"), "https://192.0.2.9") == "127.0.0.1"


@pytest.mark.parametrize("server", ["https://127.0.0.1:6443", "https://localhost:6443", "https://[::1]:6443"])
def test_an_address_is_found_on_the_way_to_the_server(server: str) -> None:
    found = facts.host_ip(Config(), server)
    assert facts.host_ip(Config(node_ip=found), server) == found, "it is an address of this machine"
    assert not ipaddress.ip_address(found).is_unspecified
