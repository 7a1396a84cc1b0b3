"""What a guest with limits finds where Linux has it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from providers.base import Group, Preopen
from providers.wasmtime import kernelfiles

from .test_spec import spec_with

MIB = 1024 * 1024
LIMITS = {"memory_limit": 64 * MIB, "cpu_limit": 250, "cpu_request": 100}
V1 = {"cpu": 1, "memory": 1, "pids": 1}
V2 = {"cpu": 2, "memory": 2, "pids": 2}


@pytest.mark.parametrize(
    ("versions", "fields", "expected"),
    [
        (
            V2,
            LIMITS,
            {"memory.max": str(64 * MIB), "cpu.max": "25000 100000", "cpu.weight": "4", "pids.max": "max"},
        ),
        (
            V1,
            LIMITS,
            {
                "memory/memory.limit_in_bytes": str(64 * MIB),
                "cpu/cpu.cfs_quota_us": "25000",
                "cpu/cpu.cfs_period_us": "100000",
                "cpu/cpu.shares": "102",
                "pids/pids.max": "max",
            },
        ),
        (V1, {"cpu_limit": 250}, {"memory/memory.limit_in_bytes": "9223372036854771712"}),
        (V1, {"memory_limit": MIB}, {"cpu/cpu.shares": "1024", "cpu/cpu.cfs_quota_us": "-1"}),
        (V2, {"memory_limit": MIB}, {"cpu.weight": "100", "cpu.max": "max 100000"}),
        (V2, {"group": Group("pod", 5 * MIB)}, {"memory.max": "max", "cpu.weight": "1"}),
        ({"cpu": 1, "memory": 2}, LIMITS, {"cpu/cpu.shares": "102", "memory.max": str(64 * MIB)}),
    ],
)
def test_its_cgroup(versions: dict[str, int], fields: dict[str, Any], expected: dict[str, str]) -> None:
    found = kernelfiles.contents(spec_with(**fields), versions)
    assert {name: found[f"cgroup/{name}"] for name in expected} == {
        name: f"{text}\n" for name, text in expected.items()
    }


def test_what_is_not_enforced_is_not_told() -> None:
    found = kernelfiles.contents(spec_with(**LIMITS), {})
    assert found["cgroup/memory.max"] == f"{64 * MIB}\n", "linear memory has a limit anyway"
    assert not [name for name in found if "cpu" in name or "pids" in name]


def test_the_kernels_readiness_to_kill() -> None:
    assert "proc/1/oom_score_adj" not in kernelfiles.contents(spec_with(**LIMITS), V2)
    found = kernelfiles.contents(spec_with(oom_score_adj=-997, **LIMITS), V2)
    assert found["proc/1/oom_score_adj"] == "-997\n"


def test_mounts() -> None:
    volumes = (Preopen(Path("/h"), "/a b"), Preopen(Path("/i"), "/c", read_only=True))
    spec = spec_with(preopens=volumes, read_only_root=True)
    own = "wasi / wasi ro 0 0\nwasi /a\\040b wasi rw 0 0\nwasi /c wasi ro 0 0\n"
    assert kernelfiles.contents(spec, V2)["proc/1/mounts"] == (
        f"{own}cgroup2 /sys/fs/cgroup cgroup2 ro 0 0\n"
    )
    assert kernelfiles.contents(spec, {"memory": 1, "cpu": 1})["proc/1/mounts"] == (
        f"{own}cgroup /sys/fs/cgroup/memory cgroup ro,memory 0 0\n"
        "cgroup /sys/fs/cgroup/cpu cgroup ro,cpu 0 0\n"
    )


@pytest.mark.parametrize(
    ("mounted", "shown"),
    [
        ((), ["/sys/fs/cgroup", "/proc"]),
        (("/data", "/sysfs", "/proc2"), ["/sys/fs/cgroup", "/proc"]),
        (("/proc/acpi",), ["/sys/fs/cgroup", "/proc"]),
        (("/proc",), ["/sys/fs/cgroup"]),
        (("/sys",), ["/proc"]),
        (("/sys/fs/cgroup/", "/proc/"), []),
    ],
)
def test_what_a_pod_mounts_there_is_its_own(mounted: tuple[str, ...], shown: list[str]) -> None:
    spec = spec_with(preopens=tuple(Preopen(Path("/h"), guest) for guest in mounted))
    found = kernelfiles.preopens(Path("/k"), spec)
    assert [preopen.guest for preopen in found] == shown
    assert all(preopen.read_only for preopen in found)


def test_files_are_there_for_everybody_and_change(tmp_path: Path) -> None:
    directory = tmp_path / "kernel"
    kernelfiles.place(directory, {"cgroup/cpu/cpu.shares": "1\n", "proc/1/mounts": "m\n"})
    kernelfiles.place(directory, {"cgroup/cpu/cpu.shares": "2\n", "proc/1/mounts": "m\n"})
    assert (directory / "cgroup/cpu/cpu.shares").read_text() == "2\n"
    assert (directory / "proc/mounts").read_text() == "m\n"
    assert (directory / "proc/self/mounts").read_text() == "m\n"
    for path in (directory, *directory.rglob("*")):
        wanted = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
        assert path.stat().st_mode & wanted == wanted
    assert not list(directory.rglob("*.new"))
