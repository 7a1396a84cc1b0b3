"""The config maps and secrets of a file, for the pods of the same file.

It exists because pods ask for them as they ask an API server. They never change. It must not know pods.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal, overload

from vkubelet.api.configuration import ConfigMap, Secret
from vkubelet.api.references import Kind, Reference, ReferenceNotFoundError


class FileReferences:
    """Implements References."""

    def __init__(self, objects: Mapping[Reference, ConfigMap | Secret]) -> None:
        self._objects = objects

    @overload
    async def get(self, kind: Literal["configmaps"], namespace: str, name: str) -> ConfigMap: ...

    @overload
    async def get(self, kind: Literal["secrets"], namespace: str, name: str) -> Secret: ...

    async def get(self, kind: Kind, namespace: str, name: str) -> ConfigMap | Secret:
        """See References."""
        found = self._objects.get((kind, namespace, name))
        if found is None:
            raise ReferenceNotFoundError(kind, name)
        return found

    def use(
        self, owner: str, wanted: Collection[Reference], on_change: Callable[[], None] | None = None
    ) -> None:
        """See References: nothing ever changes."""
