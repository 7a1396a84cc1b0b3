"""What bounds a container's processes, as far as this kernel lets us bound them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from waiting import until

from providers.base import ExitReason, Group, InvalidSpecError, ProviderError, Streams
from providers.wasmtime import cgroupfs, cgroups, hierarchies
from providers.wasmtime.cgroupfs import OVERHEAD
from providers.wasmtime.hierarchies import Hierarchy

from .conftest import Node, assemble, guest, log_lines, sleeping
from .test_run import begin, complete, read_until

MIB = 1024 * 1024
PAGE = 65536
LIMIT = 64 * MIB

TWO_MEMORIES = """(module
  (memory $one (export "memory") 1) (memory $two 1)
  (func (export "_start")
    (drop (memory.grow $one (i32.const {pages}))) (drop (memory.grow $two (i32.const {pages})))
    (memory.fill $one (i32.const 0) (i32.const 1) (i32.const {bytes}))
    (memory.fill $two (i32.const 0) (i32.const 1) (i32.const {bytes}))))"""
"""Each memory is within the limit, and both together are not within the cgroup."""


def of_controller(node: Node, controller: str) -> list[Hierarchy]:
    """That of the controller, if this node has it."""
    found = node.provider._confinement._cgroups._hierarchies
    return [hierarchy for hierarchy in found if controller in hierarchy.controllers]


def read(hierarchy: Hierarchy, container_id: str, first: str, second: str) -> str:
    """A file of the container's cgroup: of version 1 the first, of version 2 the second."""
    return (hierarchy.base / container_id / (first if hierarchy.version == 1 else second)).read_text().strip()


def members(hierarchy: Hierarchy, container_id: str) -> set[int]:
    return set(map(int, (hierarchy.base / container_id / "cgroup.procs").read_text().split()))


def session_weight(pid: int) -> str:
    """What the kernel weighs a session by, if it does that at all."""
    group = Path(f"/proc/{pid}/autogroup")
    return group.read_text()[group.read_text().index(" ") :] if group.exists() else ""


async def test_what_asks_for_no_processor_time_gives_way_to_all_that_does(node: Node) -> None:
    (hierarchy,) = of_controller(node, "cpu") or (None,)
    idle, asking = await sleeping(node), await sleeping(node, cpu_request=10)
    assert os.getpriority(os.PRIO_PROCESS, asking.pid) == 0
    if hierarchy is not None and hierarchy.version == 2:
        assert idle.pid in members(hierarchy, cgroups.SHARED)
        return
    assert os.getpriority(os.PRIO_PROCESS, idle.pid) == 10
    if os.geteuid() == 0:  # others may say it ten times a second at most
        assert session_weight(idle.pid) in (" nice 10\n", "")


async def test_what_this_host_enforces_is_known(node: Node) -> None:
    known = node.provider.capabilities()
    assert known.memory == bool(of_controller(node, "memory"))
    assert known.cpu_limit == known.cpu_request == bool(of_controller(node, "cpu"))
    assert known.processes == bool(of_controller(node, "pids"))
    everything = known.identities and known.memory and known.cpu_limit and known.processes
    assert (known.missing == "") == everything


async def test_a_container_is_in_its_cgroup(node: Node) -> None:
    limits = {"memory_limit": LIMIT, "cpu_limit": 1500, "cpu_request": 500}
    state = await sleeping(node, **limits)
    running = await begin(node, "copy", root=node.provider.root(state.id), **limits)
    await running.write(b"text")
    assert await read_until(running.stdout, b"text") == b"text"
    for hierarchy in of_controller(node, "memory"):
        bound = int(read(hierarchy, state.id, "memory.limit_in_bytes", "memory.max"))
        assert bound == LIMIT + OVERHEAD
    for hierarchy in of_controller(node, "cpu"):
        assert read(hierarchy, state.id, "cpu.cfs_quota_us", "cpu.max").split()[0] == "150000"
        assert read(hierarchy, state.id, "cpu.shares", "cpu.weight") == (
            "512" if hierarchy.version == 1 else "20"
        )
    for hierarchy in node.provider._confinement._cgroups._hierarchies:
        assert members(hierarchy, state.id) == {state.pid, running.pid}
    running.close_stdin()
    assert (await running.task).code == 0
    running.close()
    await node.provider.kill(state.id)
    await node.next_end()
    await gone(node, state.id)


