"""A program on a terminal, as a person has it: what it shows is read until something appears."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Self


class Terminal:
    """A program with a pseudo-terminal as its controlling one. Use it as a context manager."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, rows: int = 24, columns: int = 80
    ) -> None:
        self._master, slave = os.openpty()
        self.resize(rows, columns)
        self._process = subprocess.Popen(
            command,
            env={**environment, "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.seen = b""
        self._looked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._master >= 0:
            os.close(self._master)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, pattern: str, timeout: float = 60.0) -> str:
        """Read until `pattern` appears behind what was expected before; what matched."""
        deadline = time.monotonic() + timeout
        while True:
            found = re.search(pattern.encode(), self.seen[self._looked :])
            if found is not None:
                self._looked += found.end()
                return found[0].decode()
            if not self._read(deadline):
                raise AssertionError(f"{pattern!r} did not appear in {self.seen[-2000:]!r}")

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.seen += data
        return bool(data)

    @property
    def is_cooked(self) -> bool:
        """Whether the terminal itself makes lines, and signals of keys."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ISIG)

    def hang_up(self) -> None:
        """Take the terminal away, as when its window is closed."""
        os.close(self._master)
        self._master = -1

    def wait_silent(self, timeout: float = 60.0) -> int:
        """The exit code, whatever is still to be read."""
        return self._process.wait(timeout)

    def wait(self, timeout: float = 60.0) -> int:
        """The exit code, after all output was read."""
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            pass
        return self._process.wait(max(deadline - time.monotonic(), 0.1))

    def settle(self, quiet: float = 0.3) -> None:
        """Read until nothing has come for `quiet` seconds, which is how a person sees that all is there."""
        while self._read(time.monotonic() + quiet):
            pass
