"""Cgroups: the arithmetic, where they are made, and what becomes of them, on a kernel that is plain files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from cgroup_kernel import Kernel
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Group, ProviderError
from providers.wasmtime import cgroupfs, cgroups, hierarchies
from providers.wasmtime.cgroupfs import OVERHEAD, Limits, Setting
from providers.wasmtime.files import CorruptFileError

from .test_spec import spec_with

MIB = 1024 * 1024
NAME = "vkubelet-test"
SOME = Limits(64 * MIB, 250, 100)
NONE = Limits(None, None, None)


@pytest.mark.parametrize(
    ("millicores", "shares", "weight", "quota"),
    [
        (0, 2, 1, 1000),
        (1, 2, 1, 1000),
        (10, 10, 1, 1000),
        (100, 102, 4, 10_000),
        (250, 256, 10, 25_000),
        (1000, 1024, 39, 100_000),
        (2500, 2560, 98, 250_000),
        (256_000, 262_144, 10_000, 25_600_000),
        (10**9, 262_144, 10_000, 10**11),
    ],
)
def test_processor_time_as_the_kubelet_counts_it(
    millicores: int, shares: int, weight: int, quota: int
) -> None:
    assert cgroupfs.shares(millicores) == shares
    assert cgroupfs.weight(millicores) == weight
    assert cgroupfs.quota(millicores) == quota


@given(millicores=st.integers(0, 10**12))
def test_no_request_is_out_of_bounds(millicores: int) -> None:
    assert 2 <= cgroupfs.shares(millicores) <= 262_144
    assert 1 <= cgroupfs.weight(millicores) <= 10_000
    assert cgroupfs.quota(millicores) >= 1000


@pytest.mark.parametrize(
    ("version", "controller", "limits", "told"),
    [
        (1, "pids", SOME, {}),
        (1, "memory", SOME, {"memory.limit_in_bytes": str(64 * MIB + OVERHEAD)}),
        (1, "memory", NONE, {"memory.limit_in_bytes": "-1"}),
        (
            2,
            "memory",
            SOME,
            {"memory.max": str(64 * MIB + OVERHEAD), "memory.oom.group": "1", "memory.swap.max": "0"},
        ),
        (2, "memory", NONE, {"memory.max": "max", "memory.oom.group": "1", "memory.swap.max": "max"}),
        (
            1,
            "cpu",
            SOME,
            {"cpu.shares": "102", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "25000"},
        ),
        (1, "cpu", NONE, {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1"}),
        (2, "cpu", SOME, {"cpu.weight": "4", "cpu.max": "25000 100000"}),
        (2, "cpu", NONE, {"cpu.max": "max 100000"}),
        (2, "cpu", Limits(None, None, 0), {"cpu.weight": "1", "cpu.max": "max 100000"}),
    ],
)
def test_what_a_controller_is_told(
    version: int, controller: str, limits: Limits, told: dict[str, str]
) -> None:
    found = cgroupfs.settings(version, controller, limits)
    assert {setting.file: setting.value for setting in found} == told


def test_a_spec_that_says_nothing_has_no_limits() -> None:
    assert Limits.of(spec_with()) is None
    assert Limits.of(spec_with(cpu_request=0)) == Limits(None, None, 0)
    assert Limits.of(spec_with(memory_limit=5, cpu_limit=6)) == Limits(5, 6, None)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
        ("low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 1\n", 1),
        ("oom_kill_disable 0\nunder_oom 0\n", 0),
        ("", 0),
    ],
)
def test_kills_are_counted(text: str, count: int) -> None:
    assert cgroupfs.oom_kills(text) == count


def test_a_mount_in_a_container_shows_its_part_only() -> None:
    mountinfo = (
        "1 0 0:1 /docker/abc /sys/fs/cgroup/cpu\\040time ro,nosuid - cgroup cgroup rw,cpuacct,cpu\n"
        "2 0 0:2 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
        "3 0 0:3 / /sys/fs/cgroup/unified rw shared:1 - cgroup2 cgroup2 rw\n"
        "4 0 0:4 / /tmp rw - tmpfs tmpfs rw\n"
        "5 0 0:5 /other /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
    )
    membership = "3:cpuacct,cpu:/docker/abc/node\n2:pids:/docker/abc\n1:name=systemd:/\n0::/a/b\n"
    time, unified, pids = cgroupfs.mounted(mountinfo, membership)
    assert (time.version, time.controllers) == (1, frozenset({"cpu"}))
    assert (time.top, time.own) == (Path("/sys/fs/cgroup/cpu time"), Path("/sys/fs/cgroup/cpu time/node"))
    assert (unified.version, unified.own) == (2, Path("/sys/fs/cgroup/unified/a/b"))
    assert (pids.controllers, pids.own) == (frozenset({"pids"}), None)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel whose processes run in /service/node."""
    made = Kernel(tmp_path / "sys", "/service/node")

    def make(path: Path) -> None:
        if not path.exists():
            made.make(path)

    monkeypatch.setattr(hierarchies, "make", make)
    monkeypatch.setattr(hierarchies, "remove", made.remove)
    monkeypatch.setattr(hierarchies, "write", made.write)
    return made


