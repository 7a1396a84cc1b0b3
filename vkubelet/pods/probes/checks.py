"""From a probe's spec to something that can be done again and again: one attempt, one outcome.

It exists so that what can be known beforehand (address, request, command) is worked out once for each
container. It must not know when an attempt is made, nor what follows. The rules and texts are the kubelet's
(pkg/kubelet/prober/prober.go and pkg/probe).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

from vkubelet.api.containers import Container, ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction
from vkubelet.api.objects import Pod
from vkubelet.pods.backoff import go_duration
from vkubelet.pods.commands import Commands, Finished
from vkubelet.pods.environment import expand
from vkubelet.pods.interaction import CommandError
from vkubelet.pods.kept import KeptCommands
from vkubelet.pods.probes import grpc
from vkubelet.pods.probes.connection import ConnectionFailedError, dial, join, refused
from vkubelet.pods.probes.http import GetError, get
from vkubelet.pods.probes.http_request import BadProbeError, http_get, resolve_port
from vkubelet.pods.probes.http_response import BodyError
from vkubelet.pods.probes.outcome import Outcome, ProbeError, Result
from vkubelet.pods.running import RunningContainer

Check = Callable[[], Awaitable[Outcome]]
"""One attempt, which takes no longer than the probe's timeout. Raises ProbeError."""

KEPT_PERIOD = 5
"""Seconds: a probe that runs a command so often keeps its process, which then takes memory all the time."""


class Checks:
    """Makes checks for the containers of a node."""

    def __init__(self, commands: Commands, kept: KeptCommands, host_ip: str) -> None:
        """`host_ip` is the address of the node, which its pods share."""
        self._commands = commands
        self._kept = kept
        self._host_ip = host_ip

    def prepare(self, pod: Pod, container: Container, running: RunningContainer, probe: Probe) -> Check:
        """The check that a probe asks for."""
        try:
            if probe.exec is not None:
                return self._exec(container, running, probe.exec, probe)
            if probe.http_get is not None:
                return self._http_get(pod, container, probe.http_get, probe.timeout_seconds)
            if probe.tcp_socket is not None:
                return self._tcp_socket(pod, container, probe.tcp_socket, probe.timeout_seconds)
            if probe.grpc is not None:
                return self._grpc(pod, probe.grpc, probe.timeout_seconds)
        except BadProbeError as error:
            return _impossible(str(error))
        return _impossible(
            f"missing probe handler for {pod.metadata.name}_{pod.metadata.namespace}:{container.name}"
        )

    def _exec(
        self, container: Container, running: RunningContainer, action: ExecAction, probe: Probe
    ) -> Check:
        timeout, period = probe.timeout_seconds, probe.period_seconds
        known = {variable.name: variable.value for variable in container.env or ()}
        words = tuple(expand(word, known) for word in action.command or ())
        run: Callable[[float], Awaitable[Finished]]
        if period <= KEPT_PERIOD:
            run = self._kept.command(running, words, idle=2 * period + 1).run
        else:
            run = functools.partial(self._commands.run, running, words)

        async def check() -> Outcome:
            try:
                finished = await run(timeout)
            except TimeoutError:
                text = f'command timed out: "{" ".join(words)}" timed out after {go_duration(timeout)}'
                return Outcome(Result.FAILURE, text)
            except CommandError as error:
                raise ProbeError(str(error)) from error
            return Outcome(Result.FAILURE if finished.code else Result.SUCCESS, finished.output)

        return check

    def _http_get(self, pod: Pod, container: Container, action: HTTPGetAction, timeout: int) -> Check:
        request = http_get(action, container, self._host_ip, "probe")
        if not (action.host or has_network(pod)):
            url = request.url
            return _failing(str(GetError(url, str(refused(url.hostname, url.port or 0)))))

        async def check() -> Outcome:
            try:
                response = await get(request, timeout)
            except GetError as error:
                return Outcome(Result.FAILURE, str(error))
            except BodyError as error:
                raise ProbeError(str(error), Result.FAILURE) from error
            if 200 <= response.status < 300:
                return Outcome(Result.SUCCESS)
            if 300 <= response.status < 400:
                body = response.body.decode(errors="replace")
                return Outcome(Result.WARNING, f"Probe terminated redirects, Response body: {body}")
            return Outcome(Result.FAILURE, f"HTTP probe failed with statuscode: {response.status}")

        return check

    def _tcp_socket(self, pod: Pod, container: Container, action: TCPSocketAction, timeout: int) -> Check:
        host, port = action.host or self._host_ip, resolve_port(action.port, container)
        if not (action.host or has_network(pod)):
            return _failing(str(refused(host, port)))

        async def check() -> Outcome:
            try:
                async with asyncio.timeout(timeout):
                    connection = await dial(host, port)
            except TimeoutError:
                return Outcome(Result.FAILURE, f"dial tcp {join(host, port)}: i/o timeout")
            except ConnectionFailedError as error:
                return Outcome(Result.FAILURE, str(error))
            connection.close()
            return Outcome(Result.SUCCESS)

        return check

    def _grpc(self, pod: Pod, action: GRPCAction, timeout: int) -> Check:
        if not has_network(pod):
            return _failing(grpc.unreachable(self._host_ip, action.port, timeout))
        return lambda: grpc.check(self._host_ip, action.port, action.service, timeout)


def has_network(pod: Pod) -> bool:
    """Whether the pod's guests can listen on a port."""
    return pod.spec.host_network


def _failing(message: str) -> Check:
    """A check of what cannot listen: whoever has the node's port is somebody else."""

    async def check() -> Outcome:
        return Outcome(Result.FAILURE, message)

    return check


def _impossible(why: str) -> Check:
    async def check() -> Outcome:
        raise ProbeError(why)

    return check
