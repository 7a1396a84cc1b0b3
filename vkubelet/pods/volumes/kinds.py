"""The interface between a pod's volumes and the kinds of volume.

It exists so that the sequence (fetch what is needed, then write it in a thread, then let containers see it)
is one for all kinds. It must not know any kind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from vkubelet.api.objects import Pod
from vkubelet.api.volumes import Volume


@dataclasses.dataclass(frozen=True, slots=True)
class Mounted:
    """A volume that is there. `read_only` holds for every mount of it, as for those of a config map.

    `group` is one that every process of the pod belongs to for its sake.
    """

    path: Path
    read_only: bool = False
    group: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """What is left to do once all is fetched.

    `apply` makes the volume or brings it up to date: it blocks, and raises SetUpError and OSError. `at_once`
    tells that it takes less than handing it to a thread would. `renew_at` is when the volume must be prepared
    again at the latest, seconds since the epoch; None for never.

    With `rest`, that is the volume's directory only, where something takes longer that belongs into it: what
    is left to do for all of it comes from `rest`, which raises SetUpError.
    """

    apply: Callable[[], Mounted]
    renew_at: float | None = None
    at_once: bool = False
    rest: Callable[[], Awaitable[Prepared]] | None = None


class Kind(Protocol):
    """One kind of volume."""

    @property
    def renewed(self) -> bool:
        """Whether a volume that is there is prepared again when what it shows has changed."""
        ...

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        """Fetch what the volume needs; what is left to do needs no network. Raises SetUpError."""
        ...
