"""Whom a container's process runs as: what it may do then, and that all of ours works nevertheless.

A node that is not root's refuses what it cannot do: run by somebody else, the tests marked so see that.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from providers.base import ExitReason, FileMount, Identity, InvalidSpecError, Preopen
from providers.wasmtime import files
from providers.wasmtime.confinement import check_identity

from .conftest import Node, guest, log_lines, sleeping
from .test_run import begin, complete

OTHER = Identity(4711, 4712, (4713, 4714))
DAC_OVERRIDE, FOWNER, NET_BIND_SERVICE = 1 << 1, 1 << 3, 1 << 10


def as_root(test: Callable[..., Any]) -> Callable[..., Any]:
    """A test of what root may do; for anybody else, of the refusal."""

    @functools.wraps(test)
    async def refused(node: Node, **_others: Any) -> None:
        assert not node.provider.capabilities().identities
        with pytest.raises(InvalidSpecError, match="may not become another; run it as root"):
            await node.start(guest("hello"), **fields(node))

    return test if os.geteuid() == 0 else refused


def fields(node: Node, **more: Any) -> dict[str, Any]:
    """Of a spec: the identity, and a log in a directory of its own."""
    logs = node.directory / "own logs"
    logs.mkdir(exist_ok=True)
    return {"identity": OTHER, "log_path": logs / "0.log"} | more


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


@as_root
async def test_the_process_is_the_users(node: Node) -> None:
    state = await sleeping(node, **fields(node))
    found = status(state.pid)
    assert found["Uid"] == ["4711"] * 4
    assert found["Gid"] == ["4712"] * 4
    assert found["Groups"] == ["4713", "4714"]
    assert {int(found[name][0], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}


@as_root
@pytest.mark.parametrize(("read_only", "network"), [(False, True), (True, False)])
async def test_root_keeps_what_files_and_ports_need(
    node: Node, tmp_path: Path, read_only: bool, network: bool
) -> None:
    (tmp_path / "file").touch()
    mounts = (FileMount(tmp_path / "file", "/file", read_only),)
    state = await sleeping(node, identity=Identity(0, 0), files=mounts, network=network)
    kept = FOWNER | (NET_BIND_SERVICE if network else 0) | (0 if read_only else DAC_OVERRIDE)
    found = status(state.pid)
    assert found["Groups"] == []
    assert int(found["CapEff"][0], 16) == int(found["CapPrm"][0], 16) == kept


@as_root
async def test_it_leaves_its_end_and_what_it_made(node: Node) -> None:
    ended, lines = await node.run(guest("files"), "write", "/own", "text", "read", "/own", **fields(node))
    assert (ended.code, ended.reason) == (0, ExitReason.COMPLETED)
    assert lines == ["stdout F /own: text"]
    (identifier,) = node.provider._containers
    made = (node.provider.root(identifier) / "own").stat()
    assert (made.st_uid, made.st_gid) == (OTHER.uid, OTHER.gid)
    await node.provider.remove(identifier)
    assert not node.container(identifier).exists()


@as_root
async def test_its_directory_stays_ours(node: Node) -> None:
    state = await sleeping(node, **fields(node))
    directory = node.container(state.id)
    ours = {path.name: path.stat() for path in [directory, *directory.iterdir()]}
    theirs = {name for name, found in ours.items() if found.st_uid != os.geteuid()}
    assert theirs == {"own", "rootfs"}
    assert stat.S_IMODE(ours[state.id].st_mode) == 0o711
    assert stat.S_IMODE(ours["own"].st_mode) == 0o700
    assert stat.S_IMODE(ours["spec"].st_mode) == 0o600


@as_root
async def test_how_it_ended_is_known_without_an_agent(node: Node) -> None:
    state = await node.start(guest("copy"), stdin=True, **fields(node))
    client = await node.provider.attach(state.id)
    client.send(b"\x00text\n")
    await until(lambda: log_lines(state.log_path) == ["stdout F text"])
    await node.vanish()
    client.send(b"\x06")
    client.close()
    await until((node.container(state.id) / "own" / "exit").exists)
    (found,) = await node.open()
    assert found.exit is not None
    assert (found.exit.code, found.exit.reason) == (0, ExitReason.COMPLETED)


@as_root
async def test_a_kill_is_recorded(node: Node) -> None:
    state = await sleeping(node, **fields(node))
    await node.provider.kill(state.id)
    ended = (await node.next_end()).exit
    assert ended is not None
    assert (ended.code, ended.reason) == (137, ExitReason.KILLED)


@as_root
async def test_it_rotates_its_log(node: Node) -> None:
    more = fields(node, log_max_bytes=100_000, log_max_files=3)
    ended, _ = await node.run(guest("logger"), "5000", "100", **more)
    assert ended.reason is ExitReason.COMPLETED
    path = more["log_path"]
    found = [*sorted(path.parent.glob("0.log.*")), path]
    assert len(found) == 3
    numbers = [int(line.split()[2]) for file in found for line in log_lines(file)]
    assert numbers == list(range(5000 - len(numbers), 5000))


@as_root
@pytest.mark.parametrize("thing", ["link", "fifo"])
async def test_what_another_user_put_in_place_of_its_log_is_not_opened(node: Node, thing: str) -> None:
    more = fields(node)
    if thing == "link":
        more["log_path"].symlink_to(node.directory / "elsewhere")
    else:
        os.mkfifo(more["log_path"])
    await node.start(guest("hello"), **more)
    ended = (await node.next_end()).exit
    assert ended is not None
    assert (ended.code, ended.reason) == (128, ExitReason.CANNOT_RUN)
    assert ended.message.startswith("opening the log ")
    assert not (node.directory / "elsewhere").exists()


@as_root
async def test_files_are_the_users_to_read_as_their_modes_say(node: Node, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    for name, mode, group in (("all", 0o644, 0), ("group", 0o640, 4714), ("ours", 0o600, 0)):
        (volume / name).write_text(name)
        (volume / name).chmod(mode)
        os.chown(volume / name, 0, group)
    told = [word for name in ("all", "group", "ours") for word in ("read", f"/volume/{name}")]
    preopens = (Preopen(volume, "/volume"),)
    ended, lines = await node.run(
        guest("files"), *told, "write", "/volume/all", "x", **fields(node, preopens=preopens)
    )
    assert ended.code == 2
    assert lines == [
        "stdout F /volume/all: all",
        "stdout F /volume/group: group",
        "stdout F read /volume/ours: Permission denied",
        "stdout F write /volume/all: Permission denied",
    ]


@as_root
async def test_an_instance_has_the_identity(node: Node) -> None:
    state = await sleeping(node, **fields(node))
    root = node.provider.root(state.id)
    running = await begin(node, "copy", root=root, identity=OTHER)
    with contextlib.closing(running):
        await running.write(b"text")
        await until(lambda: status(running.pid)["Uid"] == ["4711"] * 4)
        running.close_stdin()
        assert (await running.task).code == 0
    ended, output, _ = await complete(
        node, "files", "write", "/new", "text", "read", "/new", root=root, identity=OTHER
    )
    assert (ended.code, output) == (0, b"/new: text\n")
    assert (root / "new").stat().st_uid == OTHER.uid


@as_root
@pytest.mark.parametrize("thing", ["link", "fifo", "junk", "huge"])
async def test_a_record_that_another_user_made_up(node: Node, thing: str) -> None:
    state = await sleeping(node, **fields(node))
    record = node.container(state.id) / "own" / "exit"
    if thing == "link":
        record.symlink_to("/etc/hostname")
    elif thing == "fifo":
        os.mkfifo(record)
    elif thing == "junk":
        record.write_bytes(b"junk")
    else:
        record.write_bytes(b"9" * 1000 + b"\0error\0" + b"0\0" * 3 + b"\0")
    await node.provider.kill(state.id)
    ended = (await node.next_end()).exit
    assert ended is not None
    assert (ended.code, ended.reason) == (137, ExitReason.KILLED)
    assert ended.message.startswith("the container's exit record cannot be read: exit: ")


@pytest.mark.parametrize("number", ["-1", "2147483648", "9" * 30])
def test_an_exit_code_that_is_none(number: str) -> None:
    with pytest.raises(files.CorruptFileError):
        files.decode_exit(f"{number}\0error\0000\0000\0000\0\0".encode())


async def test_ones_own_identity_is_for_everybody(node: Node) -> None:
    own = Identity(os.geteuid(), os.getegid())
    ended, _ = await node.run(guest("hello"), **fields(node, identity=own))
    assert ended.code == 0


OWN = Identity(1001, 1002, (1003,))


@pytest.mark.parametrize("wanted", [OWN, Identity(1001, 1002), Identity(1001, 1002, (1002, 1003))])
def test_who_may_become_nobody_else_is_oneself(wanted: Identity) -> None:
    check_identity(wanted, OWN)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Identity(0, 0), "user 0: this node runs as user 1001 and may not become another; run it as root"),
        (
            Identity(1001, 5),
            "group 5: this node runs as group 1002 and may not become another; run it as root",
        ),
        (Identity(1001, 1002, (7,)), "group 7: this node is not in it and may not join it; run it as root"),
    ],
)
def test_who_may_become_nobody_else_is_told_so(wanted: Identity, message: str) -> None:
    with pytest.raises(InvalidSpecError) as raised:
        check_identity(wanted, OWN)
    assert str(raised.value) == f"identity: {message}"
