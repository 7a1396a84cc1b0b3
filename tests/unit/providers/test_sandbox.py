"""The second wall: what a guest that has broken out of WebAssembly could still do, tried by a program inside.

The program is native and enters the sandbox by the code that containers enter it by. What the kernel of the
machine that runs the tests does not have, the tests of it are skipped for, by name.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.base import Preopen
from providers.wasmtime.native import build

from .conftest import NATIVE_TESTS, VARIANTS, Node, native, sleeping
from .test_identity import status

SOURCES = (
    "calls.c",
    "children.c",
    "kernel.c",
    "landlock.c",
    "namespaces.c",
    "records.c",
    "sandbox.c",
    "seccomp.c",
)
OK = 0
HIDDEN = errno.EACCES
REFUSED = errno.EPERM
UNKNOWN = errno.ENOSYS

FILES = {
    "write-own": OK,
    "mkdir-own": OK,
    "move-own": OK,
    "read-readable": OK,
    "write-readable": HIDDEN,
    "create-readable": HIDDEN,
    "remove-readable": HIDDEN,
    "read-outside": HIDDEN,
    "read-through-own": HIDDEN,
    "read-init": HIDDEN,
    "read-victim": HIDDEN,
    "read-passwd": HIDDEN,
    "list-root": HIDDEN,
    "read-device": HIDDEN,
}
UNSEEN = dict.fromkeys(
    ("read-outside", "read-init", "read-victim", "read-passwd", "read-device"), errno.ENOENT
)
"""What has no path where there are no mounts of the host."""
CALLS = {
    "execve": REFUSED,
    "fork": REFUSED,
    "thread": OK,
    "ptrace": REFUSED,
    "process_vm_readv": REFUSED,
    "kill": REFUSED,
    "tgkill": REFUSED,
    "tgkill-own": OK,
    "pidfd_open": UNKNOWN,
    "pidfd_getfd": UNKNOWN,
    "mount": REFUSED,
    "umount": REFUSED,
    "unshare": REFUSED,
    "setns": REFUSED,
    "chroot": REFUSED,
    "chmod": REFUSED,
    "chmodat": REFUSED,
    "chown": REFUSED,
    "truncate": REFUSED,
    "mknod": REFUSED,
    "setuid": REFUSED,
    "setgroups": REFUSED,
    "capset": REFUSED,
    "bpf": REFUSED,
    "keyctl": REFUSED,
    "perf_event_open": REFUSED,
    "userfaultfd": REFUSED,
    "memfd_create": REFUSED,
    "shmget": REFUSED,
    "io_uring": UNKNOWN,
    "clone3": UNKNOWN,
    "later": UNKNOWN,
    "prctl": REFUSED,
    "tiocsti": REFUSED,
    "setowner": REFUSED,
    "raise-limit": REFUSED,
    "map-data": OK,
    "map-code": REFUSED,
    "map-library": REFUSED,
    "make-code": REFUSED,
}
SOCKETS = {
    "socket-inet": REFUSED,
    "socket-unix": REFUSED,
    "socket-packet": REFUSED,
    "socket-route": REFUSED,
    "socket-audit": REFUSED,
    "connect": REFUSED,
    "look-up": errno.ENOENT,
}
WITH_NETWORK = {
    "map-library": OK,
    "socket-inet": OK,
    "socket-route": OK,
    "connect": errno.ECONNREFUSED,
    "look-up": OK,
}


@pytest.fixture(scope="module", params=VARIANTS)
def inside(request: pytest.FixtureRequest) -> Path:
    sources = [NATIVE_TESTS / "inside.c", *(build.NATIVE / name for name in SOURCES)]
    return native("inside", request.param, sources)


@pytest.fixture
def victim() -> Iterator[int]:
    """A process that is not the guest's business."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.kill()
    process.communicate()


def attempts(program: Path, mode: str, place: Path, victim: int) -> subprocess.CompletedProcess[str]:
    for name in ("own", "readable", "outside"):
        (place / name).mkdir()
    (place / "readable" / "file").write_text("text")
    secret = place / "outside" / "secret"
    secret.write_text("secret")
    arguments = [program, mode, place / "own", place / "readable", secret, str(victim)]
    return subprocess.run(
        arguments, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL
    )


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    assert done.returncode == 0, done.stderr
    lines = (line.split() for line in done.stdout.splitlines())
    return {name: int(result) for name, result in lines}


def parts(program: Path) -> dict[str, str]:
    """The parts that this host allows, each with its version if it has one."""
    told = subprocess.run([program, "--sandbox"], capture_output=True, text=True, check=True).stdout
    names = [line for line in told.splitlines() if not line.startswith("- ")]
    return {name: version for name, _, version in (line.partition("-") for line in names)}


@pytest.fixture
def filtered(shipped: Path) -> None:
    if "seccomp" not in parts(shipped):
        pytest.skip("this kernel has no filters of system calls")


@pytest.fixture
def landlock(shipped: Path) -> int:
    """The version of Landlock, from which on it lets files be moved."""
    version = int(parts(shipped).get("landlock", "0"))
    if version < 2:
        pytest.skip("this kernel has no Landlock, or its first version")
    return version


