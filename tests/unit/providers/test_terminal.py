"""What a guest can do with its terminal, and with none."""

from __future__ import annotations

import asyncio
import os
import pty
import struct
import termios

from providers.base import Streams

from .conftest import Node, guest, log_lines
from .test_attach import INPUT, RESIZE, STDOUT, attach
from .test_run import begin, read_all, read_until

NOTTY = 59  # of WASI preview 1
FAULT = 21


class Terminal:
    """A guest on a terminal of the test's own."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()

    async def run(self, node: Node) -> int:
        spec = await node.spec(guest("terminal_modes"), log_path=None, tty=True)
        streams = Streams(self.theirs, self.theirs, self.theirs)
        return int((await node.provider.run(spec, streams)).code)

    async def ask(self, text: bytes, answer: bytes) -> bytes:
        os.write(self.ours, text)
        return await read_until(self.ours, answer)

    def close(self) -> None:
        os.close(self.ours)
        os.close(self.theirs)


async def test_raw_and_as_it_was(node: Node) -> None:
    terminal = Terminal()
    run = asyncio.ensure_future(terminal.run(node))
    await read_until(terminal.ours, b"ready\r\n")
    before = termios.tcgetattr(terminal.theirs)
    await terminal.ask(b"r\n", b"r: 0\r\n")
    raw = termios.tcgetattr(terminal.theirs)
    assert not raw[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
    assert raw[1] == before[1]
    # No end of a line is waited for, nothing is echoed, and no key ends it.
    assert await terminal.ask(b"\x03", b"\n") == b"byte 3\r\n"
    assert await terminal.ask(b"\r", b"\n") == b"byte 13\r\n"
    assert await terminal.ask(b"r", b"\n") == b"r: 0\r\n"
    assert await terminal.ask(b"c", b"\n") == b"c: 0\r\n"
    assert termios.tcgetattr(terminal.theirs) == before
    assert await terminal.ask(b"cq\n", b"c: 0\r\n") == b"cq\r\nc: 0\r\n"
    assert await run == 5
    terminal.close()


async def test_its_size(node: Node) -> None:
    terminal = Terminal()
    termios.tcsetwinsize(terminal.ours, (33, 121))
    run = asyncio.ensure_future(terminal.run(node))
    await read_until(terminal.ours, b"ready\r\n")
    await terminal.ask(b"s\n", b"size: 0, 33 rows, 121 columns\r\n")
    termios.tcsetwinsize(terminal.ours, (65535, 1))
    await terminal.ask(b"s\n", b"size: 0, 65535 rows, 1 columns\r\n")
    await terminal.ask(b"f\n", b"beyond: %d %d %d 0\r\n" % (FAULT, FAULT, FAULT))
    os.write(terminal.ours, b"q\n")
    assert await run == 5
    terminal.close()


async def test_without_a_terminal(node: Node) -> None:
    running = await begin(node, "terminal_modes")
    await running.write(b"rcsq")
    assert await read_all(running.stdout) == (
        b"ready\nr: %d\nc: %d\nsize: %d, 7 rows, 7 columns\n" % (NOTTY, NOTTY, NOTTY)
    )
    assert (await running.task).code == 5
    running.close()


async def test_the_size_that_a_client_has(node: Node) -> None:
    state = await node.start(guest("terminal_modes"), stdin=True, tty=True)
    client = await attach(node, state)
    for rows, columns in ((24, 80), (50, 200)):
        await client.send(RESIZE, struct.pack("!HH", rows, columns))
        await client.send(INPUT, b"s\n")
        await client.read_until(b"size: 0, %d rows, %d columns\r\n" % (rows, columns))
    await client.send(INPUT, b"q\n")
    assert (await client.read_all())[STDOUT] == b"q\r\n"
    ended = (await node.next_end()).exit
    assert ended is not None
    assert ended.code == 5
    client.close()
    assert log_lines(state.log_path)[-1] == "stdout F q"