def found(kernel: Kernel) -> tuple[cgroups.Cgroups, dict[Path, tuple[str, ...]], str]:
    result = hierarchies.find(NAME, kernel.proc)
    assert hierarchies.Found.decode(result.encode()) == result
    bases = {hierarchy.base: hierarchy.controllers for hierarchy in result.hierarchies}
    return cgroups.Cgroups(result.hierarchies), bases, result.missing


def test_version_1_has_a_hierarchy_for_each(kernel: Kernel) -> None:
    tops = [kernel.mount(1, name) for name in ("cpu", "memory", "pids")]
    _, bases, missing = found(kernel)
    assert bases == {top / "service/node" / NAME: (top.name,) for top in tops}
    assert missing == ""
    shares = (tops[0] / "service/node" / NAME / "cpu.shares").read_text()
    assert shares == str(1024 * (os.cpu_count() or 1))


def test_what_is_delegated_comes_first(kernel: Kernel) -> None:
    top = kernel.mount(2, "cpu", "memory", "pids")
    kernel.delegate(top / "service")
    _, bases, missing = found(kernel)
    assert bases == {top / "service" / NAME: ("cpu", "memory", "pids")}
    assert missing == ""


def test_a_cgroup_with_processes_gives_none_away(kernel: Kernel) -> None:
    top = kernel.mount(2, "cpu", "memory", "pids")
    _, bases, _ = found(kernel)
    assert bases == {top / NAME: ("cpu", "memory", "pids")}
    assert not (top / "service/node" / NAME).exists()


def test_where_nothing_may_be_made(kernel: Kernel) -> None:
    top = kernel.mount(2, "cpu", "memory", "pids")
    kernel.forbid(top)
    _, bases, missing = found(kernel)
    assert bases == {}
    assert missing == (
        "no cgroup with cpu and memory and pids ("
        f"{top}/service/node/cgroup.subtree_control: Device or resource busy; "
        f"{top}/{NAME}: Permission denied)"
    )


def test_where_only_some_are_delegated(kernel: Kernel) -> None:
    top = kernel.mount(2, "memory", "pids")
    _, bases, missing = found(kernel)
    assert bases == {top / NAME: ("memory", "pids")}
    assert missing == "no cgroup with cpu (neither mounted nor delegated)"


def test_both_versions_at_once(kernel: Kernel) -> None:
    cpu = kernel.mount(1, "cpu")
    unified = kernel.mount(2, "memory", "pids")
    made, bases, missing = found(kernel)
    assert bases == {cpu / "service/node" / NAME: ("cpu",), unified / NAME: ("memory", "pids")}
    assert missing == ""
    ours = cpu / "service/node" / NAME
    assert made.joining("id", NONE) == (
        (ours / "id/tasks", unified / NAME / "id/cgroup.procs"),
        unified / NAME / "id",
    )
    assert made.joining("id", None) == ((), None)


def test_those_without_limits_share_what_is_left(kernel: Kernel) -> None:
    top = kernel.mount(2, "cpu", "memory", "pids")
    made, _, _ = found(kernel)
    made.open()
    shared = top / NAME / "unbounded"
    assert (shared / "cpu.weight").read_text() == "1"
    assert made.joining("id", None) == ((shared / "cgroup.procs",), shared)
    made.sweep(set())
    assert shared.exists()
    made.close()
    assert not (top / NAME).exists()


@pytest.mark.parametrize(("version", "file"), [(1, "cpu.shares"), (2, "cpu.weight")])
def test_all_together_weigh_what_the_machine_has(kernel: Kernel, version: int, file: str) -> None:
    top = kernel.mount(version, "cpu")
    made, bases, _ = found(kernel)
    made.open()
    (base,) = bases
    cores = 1000 * (os.cpu_count() or 1)
    wanted = cgroupfs.shares(cores) if version == 1 else cgroupfs.weight(cores)
    assert base.is_relative_to(top)
    assert (base / file).read_text() == str(wanted)


def test_no_cgroups_at_all(kernel: Kernel) -> None:
    _, bases, missing = found(kernel)
    assert (bases, missing) == ({}, "no cgroup with cpu and memory and pids (neither mounted nor delegated)")
    result = hierarchies.find(NAME, kernel.root / "nowhere")
    assert result.hierarchies == ()
    assert result.missing.startswith("no cgroups: ")