@pytest.mark.usefixtures("landlock", "filtered")
def test_what_was_not_given_is_out_of_reach(inside: Path, tmp_path: Path, victim: int, shipped: Path) -> None:
    expected = {**FILES, **CALLS, **SOCKETS, **(UNSEEN if "mount" in parts(shipped) else {})}
    assert outcome(attempts(inside, "closed", tmp_path, victim)) == expected


@pytest.mark.usefixtures("landlock", "filtered")
def test_the_network_is_the_internet_and_nothing_else(inside: Path, tmp_path: Path, victim: int) -> None:
    expected = {**FILES, **CALLS, **SOCKETS, **WITH_NETWORK}
    assert outcome(attempts(inside, "network", tmp_path, victim)) == expected


def test_landlock_alone_keeps_a_guest_in(inside: Path, tmp_path: Path, victim: int, landlock: int) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0vkubelet-{victim}")
        listener.listen()
        found = outcome(attempts(inside, "landlock", tmp_path, victim))
    expected = {**FILES, "execve": HIDDEN}
    if landlock >= 4:
        expected["connect"] = HIDDEN
    if landlock >= 6:
        expected |= {"kill": REFUSED, "connect-abstract": REFUSED}
    assert {name: found[name] for name in expected} == expected


def test_namespaces_alone_leave_nothing_to_see(
    inside: Path, tmp_path: Path, victim: int, shipped: Path
) -> None:
    if not {"pid", "network", "mount"} <= parts(shipped).keys():
        pytest.skip("this host lets the user that runs the tests make no namespaces")
    found = outcome(attempts(inside, "namespaces", tmp_path, victim))
    expected = UNSEEN | {
        "execve": errno.ENOENT,
        "kill": errno.ESRCH,
        "connect": errno.ENETUNREACH,
        "list-root": OK,
        "write-own": OK,
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("mode", ["old", "x32"])
@pytest.mark.usefixtures("filtered")
def test_the_numbers_of_another_architecture_end_it(
    inside: Path, tmp_path: Path, victim: int, mode: str
) -> None:
    ended = attempts(inside, mode, tmp_path, victim).returncode
    # A kernel without the older interface does not come to look at the call.
    assert ended in (-signal.SIGSYS, *((-signal.SIGSEGV,) if mode == "old" else ()))


async def test_a_container_is_in_all_that_is_told(node: Node) -> None:
    found = node.provider.capabilities().sandbox
    state = await sleeping(node)
    its = status(state.pid)
    assert its["NoNewPrivs"] == ["1"]
    assert its["Seccomp"] == ["0" if found.get("seccomp") else "2"]
    if not found["bounding-set"]:
        assert int(its["CapBnd"][0], 16) == 0
    for part, kind in (("ipc", "ipc"), ("pid", "pid"), ("network", "net"), ("mount", "mnt")):
        assert (namespace(state.pid, kind) == namespace(os.getpid(), kind)) == bool(found[part])
    if not found["mount"]:
        assert len(told(state.pid, "mountinfo").splitlines()) == 1
    if not found["user"]:
        own = str(0x70000000 + state.pid)
        assert its["Uid"] == [own, own, own, "0"]
    limits = told(state.pid, "limits")
    assert re.search(r"Max core file size +0 +0 ", limits)
    (files,) = re.findall(r"Max open files +\d+ +(\d+)", limits)
    assert int(files) <= 65536


async def test_a_container_of_the_hosts_network_sees_that(node: Node) -> None:
    found = node.provider.capabilities().sandbox
    state = await sleeping(node, network=True)
    assert namespace(state.pid, "net") == namespace(os.getpid(), "net")
    # There it finds what names are looked up with.
    assert namespace(state.pid, "mnt") == namespace(os.getpid(), "mnt")
    assert (namespace(state.pid, "pid") == namespace(os.getpid(), "pid")) == bool(found["pid"])


async def test_two_containers_are_two_users_and_see_nothing_of_each_other(node: Node) -> None:
    found = node.provider.capabilities().sandbox
    one, other = await sleeping(node), await sleeping(node)
    if not found["pid"]:
        assert namespace(one.pid, "pid") != namespace(other.pid, "pid")
    if not found["user"]:
        assert status(one.pid)["Uid"] != status(other.pid)["Uid"]


async def test_a_container_has_no_file_of_the_launcher_or_of_another(node: Node, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    for _ in range(3):  # of which the launcher keeps the code open
        await sleeping(node, stdin=True)
    volume = Preopen(tmp_path / "volume", "/volume")
    state = await sleeping(node, stdin=True, preopens=(volume,))
    # Its standard error is the launcher's, for what the library says when it fails.
    code = node.provider.spec(state.id).artifact.path
    its = {"/dev/null", str(node.run_dir / "launcher.log"), str(code), str(volume.host)}
    below = (str(node.container(state.id)), str(state.log_path.parent))
    assert {path for path in opened(state.pid) if not path.startswith(below)} <= its


def told(pid: int, name: str) -> str:
    """What the kernel tells of a process."""
    return Path(f"/proc/{pid}/{name}").read_text()


def namespace(pid: int, kind: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def opened(pid: int) -> set[str]:
    """The files that a process has open, by their paths."""
    found = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    return {path for path in found if path.startswith("/")}
