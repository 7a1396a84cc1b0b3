"""The files of a container's directory: what the launcher reads and what a container's process leaves.

It exists so that the encodings are pure functions, tried against the C code that reads and writes the
other side (`native/spec.h`, `native/records.h`). It must not know when any of it happens.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

from providers.base import ContainerSpec, Exit, ExitReason, InvalidSpecError

FORMAT = "vkubelet container 1"
ARGUMENTS_MAX = 1536 * 1024
"""Bytes that arguments and environment may take together, one more for each string."""
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


@dataclasses.dataclass(frozen=True, slots=True)
class StoredSpec:
    """What a new agent needs of a spec that an old one wrote."""

    labels: dict[str, str]
    log_path: str


def encode_spec(spec: ContainerSpec) -> bytes:
    """The spec as `native/spec.h` describes it. Raises InvalidSpecError naming what cannot be passed on."""
    names = {name for name, _ in spec.env}
    env = spec.env if "PWD" in names else (*spec.env, ("PWD", spec.working_dir))
    fields = [
        ("k", "kind", spec.artifact.kind.value),
        ("m", "artifact", str(spec.artifact.path)),
        ("l", "log_path", str(spec.log_path)),
        ("b", "log_max_bytes", str(spec.log_max_bytes)),
        ("f", "log_max_files", str(spec.log_max_files)),
        ("j", "labels", json.dumps(dict(spec.labels))),
    ]
    if spec.memory_limit is not None:
        fields.append(("y", "memory_limit", str(spec.memory_limit)))
    for preopen in spec.preopens:
        fields.append(("r" if preopen.read_only else "w", "preopens", str(preopen.host)))
        fields.append(("g", "preopens", preopen.guest))
    passed = [("a", f"args[{index}]", argument) for index, argument in enumerate(spec.args)]
    for name, value in env:
        passed.append(("n", f"env {name!r}", name))
        passed.append(("v", f"env {name!r}", value))
    parts = [FORMAT.encode()]
    for tag, what, value in [*fields, *passed]:
        try:
            encoded = value.encode()
        except UnicodeEncodeError as error:
            raise InvalidSpecError(f"{what}: is not valid UTF-8") from error
        if b"\0" in encoded:
            raise InvalidSpecError(f"{what}: holds a NUL character")
        parts.append(tag.encode() + encoded)
    size = sum(map(len, parts[1 + len(fields) :]))
    if size > ARGUMENTS_MAX:
        raise InvalidSpecError(f"args and env: {size} bytes are more than {ARGUMENTS_MAX}")
    return b"\0".join([*parts, b".", b""])


def decode_spec(data: bytes) -> StoredSpec:
    """Labels and log path of an encoded spec. Raises CorruptFileError."""
    strings = _strings(data)
    if next(strings, None) != FORMAT or not data.endswith(b"\0.\0"):
        raise CorruptFileError("spec: not a container spec of this format")
    labels: dict[str, str] | None = None
    log_path = ""
    for text in strings:
        if text.startswith("j"):
            labels = _labels(text[1:])
        elif text.startswith("l"):
            log_path = text[1:]
    if labels is None or not log_path:
        raise CorruptFileError("spec: labels or log path are missing")
    return StoredSpec(labels, log_path)


def _labels(text: str) -> dict[str, str]:
    try:
        labels = json.loads(text)
    except ValueError as error:
        raise CorruptFileError(f"spec: labels: {error}") from error
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise CorruptFileError("spec: labels are no object of strings")
    return labels


def encode_started(started: Started) -> bytes:
    """A claim, as a container's process writes it."""
    return f"{started.pid}\0{started.start_time}\0{started.started_at}\0".encode()


def decode_started(data: bytes) -> Started:
    """Raises CorruptFileError."""
    try:
        pid, start_time, started_at = map(int, _strings(data))
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
        code, reason, signal, started_at, finished_at, message = _strings(data)
        return Exit(
            code=int(code),
            reason=ExitReason(reason),
            message=message,
            started_at=int(started_at),
            finished_at=int(finished_at),
            signal=int(signal),
        )
    except ValueError as error:
        raise CorruptFileError(f"exit: {error}") from error


def _strings(data: bytes) -> Iterator[str]:
    """The NUL-terminated strings of `data`. What a guest said may be no UTF-8, or cut within a character."""
    if not data.endswith(b"\0"):
        raise CorruptFileError("cut short")
    for part in data[:-1].split(b"\0"):
        yield part.decode(errors="ignore")
