"""A container's spec as a file of its directory: what the agent writes, the launcher and later agents read.

It exists so that the encoding is a pair of pure functions, tried against each other and against the C code
that reads it too (`native/spec.h`, which describes it). It must not know when any of it happens.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from providers.base import (
    Artifact,
    ContainerSpec,
    FileMount,
    Group,
    Identity,
    InvalidSpecError,
    ModuleKind,
    Preopen,
)
from providers.wasmtime.files import CorruptFileError, strings

FORMAT = "vkubelet container 1"
ARGUMENTS_MAX = 1536 * 1024
"""Bytes that arguments and environment may take together, one more for each string."""

_FLAGS = (
    ("i", "stdin"),
    ("c", "stdin_once"),
    ("t", "tty"),
    ("A", "attended"),
    ("u", "network"),
    ("p", "read_only_root"),
)
_NUMBERS = (
    ("y", "memory_limit"),
    ("x", "cpu_limit"),
    ("q", "cpu_request"),
    ("O", "oom_score_adj"),
    ("z", "runs"),
)
_OF_GROUP = (
    ("Y", "memory_limit"),
    ("X", "cpu_limit"),
    ("Q", "cpu_request"),
    ("K", "runtimes"),
    ("Z", "process_limit"),
)


def encode(
    spec: ContainerSpec,
    stop_directory: Path,
    cgroups: Iterable[Path] = (),
    own_preopens: Iterable[Preopen] = (),
) -> bytes:
    """The spec as `native/spec.h` describes it. Raises InvalidSpecError naming what cannot be passed on.

    `stop_directory` is for `stop_file`, `cgroups` are the files by which the process joins its cgroups, and
    `own_preopens` directories to read beside those of the spec: the provider's own business, which `decode`
    leaves out.
    """
    fields = [
        ("k", "kind", spec.artifact.kind.value),
        ("m", "artifact", str(spec.artifact.path)),
        ("j", "labels", json.dumps(dict(spec.labels))),
    ]
    if spec.log_path is not None:
        fields.append(("l", "log_path", str(spec.log_path)))
    fields.append(("b", "log_max_bytes", str(spec.log_max_bytes)))
    fields.append(("f", "log_max_files", str(spec.log_max_files)))
    for tag, name in _NUMBERS:
        number = getattr(spec, name)
        if number is not None:
            fields.append((tag, name, str(number)))
    if spec.group is not None:
        fields.append(("N", "group", spec.group.name))
        of_group = ((tag, name, getattr(spec.group, name)) for tag, name in _OF_GROUP)
        fields += [
            (tag, f"group: {name}", str(number)) for tag, name, number in of_group if number is not None
        ]
    if spec.root is not None:
        fields.append(("o", "root", str(spec.root)))
    fields += [(tag, name, "") for tag, name in _FLAGS if getattr(spec, name)]
    if spec.stop_file:
        fields.append(("s", "stop_file", str(stop_directory)))
    fields += [("h", "cgroups", str(path)) for path in cgroups]
    for preopen in spec.preopens:
        fields.append(("r" if preopen.read_only else "w", "preopens", str(preopen.host)))
        fields.append(("g", "preopens", preopen.guest))
        fields += _beneath("preopens", preopen.beneath)
    for preopen in own_preopens:
        fields.append(("P", "own_preopens", str(preopen.host)))
        fields.append(("g", "own_preopens", preopen.guest))
    for file in spec.files:
        fields.append(("R" if file.read_only else "W", "files", str(file.host)))
        fields.append(("G", "files", file.guest))
        fields += _beneath("files", file.beneath)
    if spec.identity is not None:
        numbers = (spec.identity.uid, spec.identity.gid, *spec.identity.groups)
        fields += [("e", "identity", str(number)) for number in numbers]
    passed = [("d", "working_dir", spec.working_dir)]
    passed += [("a", f"args[{index}]", argument) for index, argument in enumerate(spec.args)]
    for name, value in spec.env:
        passed.append(("n", f"env {name!r}", name))
        passed.append(("v", f"env {name!r}", value))
    arguments = _joined(passed)
    size = len(arguments) - len(passed)
    if size > ARGUMENTS_MAX:
        raise InvalidSpecError(f"args and env: {size} bytes are more than {ARGUMENTS_MAX}")
    return b"".join((FORMAT.encode(), b"\0", _joined(fields), arguments, b".\0"))


def _joined(fields: Sequence[tuple[str, str, str]]) -> bytes:
    """Tags and values, each with its NUL. Raises InvalidSpecError.

    Encoded as one: this is done for every start.
    """
    text = "".join([f"{tag}{value}\0" for tag, _, value in fields])
    try:
        if text.count("\0") == len(fields):
            return text.encode()
    except UnicodeEncodeError as error:
        bad = error.object[error.start]
        what = next(what for _, what, value in fields if bad in value)
        raise InvalidSpecError(f"{what}: is not valid UTF-8") from error
    what = next(what for _, what, value in fields if "\0" in value)
    raise InvalidSpecError(f"{what}: holds a NUL character")


def decode(container_id: str, data: bytes) -> ContainerSpec:
    """The spec of the container with this id, whichever version wrote it. Raises CorruptFileError."""
    texts = strings(data)
    version = next(texts, "")
    if version != FORMAT and version.startswith(FORMAT.rstrip("1")):
        raise CorruptFileError(f"spec: {version!r} is none that this version reads, which is {FORMAT!r}")
    if version != FORMAT or not data.endswith(b"\0.\0"):
        raise CorruptFileError("spec: not a container spec of this format")
    args: list[str] = []
    env: list[tuple[str, str]] = []
    preopens: list[Preopen] = []
    mounts: list[FileMount] = []
    identity: list[int] = []
    single: dict[str, str] = {}
    try:
        for text in texts:
            tag, value = text[:1], text[1:]
            if tag == "a":
                args.append(value)
            elif tag == "n":
                env.append((value, _second(texts, "v")))
            elif tag in {"r", "w"}:
                preopens.append(Preopen(Path(value), _second(texts, "g"), read_only=tag == "r"))
            elif tag == "P":
                _second(texts, "g")
            elif tag in {"R", "W"}:
                mounts.append(FileMount(Path(value), _second(texts, "G"), read_only=tag == "R"))
            elif tag == "B" and mounts:
                mounts[-1] = dataclasses.replace(mounts[-1], beneath=value)
            elif tag == "B" and preopens:
                preopens[-1] = dataclasses.replace(preopens[-1], beneath=value)
            elif tag == "e":
                identity.append(int(value))
            else:
                single[tag] = value
        log_path, root = single.get("l"), single.get("o")
        optional: dict[str, Any] = {name: tag in single for tag, name in _FLAGS}
        optional |= {name: int(single[tag]) for tag, name in _NUMBERS if tag in single}
        return ContainerSpec(
            id=container_id,
            labels=_labels(single["j"]),
            artifact=Artifact(Path(single["m"]), ModuleKind(single["k"])),
            args=tuple(args),
            env=tuple(env),
            log_path=Path(log_path) if log_path is not None else None,
            # Earlier versions wrote it into the environment only.
            working_dir=single.get("d", "/"),
            preopens=tuple(preopens),
            log_max_bytes=int(single["b"]),
            log_max_files=int(single["f"]),
            root=Path(root) if root is not None else None,
            files=tuple(mounts),
            identity=_identity(identity),
            stop_file="s" in single,
            group=_group(single),
            **optional,
        )
    except KeyError as error:
        raise CorruptFileError(f"spec: the field {error} is missing") from error
    except ValueError as error:
        raise CorruptFileError(f"spec: {error}") from error


def _beneath(what: str, path: str) -> list[tuple[str, str, str]]:
    return [("B", what, path)] if path else []


def _second(texts: Iterator[str], tag: str) -> str:
    """The second of two strings that belong together."""
    text = next(texts, "")
    if not text.startswith(tag):
        raise ValueError(f"a field is not followed by its field {tag}")
    return text[1:]


def _identity(numbers: list[int]) -> Identity | None:
    if not numbers:
        return None
    if len(numbers) == 1:
        raise ValueError("an identity is a user, a group and more groups")
    return Identity(numbers[0], numbers[1], tuple(numbers[2:]))


def _group(single: dict[str, str]) -> Group | None:
    if "N" not in single:
        return None
    numbers = {name: int(single[tag]) for tag, name in _OF_GROUP if tag in single}
    return Group(single["N"], **numbers)


def _labels(text: str) -> dict[str, str]:
    try:
        labels = json.loads(text)
    except ValueError as error:
        raise CorruptFileError(f"spec: labels: {error}") from error
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise CorruptFileError("spec: labels are no object of strings")
    return labels
