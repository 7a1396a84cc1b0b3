"""Containers that people attach to: their input, their terminal, several clients, slow and strange ones."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import struct
from pathlib import Path

import pytest
from waiting import until

from providers.base import ContainerState, ExitReason, ProviderError

from .conftest import DEADLINE, Node, guest, log_lines, stop

INPUT, STDOUT, STDERR, RESIZE, NO_MORE, LISTENS = range(6)
PACKET = 32 * 1024


class Client:
    """One who is attached, over the socket that the provider gave."""

    def __init__(self, connection: socket.socket) -> None:
        assert not connection.getblocking()
        assert connection.type == socket.SOCK_SEQPACKET
        connection.settimeout(DEADLINE)
        self.connection = connection

    async def send(self, kind: int, data: bytes = b"") -> None:
        await asyncio.to_thread(self.connection.send, bytes([kind]) + data)

    async def receive(self) -> tuple[int, bytes]:
        """The next packet; (0, b"") at the end."""
        try:
            packet = await asyncio.to_thread(self.connection.recv, 1 << 20)
        except ConnectionResetError:  # it was killed with input unread; what it sent is still there
            packet = await asyncio.to_thread(self.connection.recv, 1 << 20)
        assert len(packet) <= PACKET
        return (packet[0], packet[1:]) if packet else (0, b"")

    async def read_until(self, text: bytes, kind: int = STDOUT) -> bytes:
        data = b""
        while text not in data:
            found, more = await self.receive()
            assert found, data
            data += more if found == kind else b""
        return data

    async def read_all(self) -> dict[int, bytes]:
        data = {STDOUT: b"", STDERR: b""}
        while True:
            kind, more = await self.receive()
            if not kind:
                return data
            data[kind] += more

    def close(self) -> None:
        self.connection.close()


async def attach(node: Node, state: ContainerState) -> Client:
    return Client(await node.provider.attach(state.id))


async def code_of(node: Node) -> int:
    ended = (await node.next_end()).exit
    assert ended is not None
    return ended.code


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_what_an_attended_terminal_shows_is_for_who_attaches(node: Node, pause: float) -> None:
    state = await node.start(guest("hello"), stdin=True, tty=True, attended=True)
    await asyncio.sleep(pause)
    assert log_lines(state.log_path) == []
    client = await attach(node, state)
    shown = await client.read_all()
    assert shown[STDOUT] == b"hello from a guest\r\nhello from its other stream\r\n"
    assert await code_of(node) == 0
    assert log_lines(state.log_path) == [
        "stdout F hello from a guest",
        "stdout F hello from its other stream",
    ]


async def test_one_that_nobody_attends_is_logged_some_seconds_later(node: Node) -> None:
    state = await node.start(guest("terminal"), stdin=True, tty=True, attended=True)
    await until(lambda: log_lines(state.log_path) == ["stdout F terminal 1 1 1"])
    client = await attach(node, state)
    await client.send(INPUT, b"x\n")
    await client.read_until(b"heard x")


async def test_input_and_output(node: Node) -> None:
    state = await node.start(guest("copy"), stdin=True)
    client = await attach(node, state)
    await client.send(INPUT, b"one\n")
    assert await client.read_until(b"\n") == b"one\n"
    await client.send(INPUT, b"two\n")
    assert await client.read_until(b"\n") == b"two\n"
    client.close()
    # Who comes later finds it waiting, and what was written meanwhile in the log only.
    client = await attach(node, state)
    await client.send(INPUT, b"three\n")
    assert await client.read_until(b"\n") == b"three\n"
    assert log_lines(state.log_path) == ["stdout F one", "stdout F two", "stdout F three"]
    await node.provider.kill(state.id)
    assert await client.read_all() == {STDOUT: b"", STDERR: b""}
    client.close()
    assert await code_of(node) == 137
    await node.provider.remove(state.id)
    assert not node.container(state.id).exists()
    assert list((node.run_dir / "trash").iterdir()) == []


async def test_several_clients(node: Node) -> None:
    state = await node.start(guest("copy"), stdin=True, stdin_once=True)
    clients = [await attach(node, state) for _ in range(5)]
    # They are let in in the order in which they came: whoever is heard is the last of these.
    await clients[4].send(INPUT, b"text\n")
    for client in clients:
        assert await client.read_until(b"\n") == b"text\n"
    for client in clients[:2]:
        await client.send(LISTENS)
        client.close()
    await clients[2].send(INPUT, b"last")
    await clients[2].send(NO_MORE)
    for client in clients[2:]:
        assert await client.read_all() == {STDOUT: b"last", STDERR: b"9 bytes\n"}
        client.close()
    assert await code_of(node) == 0


async def test_much_in_both_directions(node: Node) -> None:
    state = await node.start(guest("copy"), stdin=True, stdin_once=True, log_max_bytes=1 << 30)
    client = await attach(node, state)
    given = os.urandom(5_000_000)

    async def feed() -> None:
        for at in range(0, len(given), PACKET):
            await client.send(INPUT, given[at : at + PACKET])
        await client.send(NO_MORE)

    _, received = await asyncio.gather(feed(), client.read_all())
    assert received == {STDOUT: given, STDERR: b"5000000 bytes\n"}
    assert await code_of(node) == 0
    client.close()


async def test_input_goes_on_without_once(node: Node) -> None:
    state = await node.start(guest("copy"), stdin=True)
    client, other = await attach(node, state), await attach(node, state)
    await client.send(INPUT, b"a")
    await client.send(NO_MORE)
    await client.send(INPUT, b"ignored")
    assert await client.read_until(b"a") == b"a"
    client.close()
    await other.read_until(b"a")
    await other.send(INPUT, b"b")
    assert await other.read_until(b"b") == b"b"
    other.close()
    await node.provider.kill(state.id)
    await node.next_end()


@pytest.mark.parametrize("said", [[], [(INPUT, b"all")], [(RESIZE, b"\0\1\0\1")], [(NO_MORE, b"")]])
async def test_once_ends_with_the_first_that_goes(node: Node, said: list[tuple[int, bytes]]) -> None:
    state = await node.start(guest("copy"), stdin=True, stdin_once=True)
    client = await attach(node, state)
    for packet in said:
        await client.send(*packet)
    client.close()
    assert await code_of(node) == 0
    expected = [f"stdout P {data.decode()}" for kind, data in said if kind == INPUT]
    assert sorted(log_lines(state.log_path)) == [f"stderr F {3 * len(expected)} bytes", *expected]


async def test_who_only_listens_ends_nothing(node: Node) -> None:
    state = await node.start(guest("copy"), stdin=True, stdin_once=True)
    listener = await attach(node, state)
    await listener.send(LISTENS)
    listener.close()
    client = await attach(node, state)
    await client.send(INPUT, b"still open")
    assert await client.read_until(b"open") == b"still open"
    client.close()
    assert await code_of(node) == 0


async def test_a_terminal(node: Node) -> None:
    state = await node.start(guest("terminal"), stdin=True, tty=True)
    client = await attach(node, state)
    await client.send(INPUT, b"some\n")
    assert b"heard some\r\n" in await client.read_until(b"heard some\r\n")
    assert (await attached(node, state)).startswith(b"other\r\n")
    await client.send(INPUT, b"\x04")
    assert (await client.read_all())[STDOUT].endswith(b"bye\r\n")
    assert await code_of(node) == 3
    client.close()
    lines = log_lines(state.log_path)
    assert "stdout F terminal 1 1 1" in lines
    assert lines[-1] == "stdout F bye"


async def attached(node: Node, state: ContainerState) -> bytes:
    """What another client sees of its own line."""
    client = await attach(node, state)
    await client.send(INPUT, b"other\n")
    seen = await client.read_until(b"heard other\r\n")
    client.close()
    return seen


async def test_all_that_a_terminal_showed_is_there_at_the_end(node: Node) -> None:
    state = await node.start(guest("logger"), "3000", "100", tty=True, log_max_bytes=1 << 30)
    client = await attach(node, state)
    received = (await client.read_all())[STDOUT]
    await node.next_end()
    client.close()
    lines = log_lines(state.log_path)
    assert len(lines) == 3000
    shown = received.decode().splitlines()
    assert [line.removeprefix("stdout F ") for line in lines][3000 - len(shown) :][1:] == shown[1:]


async def test_a_trap_on_a_terminal_is_in_its_log(node: Node) -> None:
    ended, lines = await node.run(guest("trap"), tty=True)
    assert ended.reason is ExitReason.TRAP
    assert lines[-1] == "stdout F     wasm trap: integer divide by zero"


async def test_a_key_ends_it(node: Node) -> None:
    state = await node.start(guest("copy"), stdin=True, tty=True)
    client = await attach(node, state)
    await client.send(INPUT, b"here\n")
    await client.read_until(b"here\r\nhere\r\n")
    await client.send(INPUT, b"\x03")
    ended = (await node.next_end()).exit
    assert ended is not None
    assert (ended.code, ended.signal) == (130, signal.SIGINT)
    client.close()


async def test_input_of_a_terminal_ends_once(node: Node) -> None:
    state = await node.start(guest("terminal"), stdin=True, stdin_once=True, tty=True)
    client = await attach(node, state)
    await client.send(INPUT, b"begun")
    client.close()
    assert await code_of(node) == 3
    assert log_lines(state.log_path)[-1].endswith("bye")


async def test_a_terminal_without_input_takes_none(node: Node) -> None:
    state = await node.start(guest("terminal"), tty=True)
    client = await attach(node, state)
    await client.send(INPUT, b"ignored\n\x04\x03")
    await client.send(RESIZE, struct.pack("!HH", 24, 80))
    await client.send(NO_MORE)
    other = await attach(node, state)
    await other.send(LISTENS)
    assert node.ended.empty()
    await node.provider.kill(state.id)
    assert b"ignored" not in (await client.read_all())[STDOUT]
    await node.next_end()
    client.close()
    other.close()


async def test_a_client_that_takes_nothing_is_let_go_of(node: Node) -> None:
    state = await node.start(guest("copy"), stdin=True, stdin_once=True, log_max_bytes=1 << 30)
    slow, client = await attach(node, state), await attach(node, state)
    await slow.send(LISTENS)
    given = os.urandom(2_000_000)

    async def feed() -> None:
        for at in range(0, len(given), PACKET):
            await client.send(INPUT, given[at : at + PACKET])
        await client.send(NO_MORE)

    _, received = await asyncio.gather(feed(), client.read_all())
    assert received[STDOUT] == given
    taken = (await slow.read_all())[STDOUT]
    assert len(taken) < len(given)
    assert given.startswith(taken)
    assert await code_of(node) == 0
    for each in (slow, client):
        each.close()


@pytest.mark.parametrize(
    "packet", [b"\x07", b"\xff" * 100, bytes([RESIZE, 1]), bytes([NO_MORE, 1]), b"\0" * (PACKET + 2), b""]
)
async def test_strange_packets_end_nobody_but_their_sender(node: Node, packet: bytes) -> None:
    state = await node.start(guest("copy"), stdin=True)
    client, strange = await attach(node, state), await attach(node, state)
    await asyncio.to_thread(strange.connection.send, packet)
    if packet:
        assert await strange.read_all() == {STDOUT: b"", STDERR: b""}
    await client.send(INPUT, b"well")
    assert await client.read_until(b"well") == b"well"
    for each in (strange, client):
        each.close()
    await node.provider.kill(state.id)
    await node.next_end()


async def test_more_clients_than_it_takes_at_once(node: Node) -> None:
    state = await node.start(guest("copy"), stdin=True)
    await until((node.container(state.id) / "started").exists)
    process = Path(f"/proc/{state.pid}/fd")
    first = await attach(node, state)
    await first.send(INPUT, b"x")
    await first.read_until(b"x")
    before = len(os.listdir(process))  # noqa: PTH208
    others = [await attach(node, state) for _ in range(50)]
    await first.send(INPUT, b"y")
    await first.read_until(b"y")
    for client in others:
        client.close()
    await until(lambda: len(os.listdir(process)) == before)  # noqa: PTH208
    await first.send(INPUT, b"z")
    assert await first.read_until(b"z") == b"z"
    first.close()
    await node.provider.kill(state.id)
    await node.next_end()


async def test_the_next_agent_attaches(node: Node) -> None:
    state = await node.start(guest("copy"), stdin=True, stdin_once=True)
    await until((node.container(state.id) / "started").exists)
    client = await attach(node, state)
    await node.vanish()
    await client.send(INPUT, b"first ")
    assert await client.read_until(b"first ") == b"first "
    assert [found.id for found in await node.open()] == [state.id]
    other = await attach(node, state)
    await other.send(INPUT, b"second")
    assert await client.read_until(b"second") == b"second"
    client.close()
    assert (await other.read_all())[STDERR] == b"12 bytes\n"
    other.close()
    assert await code_of(node) == 0
    await stop(node)
    await node.open()


async def test_who_may_attach(node: Node) -> None:
    state = await node.start(guest("copy"), stdin=True)
    assert stat.S_IMODE((node.container(state.id) / "attach.sock").stat().st_mode) == 0o600
    plain = await node.start(guest("nap"))
    with pytest.raises(ProviderError, match="has no standard input"):
        await node.provider.attach(plain.id)
    with pytest.raises(ProviderError, match="does not run"):
        await node.provider.attach("f" * 64)
    for each in (state, plain):
        await node.provider.kill(each.id)
        await node.next_end()
    with pytest.raises(ProviderError, match="does not run"):
        await node.provider.attach(state.id)


async def test_an_ordinary_container_has_no_thread_of_ours(node: Node) -> None:
    plain, attachable = await node.start(guest("nap")), await node.start(guest("nap"), tty=True)
    await until(lambda: threads(attachable) > 1 and threads(attachable) - threads(plain) == 1)
    for state in (plain, attachable):
        await node.provider.kill(state.id)
        await node.next_end()


def threads(state: ContainerState) -> int:
    return len(os.listdir(f"/proc/{state.pid}/task"))  # noqa: PTH208
