"""What a running container can be asked by its files: to be attached to, and to stop.

It exists because a guest gets no signal: who wants it to end can only let it see a file, or the end of its
input. It must not know processes. The socket is described in `native/attach.h`.
"""

from __future__ import annotations

import logging
import socket

from providers.base import ProviderError
from providers.wasmtime import sockets
from providers.wasmtime.directory import RunDirectory
from providers.wasmtime.files import CorruptFileError

_log = logging.getLogger(__name__)

_END_OF_INPUT = b"\x06"


def attach(directory: RunDirectory, container_id: str) -> socket.socket:
    """A connection to a container with `stdin` or `tty`. Raises ProviderError; see Provider.attach."""
    try:
        return sockets.connect(directory.container(container_id), "attach.sock", socket.SOCK_SEQPACKET)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ProviderError(f"container {container_id} has no standard input or has ended") from error
    except OSError as error:
        raise ProviderError(f"attaching to container {container_id}: {error}") from error


def ask_to_stop(directory: RunDirectory, container_id: str) -> bool:
    """Ask a guest to stop in all ways in which it can hear; False if there is none."""
    asked = False
    try:
        spec = directory.read_spec(container_id)
        if spec.stop_file:
            directory.ask_to_stop(container_id)
            asked = True
        if spec.stdin:
            with attach(directory, container_id) as client:
                client.send(_END_OF_INPUT)
            asked = True
    except (ProviderError, CorruptFileError, OSError) as error:
        _log.warning("container %s cannot be asked to stop: %s", container_id, error)
    return asked
