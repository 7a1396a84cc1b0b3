"""What a volume of files shows: its paths, and what is at each; pure.

It exists so that config maps, secrets, downward fields, tokens and projections of them are one thing to
whoever writes them, and are checked by the same rules. It must not know where the files go.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from vkubelet.api.configuration import ConfigMap, Secret
from vkubelet.api.volumes import KeyToPath
from vkubelet.pods.volumes.errors import SetUpError

_LONGEST_PATH = 4096
_LONGEST_NAME = 255


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """`user` is the owner, None for the node's own user. The data is in no `repr`: it may be secret."""

    data: bytes = dataclasses.field(repr=False)
    mode: int
    user: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for the files of a volume that say nothing else."""

    mode: int
    user: int | None = None

    def file(self, data: bytes, mode: int | None = None, user: int | None = None) -> File:
        """A file with what it says itself."""
        return File(data, self.mode if mode is None else mode, self.user if user is None else user)


Payload: TypeAlias = dict[str, File]
"""By path, which is relative and clean."""


def of_config_map(
    found: ConfigMap, items: Sequence[KeyToPath] | None, defaults: Defaults, *, optional: bool
) -> Payload:
    """The files of a config map. Raises SetUpError for a key that is not there."""
    data: dict[str, bytes] = {key: text.encode() for key, text in (found.data or {}).items()}
    data.update(found.binary_data or {})
    return _of_keys(
        data, items, defaults, None if optional else "configmap references non-existent config key"
    )


def of_secret(
    found: Secret, items: Sequence[KeyToPath] | None, defaults: Defaults, *, optional: bool
) -> Payload:
    """The files of a secret. Raises SetUpError for a key that is not there."""
    missing = None if optional else "references non-existent secret key"
    return _of_keys(found.data or {}, items, defaults, missing)


def _of_keys(
    data: Mapping[str, bytes], items: Sequence[KeyToPath] | None, defaults: Defaults, missing: str | None
) -> Payload:
    if not items:
        return {key: defaults.file(content) for key, content in data.items()}
    files: Payload = {}
    for item in items:
        if item.key in data:
            files[item.path] = defaults.file(data[item.key], item.mode, item.user)
        elif missing is not None:
            raise SetUpError(f"{missing}: {item.key}")
    return files


def checked(files: Iterable[tuple[str, File]]) -> Payload:
    """The payload with clean paths; of two files at one path the later one stays, as in a kubelet.

    Raises SetUpError for a path that leads out of the volume or is taken by the volume itself, and for a file
    that stands where another file's directory should be.
    """
    payload: Payload = {}
    for path, file in files:
        _check(path)
        payload[posixpath.normpath(path)] = file
    for path in payload:
        parent = posixpath.dirname(path)
        while parent:
            if parent in payload:
                raise SetUpError(f"mkdir {parent}: not a directory: the path is that of a file too")
            parent = posixpath.dirname(parent)
    return payload


def _check(path: str) -> None:
    """The kubelet's rules and texts (its AtomicWriter's)."""
    if not path:
        raise SetUpError('invalid path: must not be empty: ""')
    if path.startswith("/"):
        raise SetUpError(f"invalid path: must be relative path: {path}")
    if len(path) > _LONGEST_PATH:
        raise SetUpError(f"invalid path: must be less than or equal to {_LONGEST_PATH} characters")
    names = path.split("/")
    if ".." in names:
        raise SetUpError(f"invalid path: must not contain '..': {path}")
    if any(len(name.encode()) > _LONGEST_NAME for name in names):
        raise SetUpError(f"invalid path: filenames must be less than or equal to {_LONGEST_NAME} characters")
    # The path as it will be: `./..data` is no way around this.
    clean = posixpath.normpath(path)
    if clean.startswith(".."):
        raise SetUpError(f"invalid path: must not start with '..': {path}")
    if clean == "." or "\0" in path:
        raise SetUpError(f"invalid path: must name a file: {path}")
