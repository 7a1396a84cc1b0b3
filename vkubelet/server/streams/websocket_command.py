"""A command's channels over WebSocket: the old protocols of the kubelet, and v5.channel.k8s.io.

It exists to hold which protocol has which channels (cri-streaming, remotecommand/websocket.go; for v5
apiserver, util/proxy/websocket.go, which a kubelet with ExtendWebSocketsToKubelet serves). It must not know
commands.
"""

from __future__ import annotations

from aiohttp import web

from vkubelet.pods.interaction import Wanted
from vkubelet.server.streams.command import CommandChannels
from vkubelet.server.streams.negotiation import websocket_protocols
from vkubelet.server.streams.websocket import WebSocketChannels, accept

V5 = "v5.channel.k8s.io"
BINARY_V4 = "v4.channel.k8s.io"
TEXT_V4 = "v4.base64.channel.k8s.io"
TEXT = "base64.channel.k8s.io"
BINARY = "channel.k8s.io"
OLD = ("", BINARY, TEXT, BINARY_V4, TEXT_V4)

_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE = range(5)


async def open_channels(
    request: web.Request, wanted: Wanted, idle_timeout: float
) -> tuple[web.WebSocketResponse, WebSocketChannels, CommandChannels]:
    """Open the WebSocket and its channels. Raises RefusedError, HTTPException.

    A client that names v5 gets it or nothing; the others never do.
    """
    offered = (V5,) if V5 in websocket_protocols(request.headers) else OLD
    socket, transport, protocol = await accept(request, offered)
    opened = WebSocketChannels(
        socket,
        transport,
        (wanted.stdin, False, False, False, True),
        idle_timeout,
        text=protocol in (TEXT, TEXT_V4),
        close_signal=protocol == V5,
    )
    ends = opened.channels
    if not wanted.tty:
        ends[_RESIZE].discard()
    channels = CommandChannels(
        ends[_ERROR],
        json_status=protocol in (V5, BINARY_V4, TEXT_V4),
        stdin=ends[_STDIN] if wanted.stdin else None,
        stdout=ends[_STDOUT] if wanted.stdout else None,
        stderr=ends[_STDERR] if wanted.stderr else None,
        resize=ends[_RESIZE] if wanted.tty else None,
    )
    return socket, opened, channels


async def greet(channels: CommandChannels) -> None:
    """Say on the first channel of the client's that the connection stands. Raises ChannelClosedError."""
    await (channels.stdout or channels.stderr or channels.error).write(b"")
