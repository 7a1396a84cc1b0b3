"""The one error of the framing: what came in cannot be SPDY/3.1, or what was asked cannot be sent."""

from __future__ import annotations


class SpdyError(Exception):
    """The connection cannot go on; the text says why, for a log."""
