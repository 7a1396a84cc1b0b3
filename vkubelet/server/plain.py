"""Answers that are a line of text, as Go's http.Error makes them.

It exists because a kubelet's callers see the same from all of its routes. It must not know any route.
"""

from __future__ import annotations

from aiohttp import web

NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
"""What browsers are told: that it is what it says, and nothing to be guessed."""


def plain(status: int, text: str) -> web.Response:
    """A line, without its end."""
    return web.Response(status=status, text=f"{text}\n", headers=NO_SNIFF)
