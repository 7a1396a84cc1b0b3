"""Connecting to Unix sockets whose directories have long paths.

It exists because the address of such a socket is limited to 107 bytes, and a directory's path is not. It must
not know who listens.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def connect(directory: Path, name: str, kind: socket.SocketKind) -> socket.socket:
    """A non-blocking connection to the socket `name` in `directory`. Raises OSError."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    client = socket.socket(socket.AF_UNIX, kind)
    try:
        client.setblocking(False)
        client.connect(f"/proc/self/fd/{descriptor}/{name}")
    except BaseException:
        client.close()
        raise
    finally:
        os.close(descriptor)
    return client
