"""The toolbox that comes with the node: where its module is, what it can do, and that it is what was built.

It exists because a WebAssembly image has neither a shell nor `ls`: one module gives a pod both. It must not
know who runs it. Nothing is read before it is asked for; the module itself is read once, for its digest.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parent
MODULE = "toolbox.wasm"
DESCRIPTION = "toolbox.json"


class ToolboxError(Exception):
    """The toolbox cannot be used; the text says why, for whoever asked for one of its commands."""


@dataclass(frozen=True, slots=True)
class ToolboxModule:
    """The module's file, and its verified digest as `sha256:HEX`."""

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class _Description:
    digest: str
    applets: frozenset[str]


class Toolbox:
    """The toolbox in a directory. Safe to use from several threads."""

    def __init__(self, directory: Path = PACKAGE, *, enabled: bool = True) -> None:
        """A toolbox that is not `enabled` has no applets."""
        self._directory = directory
        self._enabled = enabled
        self._lock = threading.Lock()
        self._module: ToolboxModule | ToolboxError | None = None

    @property
    def applets(self) -> frozenset[str]:
        """The commands that it has; none where it is off, not built, or not described as it should be."""
        try:
            return self._description.applets
        except ToolboxError:
            return frozenset()

    @property
    def trouble(self) -> str | None:
        """Why it has no applets; None when it has."""
        try:
            return None if self._description.applets else "the toolbox has no applets"
        except ToolboxError as error:
            return str(error)

    def module(self) -> ToolboxModule:
        """The module, when its bytes are those that were described. Raises ToolboxError.

        It reads the module the first time and blocks for as long (some milliseconds).
        """
        with self._lock:
            if self._module is None:
                try:
                    self._module = self._verified()
                except ToolboxError as error:
                    self._module = error
            if isinstance(self._module, ToolboxError):
                raise self._module
            return self._module

    def _verified(self) -> ToolboxModule:
        described = self._description
        path = self._directory / MODULE
        try:
            with path.open("rb") as file:
                found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        except OSError as error:
            raise ToolboxError(f"the toolbox cannot be read: {error}") from error
        if found != described.digest:
            raise ToolboxError(
                f"{MODULE} is not what was built: it has {found}, {DESCRIPTION} says {described.digest}"
            )
        return ToolboxModule(path, found)

    @functools.cached_property
    def _description(self) -> _Description:
        if not self._enabled:
            raise ToolboxError("the toolbox is turned off on this node")
        path = self._directory / DESCRIPTION
        try:
            fields = json.loads(path.read_bytes())
            return _Description(str(fields["digest"]), frozenset(map(str, fields["applets"])))
        except FileNotFoundError as error:
            raise ToolboxError(
                "this installation of vkubelet has no toolbox (`make toolbox` builds it)"
            ) from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ToolboxError(f"{DESCRIPTION} cannot be read: {error}") from error