@pytest.mark.parametrize(
    "junk", [b"", b"[]", b"{}", b'{"hierarchies": 1}', b'{"hierarchies": [[1]]}', b"\xff"]
)
def test_what_was_kept_and_cannot_be_read(junk: bytes) -> None:
    with pytest.raises(CorruptFileError):
        hierarchies.Found.decode(junk)


def test_a_life(kernel: Kernel) -> None:
    top = kernel.mount(2, "cpu", "memory", "pids")
    made, _, _ = found(kernel)
    made.create("one", SOME)
    directory = top / NAME / "one"
    assert (directory / "cpu.max").read_text() == "25000 100000"
    assert (directory / "memory.max").read_text() == str(64 * MIB + OVERHEAD)
    assert made.oom_kills("one") == 0
    made.update("one", Limits(128 * MIB, None, 200), 4711)
    assert (directory / "cpu.max").read_text() == "max 100000"
    assert (directory / "cpu.weight").read_text() == "8"
    assert (directory / "memory.max").read_text() == str(128 * MIB + OVERHEAD)
    assert (directory / "cgroup.procs").read_text() == ""
    (directory / "memory.events").write_text("oom_kill 2\n")
    assert made.oom_kills("one") == 2
    made.remove("one")
    made.remove("one")
    assert not directory.exists()
    assert made.oom_kills("one") == 0
    made.close()
    assert not (top / NAME).exists()


def test_less_memory_than_is_used_is_refused(kernel: Kernel) -> None:
    top = kernel.mount(2, "cpu", "memory", "pids")
    made, _, _ = found(kernel)
    made.create("one", SOME)
    (top / NAME / "one" / "memory.current").write_text(str(90 * MIB))
    with pytest.raises(ProviderError, match=f"memory.max: {90 * MIB} bytes are in use"):
        made.update("one", Limits(32 * MIB, None, None), 4711)
    assert (top / NAME / "one" / "memory.max").read_text() == str(64 * MIB + OVERHEAD)


def test_limits_that_come_later_find_the_process(kernel: Kernel) -> None:
    tops = [kernel.mount(1, name) for name in ("cpu", "memory", "pids")]
    made, _, _ = found(kernel)
    made.update("one", SOME, 4711)
    for top in tops:
        assert (top / "service/node" / NAME / "one" / "cgroup.procs").read_text() == "4711"


