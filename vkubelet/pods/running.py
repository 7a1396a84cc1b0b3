"""A container that runs, as those see it who do something in it: exec, attach, probes and hooks.

It exists so that they need neither the pod's worker nor a look-up by name. It must not know who asks.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

from providers.base import ContainerState
from vkubelet.api.containers import Container


@dataclasses.dataclass(frozen=True, slots=True)
class RunningContainer:
    """One attempt of a container. `end` is set when it has ended.

    `show_info` makes the directory that tells a guest of its pod, and keeps it true (see `podinfo`).
    """

    spec: Container
    state: ContainerState
    restarts: int
    end: asyncio.Event
    show_info: Callable[[], Path]
