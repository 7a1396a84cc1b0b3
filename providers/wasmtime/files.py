"""The records of a container's directory: what a container's process leaves there.

It exists so that the encodings are pure functions, tried against the C code that writes the other side
(`native/records.h`). It must not know when any of it happens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from providers.base import Exit, ExitReason

MESSAGE_MAX = 4096


class CorruptFileError(ValueError):
    """A file in a container's directory is not what was written there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """The claim that a container's process leaves before anything else.

    `start_time` is the process's own, in clock ticks since boot; `started_at` is in ns since the epoch.
    `pid` is 0 if the agent has taken the container back before a process could claim it.
    """

    pid: int
    start_time: int
    started_at: int


def encode_started(started: Started) -> bytes:
    """A claim, as a container's process writes it."""
    return f"{started.pid}\0{started.start_time}\0{started.started_at}\0".encode()


def decode_started(data: bytes) -> Started:
    """Raises CorruptFileError."""
    try:
        pid, start_time, started_at = map(int, strings(data))
    except ValueError as error:
        raise CorruptFileError(f"started: {error}") from error
    return Started(pid, start_time, started_at)


def encode_exit(ended: Exit) -> bytes:
    """An exit record, as a container's process writes it."""
    fields = (
        ended.code,
        ended.reason.value,
        ended.signal,
        ended.started_at,
        ended.finished_at,
        ended.message,
    )
    return "".join(f"{field}\0" for field in fields).encode()


def decode_exit(data: bytes) -> Exit:
    """Raises CorruptFileError."""
    try:
        code, reason, signal, started_at, finished_at, message = strings(data)
        return Exit(
            code=_number(code, 2**31),
            reason=ExitReason(reason),
            message=message,
            started_at=_number(started_at, 2**63),
            finished_at=_number(finished_at, 2**63),
            signal=_number(signal, 2**31),
        )
    except ValueError as error:
        raise CorruptFileError(f"exit: {error}") from error


def _number(text: str, end: int) -> int:
    """A number as the API has them: the record may be another user's."""
    number = int(text)
    if not 0 <= number < end:
        raise ValueError(f"{text:.40} is no number that stands there")
    return number


def strings(data: bytes) -> Iterator[str]:
    """The NUL-terminated strings of `data`. What a guest said may be no UTF-8, or cut within a character."""
    if not data.endswith(b"\0"):
        raise CorruptFileError("cut short")
    for part in data[:-1].split(b"\0"):
        yield part.decode(errors="ignore")