def test_what_the_kernel_has_not_is_left_out(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    top = kernel.mount(2, "cpu", "memory", "pids")
    kernel.lack("memory.swap.max", "memory.oom.group")
    made, _, _ = found(kernel)
    made.create("one", SOME)
    assert not (top / NAME / "one" / "memory.swap.max").exists()
    kernel.lack("cpu.max")
    with pytest.raises(ProviderError, match=r"making the container's cgroup: .*cpu.max"):
        made.create("two", SOME)
    assert not (top / NAME / "two").exists()


def test_one_with_processes_is_removed_with_the_next(kernel: Kernel) -> None:
    top = kernel.mount(2, "cpu", "memory", "pids")
    made, _, _ = found(kernel)
    for name in ("one", "two", "three"):
        made.create(name, SOME)
    (top / NAME / "one" / "cgroup.procs").write_text("4711\n")
    made.remove("one")
    made.remove("two")
    assert (top / NAME / "one").exists()
    (top / NAME / "one" / "cgroup.procs").write_text("")
    made.remove("three")
    assert not (top / NAME / "one").exists()


def test_leftovers_are_swept(kernel: Kernel) -> None:
    top = kernel.mount(2, "cpu", "memory", "pids")
    made, _, _ = found(kernel)
    made.open()
    for name in ("kept", "left"):
        made.create(name, SOME)
    again, _, _ = found(kernel)
    again.sweep({"kept"})
    assert (top / NAME / "kept").exists()
    assert not (top / NAME / "left").exists()
    again.close()
    assert (top / NAME / "kept").exists()


def test_settings_are_told_in_order() -> None:
    assert cgroupfs.settings(1, "cpu", SOME)[1:] == (
        Setting("cpu.cfs_period_us", "100000"),
        Setting("cpu.cfs_quota_us", "25000"),
    )


GROUP = Group("pod1", 100 * MIB, 500, 300, process_limit=50)


@pytest.mark.parametrize(
    ("version", "controller", "told"),
    [
        (1, "memory", {"memory.limit_in_bytes": str(100 * MIB)}),
        (2, "memory", {"memory.max": str(100 * MIB)}),
        (1, "cpu", {"cpu.shares": "307", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}),
        (2, "cpu", {"cpu.weight": "12", "cpu.max": "50000 100000"}),
        (1, "pids", {"pids.max": "50"}),
        (2, "pids", {"pids.max": "50"}),
    ],
)
def test_what_a_controller_is_told_of_a_group(version: int, controller: str, told: dict[str, str]) -> None:
    found = cgroupfs.group_settings(version, controller, GROUP)
    assert {setting.file: setting.value for setting in found} == told


def test_a_group_has_room_for_as_many_runtimes_as_it_says() -> None:
    (setting,) = cgroupfs.group_settings(2, "memory", Group("pod1", 100 * MIB, runtimes=3))
    assert setting.value == str(100 * MIB + 3 * cgroupfs.OVERHEAD)
    (setting,) = cgroupfs.group_settings(2, "memory", Group("pod1", runtimes=3))
    assert setting.value == "max"
    assert cgroupfs.group_settings(2, "pids", Group("pod1")) == (Setting("pids.max", "max"),)


def test_one_in_a_group_has_its_own_share() -> None:
    assert Limits.of(spec_with(group=GROUP)) == Limits(None, None, 0)
    assert Limits.of(spec_with(group=GROUP, cpu_request=7)) == Limits(None, None, 7)


def test_a_group_is_there_for_as_long_as_something_is_in_it(kernel: Kernel) -> None:
    top = kernel.mount(2, "cpu", "memory", "pids")
    made, _, _ = found(kernel)
    made.create("alone", SOME)
    for name in ("one", "two"):
        made.create(name, SOME, GROUP)
    group = top / NAME / "pod1"
    assert (group / "memory.max").read_text() == str(100 * MIB)
    assert (group / "cpu.weight").read_text() == "12"
    assert (group / "memory.oom.group").read_text() == "0", "one of them has to go, not all"
    assert (group / "one" / "memory.max").read_text() == str(64 * MIB + OVERHEAD)
    assert made.joining("one", SOME, GROUP) == ((group / "one/cgroup.procs",), group / "one")
    (group / "one" / "memory.events").write_text("oom_kill 1\n")
    assert made.oom_kills("one") == 1
    made.update("two", Limits(None, None, 200), 4711)
    assert (group / "two" / "cpu.weight").read_text() == "8"
    made.remove("one")
    assert group.exists()
    made.remove("two")
    assert not group.exists()
    assert (top / NAME / "alone").exists()


def test_a_group_is_bounded_otherwise(kernel: Kernel) -> None:
    top = kernel.mount(2, "cpu", "memory", "pids")
    made, _, _ = found(kernel)
    made.update_group(GROUP)
    group = top / NAME / "pod1"
    assert not group.exists(), "nothing is in it"
    made.create("one", SOME, GROUP)
    made.update_group(Group("pod1", 200 * MIB))
    assert (group / "memory.max").read_text() == str(200 * MIB)
    assert (group / "cpu.max").read_text() == "max 100000"
    (group / "memory.current").write_text(str(90 * MIB))
    with pytest.raises(ProviderError, match=f"changing the group's cgroup: .* {90 * MIB} bytes are in use"):
        made.update_group(Group("pod1", 80 * MIB))
    assert (group / "memory.max").read_text() == str(200 * MIB)


def test_groups_of_an_earlier_agent(kernel: Kernel) -> None:
    tops = [kernel.mount(1, name) for name in ("cpu", "memory", "pids")]
    made, _, _ = found(kernel)
    for name, group in (("kept", "pod1"), ("left", "pod1"), ("last", "pod2")):
        made.create(name, SOME, Group(group))
    kernel.make(tops[0] / "service/node" / NAME / "pod3")  # it was killed between the one and the other
    again, _, _ = found(kernel)
    again.sweep({"kept"})
    for top in tops:
        base = top / "service/node" / NAME
        assert {path.name for path in base.glob("*/")} == {"pod1"}
        assert {path.name for path in (base / "pod1").glob("*/")} == {"kept"}
    again.update("kept", Limits(None, 1000, None), 1)
    assert (tops[0] / "service/node" / NAME / "pod1/kept/cpu.cfs_quota_us").read_text() == "100000"
    again.remove("kept")
    assert not (tops[0] / "service/node" / NAME / "pod1").exists()


def test_version_1_lets_none_have_more_than_its_group(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = kernel.mount(1, "cpu")
    made, _, _ = found(kernel)
    made.create("big", Limits(None, 900, None), Group("pod1", None, 1000))
    made.create("small", Limits(None, 100, None), Group("pod1", None, 1000))
    group = top / "service/node" / NAME / "pod1"
    write = kernel.write

    def as_version_1(path: Path, value: str) -> None:
        if path == group / "cpu.cfs_quota_us":
            quotas = [int((child / path.name).read_text()) for child in group.glob("*/")]
            if max(quotas) > int(value):
                raise OSError(errno.EINVAL, "Invalid argument", str(path))
        write(path, value)

    monkeypatch.setattr(hierarchies, "write", as_version_1)
    made.update_group(Group("pod1", None, 500))
    quotas = {path.parent.name: path.read_text() for path in group.glob("**/cpu.cfs_quota_us")}
    assert quotas == {"pod1": "50000", "big": "50000", "small": "10000"}
