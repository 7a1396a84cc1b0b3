"""Lifecycle hooks: what a pod asks to be done once a container runs, and before it is stopped.

It exists to hold the kubelet's rules and texts (pkg/kubelet/lifecycle/handlers.go): any answer to an httpGet
is a success, and tcpSocket, which the API still takes, is no hook. It must not know when a hook is due, how
long it may take, nor what follows from its failure: its caller cancels it.
"""

from __future__ import annotations

import asyncio
import dataclasses

from vkubelet.api.containers import Container, ExecAction, HTTPGetAction, LifecycleHandler
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod, pod_reference
from vkubelet.pods.commands import Commands
from vkubelet.pods.interaction import CommandError
from vkubelet.pods.probes.checks import has_network
from vkubelet.pods.probes.connection import refused
from vkubelet.pods.probes.http import GetError, PlainHttpError, get
from vkubelet.pods.probes.http_request import BadProbeError, Request, http_get
from vkubelet.pods.probes.http_response import BodyError
from vkubelet.pods.running import RunningContainer
from vkubelet.pods.services import HookError
from vkubelet.pods.text import pod_text, quoted


class HookRunner:
    """Implements vkubelet.pods.services.Hooks."""

    def __init__(self, commands: Commands, recorder: Recorder, host_ip: str) -> None:
        """`host_ip` is the address of the node, which its pods share."""
        self._commands = commands
        self._recorder = recorder
        self._host_ip = host_ip

    async def run(
        self, pod: Pod, container: Container, running: RunningContainer, handler: LifecycleHandler
    ) -> None:
        """See Hooks."""
        work = asyncio.ensure_future(self._run(pod, container, running, handler))
        ending = asyncio.ensure_future(running.end.wait())
        try:
            await asyncio.wait([work, ending], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait([work])
                what = "sleep hook" if handler.sleep is not None else "the hook"
                why = f"container terminated before {what} finished"
                raise HookError(_failed(pod, container, handler, why))
            work.result()
        finally:
            ending.cancel()
            work.cancel()
            await asyncio.wait([work, ending])

    async def _run(
        self, pod: Pod, container: Container, running: RunningContainer, handler: LifecycleHandler
    ) -> None:
        """Do what the handler says. Raises HookError."""
        try:
            if handler.exec is not None:
                await self._exec(running, handler.exec)
            elif handler.http_get is not None:
                await self._http_get(pod, container, handler.http_get)
            elif handler.sleep is not None:
                await asyncio.sleep(handler.sleep.seconds)
            else:
                kind = "tcpSocket is no lifecycle hook" if handler.tcp_socket else "it is empty"
                raise HookError(f"Cannot run handler: invalid handler: {kind}")
        except (BadProbeError, CommandError, GetError, _CommandFailedError) as error:
            raise HookError(_failed(pod, container, handler, str(error))) from error

    async def _exec(self, running: RunningContainer, action: ExecAction) -> None:
        words = tuple(action.command or ())
        finished = await self._commands.run(running, words)
        if finished.code:
            stderr = finished.stderr.decode(errors="replace")
            text = f"command '{' '.join(words)}' exited with {finished.code}: {stderr}"
            raise _CommandFailedError(f"{text}, message: {quoted(finished.output)}")

    async def _http_get(self, pod: Pod, container: Container, action: HTTPGetAction) -> None:
        request = http_get(action, container, self._host_ip, "lifecycle")
        if not (action.host or has_network(pod)):
            raise GetError(request.url, str(refused(request.url.hostname, request.url.port or 0)))
        try:
            await _answered(request)
        except PlainHttpError as error:
            plain = dataclasses.replace(request.url, scheme="http")
            headers = tuple(pair for pair in request.headers if pair[0] != "Authorization")
            try:
                await _answered(dataclasses.replace(request, url=plain, headers=headers))
            except GetError:
                raise error from None
            message = (
                f"request to HTTPS lifecycle hook {plain.authority} got HTTP response, "
                "retry with HTTP succeeded"
            )
            self._recorder.event(pod_reference(pod), "Warning", "LifecycleHTTPFallback", message)


class _CommandFailedError(Exception):
    """A command ended with another exit code than 0."""


async def _answered(request: Request) -> None:
    """Raises GetError. What becomes of the answer's body does not matter."""
    try:
        await get(request, None)
    except BodyError:
        return


def _failed(pod: Pod, container: Container, handler: LifecycleHandler, why: str) -> str:
    if handler.exec is not None:
        what = f"Exec lifecycle hook ([{' '.join(handler.exec.command or ())}])"
    elif handler.http_get is not None:
        what = f"HTTP lifecycle hook ({handler.http_get.path})"
    else:
        what = f"Sleep lifecycle hook ({handler.sleep.seconds if handler.sleep else 0})"
    return (
        f"{what} for Container {quoted(container.name)} in Pod {quoted(pod_text(pod))} failed - error: {why}"
    )