async def test_without_limits_there_is_one_for_all(node: Node) -> None:
    states = [await sleeping(node) for _ in range(2)]
    for hierarchy in of_controller(node, "cpu"):
        if hierarchy.version == 2:
            assert members(hierarchy, cgroups.SHARED) == {state.pid for state in states}
        assert not (hierarchy.base / states[0].id).exists()


async def test_more_than_all_of_it_may_have_is_out_of_memory(node: Node) -> None:
    text = TWO_MEMORIES.format(pages=LIMIT // PAGE - 1, bytes=LIMIT - MIB)
    state = await node.start(assemble(text), memory_limit=LIMIT)
    ended = (await node.next_end()).exit
    assert ended is not None
    if not node.provider.capabilities().memory:
        assert ended.reason is ExitReason.COMPLETED
        return
    assert (ended.code, ended.reason, ended.signal) == (137, ExitReason.OUT_OF_MEMORY, 9)
    assert ended.message.startswith("out of memory: the processes of the container used more than its limit")
    await node.vanish()
    (found,) = await node.open()
    assert (found.id, found.exit) == (state.id, ended)


async def test_a_kill_is_no_lack_of_memory(node: Node) -> None:
    state = await sleeping(node, memory_limit=LIMIT)
    await node.provider.kill(state.id)
    ended = (await node.next_end()).exit
    assert ended is not None
    assert ended.reason is ExitReason.KILLED


async def test_processor_time_is_bounded(node: Node) -> None:
    state = await node.start(guest("busy"), "1000", cpu_limit=50)
    for hierarchy in of_controller(node, "cpu"):

        def throttled(hierarchy: Hierarchy = hierarchy) -> bool:
            lines = read(hierarchy, state.id, "cpu.stat", "cpu.stat").splitlines()
            return int(dict(line.split() for line in lines)["nr_throttled"]) > 1

        await until(throttled)


async def test_an_agent_that_vanishes_leaves_what_runs(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = await sleeping(node, cpu_request=100)
    left = [hierarchy.base for hierarchy in node.provider._confinement._cgroups._hierarchies]
    for base in left:
        (base / ("f" * 64)).mkdir()  # of a container whose directory is gone
    await node.vanish()
    monkeypatch.setattr(hierarchies, "find", None)  # wherever the next agent runs, they stay where they are
    await node.open()
    for base in left:
        assert {path.name for path in base.iterdir() if path.is_dir()} - {cgroups.SHARED} == {kept.id}
    monkeypatch.undo()
    await node.provider.kill(kept.id)
    await node.next_end()
    await gone(node, kept.id)


async def test_what_ended_while_no_agent_ran_leaves_no_cgroup(node: Node) -> None:
    state = await node.start(guest("copy"), stdin=True, memory_limit=LIMIT)
    client = await node.provider.attach(state.id)
    await node.vanish()
    client.send(b"\x06")
    client.close()
    await until((node.container(state.id) / "own" / "exit").exists)
    await node.open()
    await gone(node, state.id)


async def test_where_the_cgroups_were_is_found_again(node: Node) -> None:
    await sleeping(node, cpu_request=100)
    for junk in (b"junk", b""):
        await node.vanish()
        (node.run_dir / "cgroups").write_bytes(junk)
        before = len(node.found)
        assert len(await node.open()) >= before
        assert hierarchies.Found.decode((node.run_dir / "cgroups").read_bytes())


async def test_limits_change_while_it_runs(node: Node) -> None:
    state = await sleeping(node, memory_limit=LIMIT, cpu_limit=500, cpu_request=100)
    await node.provider.update(state.id, memory_limit=2 * LIMIT, cpu_limit=None, cpu_request=200)
    for hierarchy in of_controller(node, "memory"):
        bound = int(read(hierarchy, state.id, "memory.limit_in_bytes", "memory.max"))
        assert bound == 2 * LIMIT + OVERHEAD
    for hierarchy in of_controller(node, "cpu"):
        assert read(hierarchy, state.id, "cpu.cfs_quota_us", "cpu.max").split()[0] in {"-1", "max"}
        assert read(hierarchy, state.id, "cpu.shares", "cpu.weight") == (
            "204" if hierarchy.version == 1 else "8"
        )
    await node.vanish()
    await node.open()
    spec = node.provider.spec(state.id)
    assert (spec.memory_limit, spec.cpu_limit, spec.cpu_request) == (2 * LIMIT, None, 200)


async def test_limits_that_come_later(node: Node) -> None:
    state = await sleeping(node)
    await node.provider.update(state.id, memory_limit=LIMIT, cpu_limit=500, cpu_request=100)
    for hierarchy in node.provider._confinement._cgroups._hierarchies:
        assert members(hierarchy, state.id) == {state.pid}
    await node.provider.kill(state.id)
    await node.next_end()
    await gone(node, state.id)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (LIMIT, LIMIT // 2, ExitReason.OUT_OF_MEMORY),
        (None, LIMIT // 2, ExitReason.OUT_OF_MEMORY),
        (LIMIT // 2, LIMIT, ExitReason.COMPLETED),
        (LIMIT // 2, None, ExitReason.COMPLETED),
    ],
)
async def test_linear_memory_may_grow_as_the_new_limit_says(
    node: Node, before: int | None, after: int | None, reason: ExitReason
) -> None:
    """The guest takes its memory when its input says so."""
    state = await node.start(guest("actor"), "hear", "grow", "32", stdin=True, memory_limit=before)
    client = await node.provider.attach(state.id)
    client.send(b"\x00now\n")
    await until(lambda: "stdout F heard now" in log_lines(state.log_path))
    await node.provider.update(state.id, memory_limit=after, cpu_limit=None, cpu_request=None)
    client.send(b"\x06")
    client.close()
    ended = (await node.next_end()).exit
    assert ended is not None
    assert ended.reason is reason
    if after is not None and reason is ExitReason.OUT_OF_MEMORY:
        assert f"and its limit is {after}\n" in ended.message


async def test_a_sleep_goes_on_over_a_change(node: Node) -> None:
    state = await node.start(guest("actor"), "print", "before", "sleep", "0.3", "print", "after")
    await until(lambda: log_lines(state.log_path))
    for limit in range(10):
        await node.provider.update(
            state.id, memory_limit=LIMIT + limit * PAGE, cpu_limit=None, cpu_request=None
        )
    ended = (await node.next_end()).exit
    assert ended is not None
    assert ended.reason is ExitReason.COMPLETED
    assert log_lines(state.log_path) == ["stdout F before", "stdout F after"]


async def test_what_does_not_run_has_no_limits_to_change(node: Node) -> None:
    await node.run(guest("hello"))
    for name in [*node.provider._containers, "f" * 64]:
        with pytest.raises(ProviderError, match="does not run"):
            await node.provider.update(name, memory_limit=None, cpu_limit=None, cpu_request=None)


@pytest.mark.parametrize("born", [True, False], ids=["born", "joined"])
async def test_a_process_is_in_a_cgroup_of_version_2(
    node: Node, monkeypatch: pytest.MonkeyPatch, born: bool
) -> None:
    """One without controllers will do, as a machine of version 1 has; not everybody may make it."""
    tops = [mount.top for mount in mounted() if mount.version == 2]
    bases = [top / f"vkubelet-test-{os.getpid()}" for top in tops if os.access(top, os.W_OK)]
    for base in bases:
        base.mkdir()
    found = hierarchies.Found(tuple(Hierarchy(2, (), base) for base in bases))
    monkeypatch.setattr(hierarchies, "find", lambda name: found)
    if not born:  # as with an older kernel
        joining = tuple(hierarchy.joining for hierarchy in found.hierarchies)
        monkeypatch.setattr(
            cgroups.Cgroups,
            "joining",
            lambda self, name, limits, group: (tuple(join(name) for join in joining), None),
        )
    await node.vanish()
    await node.open()
    state = await sleeping(node, cpu_request=100)
    assert [members(hierarchy, state.id) for hierarchy in found.hierarchies] == [{state.pid} for _ in bases]
    names = [
        name for base in bases for name in cgroup_of(state.pid) if name.endswith(f"{base.name}/{state.id}")
    ]
    assert len(names) == len(bases)
    # What it has of the launcher's is its own, also what makes numbers random.
    runs = [await node.run(guest("random"), cpu_request=100) for _ in range(2)]
    assert len({line for _, lines in runs for line in lines}) == 2
    await node.provider.kill(state.id)
    await node.next_end()
    await node.provider.close()
    assert not [base for base in bases if base.exists()]
    node.provider = None


def mounted() -> list[cgroupfs.Mounted]:
    proc = Path("/proc/self")
    return cgroupfs.mounted((proc / "mountinfo").read_text(), (proc / "cgroup").read_text())


def cgroup_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cgroup").read_text().split()


async def test_an_instance_of_its_own_leaves_no_cgroup(node: Node) -> None:
    spec = await node.spec(guest("exit"), "3", log_path=None, cpu_request=100)
    null = os.open(os.devnull, os.O_RDWR)
    assert (await node.provider.run(spec, Streams(null, null, null))).code == 3
    os.close(null)
    await gone(node, spec.id)


async def gone(node: Node, container_id: str) -> None:
    """Its cgroups go with it."""
    for hierarchy in node.provider._confinement._cgroups._hierarchies:
        await until(lambda hierarchy=hierarchy: not (hierarchy.base / container_id).exists())


GROUP = Group("podtest", memory_limit=4 * LIMIT, cpu_limit=2000, cpu_request=700)


async def test_a_group_bounds_its_containers_together(node: Node) -> None:
    states = [await sleeping(node, group=GROUP, cpu_request=100) for _ in range(2)]
    running = await begin(node, "copy", root=node.provider.root(states[0].id), group=GROUP, cpu_request=100)
    await running.write(b"text")
    assert await read_until(running.stdout, b"text") == b"text"
    for hierarchy in of_controller(node, "memory"):
        assert int(read(hierarchy, GROUP.name, "memory.limit_in_bytes", "memory.max")) == 4 * LIMIT
    for hierarchy in of_controller(node, "cpu"):
        assert read(hierarchy, GROUP.name, "cpu.cfs_quota_us", "cpu.max").split()[0] == "200000"
        assert members(hierarchy, f"{GROUP.name}/{states[0].id}") == {states[0].pid, running.pid}
        assert members(hierarchy, f"{GROUP.name}/{states[1].id}") == {states[1].pid}
    running.close_stdin()
    assert (await running.task).code == 0
    running.close()
    await node.provider.update_group(dataclasses.replace(GROUP, cpu_limit=500, memory_limit=2 * LIMIT))
    for hierarchy in of_controller(node, "memory"):
        assert int(read(hierarchy, GROUP.name, "memory.limit_in_bytes", "memory.max")) == 2 * LIMIT
    for hierarchy in of_controller(node, "cpu"):
        assert read(hierarchy, GROUP.name, "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    await node.vanish()
    await node.open()
    await node.provider.update(states[1].id, memory_limit=None, cpu_limit=300, cpu_request=50)
    for hierarchy in of_controller(node, "cpu"):
        name = f"{GROUP.name}/{states[1].id}"
        assert read(hierarchy, name, "cpu.cfs_quota_us", "cpu.max").split()[0] == "30000"
    for state in states:
        await node.provider.kill(state.id)
        await node.next_end()
    await gone(node, GROUP.name)


async def test_a_group_that_uses_more_than_it_may_is_out_of_memory(node: Node) -> None:
    text = TWO_MEMORIES.format(pages=LIMIT // PAGE - 1, bytes=LIMIT - MIB)
    await node.start(assemble(text), memory_limit=2 * LIMIT, group=Group("podtest", memory_limit=LIMIT))
    ended = (await node.next_end()).exit
    assert ended is not None
    if node.provider.capabilities().memory:
        assert (ended.code, ended.reason) == (137, ExitReason.OUT_OF_MEMORY)


async def test_a_guest_sees_what_it_is_held_to(node: Node) -> None:
    """Also after it has changed, and in what runs beside it."""
    state = await sleeping(node, memory_limit=LIMIT, cpu_limit=250, oom_score_adj=999)
    assert oom_score_adj(state.pid) == "999\n"

    async def shown(name: str) -> str:
        root = node.provider.root(state.id)
        spec = await node.spec(guest("actor"), "read", name, log_path=None, root=root, memory_limit=LIMIT)
        reader, writer = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        assert (await node.provider.run(spec, Streams(null, writer, writer))).code == 0
        os.close(writer)
        os.close(null)
        with os.fdopen(reader) as file:
            return file.read().strip().removeprefix(f"{name}: ")

    versions = node.provider._confinement._cgroups.versions
    memory = (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes"
        if versions.get("memory") == 1
        else "/sys/fs/cgroup/memory.max"
    )
    assert await shown(memory) == str(LIMIT)
    assert await shown("/proc/1/oom_score_adj") == "999"
    assert (await shown("/proc/mounts")).startswith("wasi / wasi rw 0 0\n")
    await node.provider.update(state.id, memory_limit=2 * LIMIT, cpu_limit=None, cpu_request=None)
    assert await shown(memory) == str(2 * LIMIT)


def oom_score_adj(pid: int) -> str:
    return Path(f"/proc/{pid}/oom_score_adj").read_text()


async def test_a_group_has_no_more_processes_than_it_may(node: Node) -> None:
    group = Group("podtest", process_limit=50)
    state = await sleeping(node, group=group)
    for hierarchy in of_controller(node, "pids"):
        assert read(hierarchy, "podtest", "pids.max", "pids.max") == "50"
        full = dataclasses.replace(
            group, process_limit=int(read(hierarchy, "podtest", *["pids.current"] * 2))
        )
        await node.provider.update_group(full)
        if hierarchy.version == 2:  # the kernel makes no process; version 1 lets any join, which looks then
            with pytest.raises(ProviderError, match="Resource temporarily unavailable"):
                await node.start(guest("hello"), group=full)
        else:
            text = "the pod has as many processes as it may have: Resource temporarily unavailable"
            ended, *_ = await complete(node, "hello", root=node.provider.root(state.id), group=full)
            assert (ended.reason, ended.message) == (ExitReason.CANNOT_RUN, text)
            ended, _ = await node.run(guest("hello"), group=full)
            assert (ended.reason, ended.message) == (ExitReason.CANNOT_RUN, text)
        await node.provider.update_group(group)
        await sleeping(node, group=group)


@pytest.mark.parametrize("attachable", [False, True])
async def test_a_process_for_whose_thread_there_is_no_room_says_so(node: Node, attachable: bool) -> None:
    state = await sleeping(node, group=Group("podtest", process_limit=50))
    for hierarchy in of_controller(node, "pids"):
        held = int(read(hierarchy, "podtest", *["pids.current"] * 2))
        full = Group("podtest", process_limit=held + 1)
        text = "the pod has as many processes as it may have: Resource temporarily unavailable"
        ended, _ = await node.run(guest("sleep"), group=full, stdin=attachable)
        assert (ended.reason, ended.code, ended.message) == (ExitReason.CANNOT_RUN, 128, text)
        ended, *_ = await complete(node, "sleep", root=node.provider.root(state.id), group=full)
        assert (ended.reason, ended.code, ended.message) == (ExitReason.CANNOT_RUN, 128, text)


@pytest.mark.parametrize("name", ["", "a/b", "..", "ü", "x" * 64])
async def test_names_that_are_none_of_a_group(node: Node, name: str) -> None:
    with pytest.raises(InvalidSpecError, match="is no name of a group"):
        await node.start(guest("hello"), group=Group(name))
