"""Commands that are run again and again beside a container, by a process that stays for the next time.

It exists because most of what a short command costs is its process: the sandbox, the directories, the code.
A process that is kept takes memory instead: it is for what is run every few seconds. What is run is what
would be run otherwise, in the same sandbox and in an instance of its own. It must not know who asks, nor
why.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from typing import NoReturn

from providers.base import ContainerSpec, Provider
from vkubelet.pods.command import FAILED
from vkubelet.pods.commands import OUTPUT_MAX, Commands, Finished
from vkubelet.pods.execution import Execution, execute
from vkubelet.pods.interaction import CommandError, Wanted
from vkubelet.pods.running import RunningContainer

logger = logging.getLogger(__name__)

RUNS = 64
"""After so many times a process is replaced. It has the directories of each of them open from the start."""
_WANTED = Wanted(stdin=False, stdout=True, stderr=True, tty=False)


class KeptCommands:
    """Those of the node, with the tasks of their processes."""

    def __init__(self, provider: Provider, commands: Commands) -> None:
        self._provider = provider
        self._commands = commands
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> NoReturn:
        """Own the processes, until cancelled; before, and after, there are none."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None
        raise AssertionError("what never comes has come")

    def command(self, container: RunningContainer, words: tuple[str, ...], idle: float) -> KeptCommand:
        """A command of one who runs it again and again. Its process ends when that was `idle` seconds ago."""
        return KeptCommand(self, container, words, idle)

    async def spec(self, container: RunningContainer, words: tuple[str, ...]) -> ContainerSpec:
        """What the command would be run as now, if it were once. Raises CommandError."""
        return await self._commands.spec(container, words)

    async def begin(self, container: RunningContainer, spec: ContainerSpec, idle: float) -> _Process:
        """A process for it. Raises CommandError."""
        if self._group is None:
            raise CommandError(f"{FAILED}: the node agent ends")
        process = _Process(spec)
        self._group.create_task(
            process.live(self._provider, container.end, idle), name=f"kept command {spec.id[:12]}"
        )
        try:
            await asyncio.shield(process.ready)
        except BaseException:
            process.close()
            raise
        return process


class KeptCommand:
    """One command, run by one who asks for one result at a time."""

    def __init__(
        self, kept: KeptCommands, container: RunningContainer, words: tuple[str, ...], idle: float
    ) -> None:
        self._kept = kept
        self._container = container
        self._words = words
        self._idle = idle
        self._process: _Process | None = None

    async def run(self, timeout: float | None = None) -> Finished:
        """See Commands.run: the same, but that what is ended may not be reaped yet.

        What the container or the command has become since the process began is what it is run as: by another.
        """
        spec = await self._kept.spec(self._container, self._words)
        async with asyncio.timeout(timeout):
            if self._process is not None and self._process.serves(spec):
                with contextlib.suppress(BrokenPipeError):  # it has just ended, and was not asked
                    return await self._process.run()
            if self._process is not None:
                self._process.close()
            self._process = None
            self._process = await self._kept.begin(self._container, spec, self._idle)
            try:
                return await self._process.run()
            except BrokenPipeError as error:
                raise CommandError(f"{FAILED}: its process has ended at once") from error


class _Process:
    """A process of a command, as long as it is kept."""

    def __init__(self, spec: ContainerSpec) -> None:
        loop = asyncio.get_running_loop()
        self._spec = spec
        self._left = RUNS
        self._idle_since: float | None = loop.time()
        self._over: asyncio.Future[None] = loop.create_future()
        self.ready: asyncio.Future[Execution] = loop.create_future()

    def serves(self, spec: ContainerSpec) -> bool:
        """Whether it can run this once more."""
        return not self._over.done() and dataclasses.replace(spec, id=self._spec.id) == self._spec

    def close(self) -> None:
        """It is wanted no more."""
        if not self._over.done():
            self._over.set_result(None)

    async def live(self, provider: Provider, container_ends: asyncio.Event, idle: float) -> None:
        """Have it from its beginning to its end. `ready` tells of the one, or why there is none."""
        error: BaseException = CommandError(f"{FAILED}: the node agent ends")
        try:
            spec = dataclasses.replace(self._spec, runs=RUNS)
            async with execute(provider, spec, _WANTED, container_ends) as execution:
                self.ready.set_result(execution)
                while (left := self._left_to_live(idle)) > 0 and not execution.ended:
                    await execution.wait_for(self._over, left)
        except Exception as cause:
            error = cause
            if self.ready.done():
                logger.exception("kept command %s: defect in the node agent", self._spec.id[:12])
        finally:
            self.close()
            if not self.ready.done():
                self.ready.set_exception(error)
                self.ready.exception()  # whoever waits may have gone

    def _left_to_live(self, idle: float) -> float:
        """Seconds until it may end; none when it was ended."""
        if self._over.done():
            return 0
        since = self._idle_since
        return idle if since is None else since + idle - asyncio.get_running_loop().time()

    async def run(self) -> Finished:
        """Run it once. Raises CommandError, and BrokenPipeError if it was not run.

        What does not come to its end has no process any more.
        """
        execution = self.ready.result()
        self._left -= 1
        self._idle_since = None
        answer = b""
        try:
            answer, stdout, stderr = await execution.ask(OUTPUT_MAX)
        finally:
            self._idle_since = asyncio.get_running_loop().time()
            if not answer or self._left == 0:
                self.close()
        if answer:
            code, text = answer[0], answer[1:].decode(errors="replace")
        else:
            code, text = await execution.wait(), ""
        if text or not (answer or code):
            raise CommandError(f"{FAILED}: {text or 'its process has ended without an answer'}")
        return Finished(code, stdout, stderr)
