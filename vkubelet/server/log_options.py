"""What a client asks of a log: v1.PodLogOptions, decoded from a query and validated as the kubelet does.

It exists so that every accepted, defaulted and refused query is a row in a table. It must know neither
files nor HTTP beyond the names in a query. Rules: the API's generated conversion of PodLogOptions and
ValidatePodLogOptions of k8s.io/kubernetes, with split streams (`stream`) on.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from vkubelet.server import instant

STREAMS = {
    "All": frozenset({b"stdout", b"stderr"}),
    "Stdout": frozenset({b"stdout"}),
    "Stderr": frozenset({b"stderr"}),
}

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INT64 = range(-(2**63), 2**63)


class UndecodableError(ValueError):
    """A parameter is not of its type."""


class InvalidOptionsError(ValueError):
    """Every parameter is of its type, and one of them or two together make no sense."""


@dataclasses.dataclass(frozen=True, slots=True)
class LogOptions:
    """A valid request for a log.

    `since` is nanoseconds since the epoch: lines before it are left out. `tail_lines` counts lines of the
    log file, of which a long line of output takes several. `limit_bytes` counts what the client gets.
    """

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since: int | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None
    streams: frozenset[bytes] = STREAMS["All"]


def decode(query: Mapping[str, str], now: int) -> LogOptions:
    """The options in `query`, the first value of each parameter; `now` is nanoseconds since the epoch.

    Raises UndecodableError or InvalidOptionsError, naming the parameter.
    """
    parameters = dict(query)
    if legacy := parameters.get("tail"):
        parameters["tailLines"] = legacy
        if legacy == "all":
            del parameters["tailLines"]
    tail_lines = _integer(parameters, "tailLines")
    limit_bytes = _integer(parameters, "limitBytes")
    since_seconds = _integer(parameters, "sinceSeconds")
    since_time = _instant(parameters, "sinceTime")
    stream = parameters.get("stream", "All")

    if tail_lines is not None and tail_lines < 0:
        raise InvalidOptionsError("tailLines: must be greater than or equal to 0")
    if limit_bytes is not None and limit_bytes < 1:
        raise InvalidOptionsError("limitBytes: must be greater than 0")
    if since_seconds is not None and since_time is not None:
        raise InvalidOptionsError("at most one of `sinceTime` or `sinceSeconds` may be specified")
    if since_seconds is not None and since_seconds < 1:
        raise InvalidOptionsError("sinceSeconds: must be greater than 0")
    if stream not in STREAMS:
        raise InvalidOptionsError(f"stream: must be one of {', '.join(STREAMS)}")
    if stream != "All" and tail_lines is not None:
        raise InvalidOptionsError("`tailLines` and specific `stream` are mutually exclusive for now")

    since = since_time if since_seconds is None else now - since_seconds * instant.NANOSECOND
    return LogOptions(
        follow=_boolean(parameters, "follow"),
        previous=_boolean(parameters, "previous"),
        timestamps=_boolean(parameters, "timestamps"),
        since=since if since is not None and since > 0 else None,
        tail_lines=tail_lines,
        limit_bytes=limit_bytes,
        streams=STREAMS[stream],
    )


def _boolean(parameters: Mapping[str, str], name: str) -> bool:
    """Kubernetes' reading: only absence, `0` and `false` are false; an empty value is true."""
    value = parameters.get(name)
    return value is not None and value != "0" and value.lower() != "false"


def _integer(parameters: Mapping[str, str], name: str) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    if not _INTEGER.fullmatch(value) or len(value) > 40 or int(value) not in _INT64:
        raise UndecodableError(f"{name}: {value[:40]!r} is no integer of 64 bits")
    return int(value)


def _instant(parameters: Mapping[str, str], name: str) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    if value in ("", "null"):
        return 0
    try:
        return instant.parse(value.encode())
    except ValueError as error:
        raise UndecodableError(f"{name}: {error}") from error
