"""What processes and trees use, measured on real ones and compared with what is known of them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trees import dug

from providers import procfs
from providers.base import Streams
from providers.disk import disk_usage
from providers.procfs import process_usage
from providers.wasmtime import usage as metering
from providers.wasmtime.usage import Measured, UsageMeter

from .conftest import Node, assemble, guest, stop

MIB = 1024 * 1024

Start = Callable[..., tuple[subprocess.Popen[str], int]]

# Says a line when it has used what its arguments ask for, and ends with its standard input.
BUSY = """
import sys, threading, time
held = bytearray(int(sys.argv[1]))
for page in range(0, len(held), 4096):
    held[page] = 1
def burn():
    until = time.thread_time_ns() + int(sys.argv[2])
    while time.thread_time_ns() < until:
        pass
threads = [threading.Thread(target=burn) for _ in range(int(sys.argv[3]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(time.process_time_ns(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def busy() -> Iterator[Start]:
    """Starts processes that have used memory, and CPU time in threads that have ended; gives that time."""
    processes: list[subprocess.Popen[str]] = []

    def start(memory: int = 0, cpu: int = 0, threads: int = 1) -> tuple[subprocess.Popen[str], int]:
        arguments = [sys.executable, "-c", BUSY, str(memory), str(cpu), str(threads)]
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        process.communicate()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()
    process.wait()


def test_processor_time_is_in_nanoseconds_and_of_all_threads(
    busy: Start,
) -> None:
    process, told = busy(cpu=30_000_000, threads=3)
    found = process_usage(process.pid)
    assert found is not None
    assert found.cpu >= told >= 90_000_000
    assert 1 <= found.threads <= 4  # the kernel may not be done with those that ended
    ticks = sum(map(int, Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()[11:13]))
    assert abs(found.cpu - ticks * 1e9 / os.sysconf("SC_CLK_TCK")) < 0.5e9


def test_memory_that_is_written_to_is_anonymous(
    busy: Start,
) -> None:
    small, large = (process_usage(busy(memory=size)[0].pid) for size in (0, 32 * MIB))
    assert small is not None
    assert large is not None
    assert 30 * MIB < large.anonymous - small.anonymous < 34 * MIB
    assert large.memory >= large.anonymous
    assert large.page_faults > small.page_faults


def test_memory_is_read_again_when_it_may_have_changed(busy: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process, _ = busy()
    found = process_usage(process.pid)
    assert found is not None
    marked = dataclasses.replace(found, memory=1, anonymous=2, shared=3)
    again = process_usage(process.pid, None, marked)
    assert again is not None
    assert (again.memory, again.anonymous, again.shared) == (1, 2, 3)
    for changed in (
        dataclasses.replace(marked, resident=found.resident - 1),
        dataclasses.replace(marked, page_faults=found.page_faults - 1),
        dataclasses.replace(marked, major_page_faults=found.major_page_faults - 1),
        dataclasses.replace(marked, start_time=found.start_time - 1),
    ):
        again = process_usage(process.pid, None, changed)
        assert again is not None
        assert again.anonymous == found.anonymous
    monkeypatch.setattr(procfs, "MEMORY_SECONDS", 0.0)
    again = process_usage(process.pid, None, marked)
    assert again is not None
    assert again.memory_read_at > found.memory_read_at


def test_a_process_that_has_ended_uses_nothing(
    busy: Start,
) -> None:
    process, _ = busy()
    process.communicate()
    assert process_usage(process.pid) is None


def test_a_process_that_has_ended_and_is_not_waited_for_uses_nothing() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert process_usage(child) is None
    os.waitpid(child, 0)


def test_a_reused_pid_is_another_process(busy: Start) -> None:
    process, _ = busy()
    found = process_usage(process.pid)
    assert found is not None
    assert process_usage(process.pid, found.start_time) is not None
    assert process_usage(process.pid, found.start_time - 1) is None


def test_a_tree_is_what_du_says(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "data").write_bytes(b"x" * 100_000)
    (tmp_path / "a" / "b" / "more").write_bytes(b"y" * 5000)
    (tmp_path / "link").symlink_to("/")
    os.link(tmp_path / "a" / "data", tmp_path / "a" / "b" / "again")
    os.mkfifo(tmp_path / "pipe")
    found = disk_usage(tmp_path)
    assert found is not None
    said = subprocess.run(
        ["du", "-s", "--block-size=1", tmp_path], check=True, capture_output=True, text=True
    )
    assert found.size == int(said.stdout.split()[0])
    assert found.inodes == 7


def test_no_tree_has_no_usage(tmp_path: Path) -> None:
    assert disk_usage(tmp_path / "none") is None
    (tmp_path / "file").touch()
    assert disk_usage(tmp_path / "file") is None
    (tmp_path / "link").symlink_to(tmp_path)
    assert disk_usage(tmp_path / "link") is None


def test_a_walk_has_an_end(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / str(number)).touch()
    found = disk_usage(tmp_path, max_entries=20)
    assert found is not None
    assert found.inodes == 21


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A tree of 2000 levels, of which each but the last has a directory and a file beside the way down."""
    with dug(tmp_path / "deep", 2000, beside="beside") as path:
        yield path


def test_a_deep_tree_is_counted_to_its_end_and_takes_few_descriptors(deep: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 8, hard))
    try:
        found = disk_usage(deep)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found is not None
    assert found.inodes == 1 + 3 * 2000
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_going_up_counts_towards_the_end_of_a_walk(deep: Path) -> None:
    found = disk_usage(deep, max_entries=3000)
    assert found is not None
    assert 500 < found.inodes < 3000


@pytest.mark.parametrize("far", ["inside", "outside"])
def test_a_directory_that_is_moved_while_the_walk_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: str
) -> None:
    tree = tmp_path / "inside"
    (tree / "a" / "b" / "c").mkdir(parents=True)
    for beside in (tree, tree / "a", tmp_path / "outside"):
        for number in range(10):
            (beside / f"{number}").mkdir(parents=True)
    scandir, seen = os.scandir, []

    def move(directory: int) -> object:
        seen.append(os.fstat(directory).st_ino)
        if seen[-1] == inode:
            (tree / "a" / "b").rename(tmp_path / far / "moved")
        return scandir(directory)

    inode = (tree / "a" / "b" / "c").stat().st_ino
    monkeypatch.setattr(os, "scandir", move)
    found = disk_usage(tree)
    assert found is not None
    assert inode in seen
    # All that is left in the tree was seen, and once; nothing beside it was.
    assert found.inodes == 1 + 3 + 20
    assert len(seen) == len(set(seen)) == found.inodes


def test_a_walk_does_not_leave_a_tree_that_changes_under_it(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * MIB)
    inside.mkdir()
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            (inside / "swapped").mkdir()
            (inside / "swapped").rmdir()
            (inside / "swapped").symlink_to(outside)
            (inside / "swapped").unlink()

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(500):
            found = disk_usage(inside)
            assert found is not None
            assert found.size < MIB
    finally:
        over.set()
        swapping.join()


def measured(process: subprocess.Popen[str]) -> Measured:
    found = process_usage(process.pid)
    assert found is not None
    return Measured(process.pid, found.start_time)


async def test_an_instance_counts_towards_its_container_and_its_time_stays(
    busy: Start, tmp_path: Path
) -> None:
    meter = UsageMeter(lambda _: disk_usage(tmp_path))
    container, instance = busy()[0], busy(memory=16 * MIB, cpu=50_000_000)[0]
    containers, instances = {"c": measured(container)}, {"c": [measured(instance)]}
    alone = (await meter.measure(containers, {}))["c"]
    both = (await meter.measure(containers, instances))["c"]
    assert both.cpu >= alone.cpu + 50_000_000
    assert both.memory > alone.memory + 15 * MIB
    assert (alone.processes, both.processes) == (1, 2)
    end(instance)
    after = (await meter.measure(containers, instances))["c"]
    assert after.cpu >= both.cpu
    assert after.processes == 1
    assert after.memory < both.memory - 15 * MIB
    await meter.close()


async def test_a_disk_is_looked_at_when_somebody_asks_and_not_again_at_once(
    busy: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = UsageMeter(lambda _: disk_usage(tmp_path))
    containers = {"c": measured(busy()[0])}
    assert (await meter.measure(containers, {}))["c"].disk is None
    await meter.walked()
    first = (await meter.measure(containers, {}))["c"]
    assert first.inodes == 1
    (tmp_path / "new").write_bytes(b"x" * 8192)
    await meter.walked()
    assert (await meter.measure(containers, {}))["c"].inodes == 1
    monkeypatch.setattr(metering, "DISK_SECONDS", 0.0)
    meter.forget("c")
    await meter.measure(containers, {})
    await meter.walked()
    again = (await meter.measure(containers, {}))["c"]
    assert again.inodes == 2
    assert again.disk is not None
    assert first.disk is not None
    assert again.disk >= first.disk + 8192
    await meter.close()


async def test_containers_of_a_node(node: Node) -> None:
    """Of those that run, and nothing else; the launcher's own usage is apart."""
    running = await node.start(guest("sleep"), "1000")
    ended = await node.start(guest("hello"))
    assert (await node.next_end()).id == ended.id
    found = await node.provider.usage([running.id, ended.id, "unknown"])
    assert found.keys() == {running.id}
    assert found[running.id].cpu > 0
    assert 0 < found[running.id].working_set <= found[running.id].memory
    assert found[running.id].threads >= 1
    launcher = await node.provider.overhead()
    assert launcher.memory > 0
    await node.provider.kill(running.id)
    await node.next_end()
    assert await node.provider.usage([running.id]) == {}


SPINNING = '(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'


async def test_a_busy_guest_uses_processor_time(make_node: Callable[[Path], Node], shipped: Path) -> None:
    node = make_node(shipped)
    await node.open()
    state = await node.start(assemble(SPINNING))
    async with asyncio.timeout(60):
        while (await node.provider.usage([state.id]))[state.id].cpu < 200_000_000:
            pass
    await stop(node)


async def test_what_runs_in_a_container_counts_as_its_own(
    make_node: Callable[[Path], Node], shipped: Path
) -> None:
    node = make_node(shipped)
    await node.open()
    state = await node.start(guest("sleep"), "1000")
    root = node.provider.root(state.id)
    spec = await node.spec(assemble(SPINNING), log_path=None, root=root)
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    nothing = os.open(os.devnull, os.O_RDWR)
    streams = Streams(nothing, nothing, nothing)
    running = asyncio.ensure_future(node.provider.run(spec, streams, started.set_result))
    await asyncio.wait([running, started], return_when=asyncio.FIRST_COMPLETED)
    os.close(nothing)
    async with asyncio.timeout(60):
        while (both := (await node.provider.usage([state.id]))[state.id]).cpu < 100_000_000:
            pass
    assert both.processes == 2
    running.cancel()
    await asyncio.wait([running])
    alone = (await node.provider.usage([state.id]))[state.id]
    assert alone.processes == 1
    assert alone.cpu >= both.cpu
    await stop(node)
