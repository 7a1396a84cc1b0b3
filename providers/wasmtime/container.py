"""One container of an agent: what is known of it, its process, and when that is to end.

It exists so that every way to end a process, at once or at a deadline, before or after there is one, is one
way. It must not know what ends mean.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math

from providers.base import ContainerState
from providers.wasmtime import processes
from providers.wasmtime.connection import Process

_log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0


@dataclasses.dataclass(slots=True, eq=False)
class Container:
    """A container of this agent. `process` is None until it is known to exist.

    `killed` tells that we ended it, or will as soon as it has a process; `abandoned` that nobody waits;
    `unread` that it has ended, and nobody could read how yet.
    """

    state: ContainerState
    process: Process | None = None
    has_cgroup: bool = False
    ended: bool = False
    killed: bool = False
    abandoned: bool = False
    unread: bool = False
    _deadline: float = math.inf
    _timer: asyncio.TimerHandle | None = None

    def kill(self) -> None:
        """End it at once, or as soon as there is something to end."""
        self.killed = True
        if self.process is None:
            return
        try:
            processes.kill(self.process.pid, self.process.start_time)
        except OSError as error:
            _log.error("container %s cannot be ended yet: %s", self.state.id, error)
            self._deadline = -math.inf
            self._timer = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self.kill)

    def kill_at(self, deadline: float) -> None:
        """End it at this time of the event loop, or at an earlier one that was set before."""
        if deadline < self._deadline:
            self.disarm()
            self._deadline = deadline
            self._timer = asyncio.get_running_loop().call_at(deadline, self.kill)

    def disarm(self) -> None:
        """Let it live: it has ended, or is the next agent's."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
