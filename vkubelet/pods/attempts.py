"""Starts a pod's containers: each attempt from its mounts to its probes, in a task of its own.

It exists because a start takes time and may fail at every step, and the worker goes on meanwhile. It must not
know when a container should start or what follows from a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Collection
from pathlib import Path

from providers.base import Preopen
from providers.exhausted import lacking
from providers.faultpoints import reached
from vkubelet import clock, logs, telemetry, tracing
from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod
from vkubelet.pods import log_directories, podinfo, termination
from vkubelet.pods.backoff import Backoff
from vkubelet.pods.builtin import is_builtin
from vkubelet.pods.container_reference import container_reference
from vkubelet.pods.containers import PodContainers
from vkubelet.pods.ending import grace_seconds
from vkubelet.pods.observed import NOT_PROBED, Probed, Waiting
from vkubelet.pods.plan import Kill
from vkubelet.pods.pod_allocation import PodAllocation
from vkubelet.pods.probes.state import ProbeKind
from vkubelet.pods.restarts import should_restart
from vkubelet.pods.running import RunningContainer
from vkubelet.pods.services import HookError, Services
from vkubelet.pods.sharing import group as pod_group
from vkubelet.pods.start_error import NotMountedError, StartError
from vkubelet.pods.starter import log_file
from vkubelet.pods.stopper import Stopper
from vkubelet.pods.volumes.pod import PodVolumes
from vkubelet.pods.waits import hook_failed, is_changed

logger = logging.getLogger(__name__)

FAILED_STARTS = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
)
"""Reasons that may be those of a machine that lacked something."""
# Where an ephemeral container finds its target's files: where it would find them with a shared PID namespace.
TARGET_ROOT = "/proc/1/root"
# After a defect of our own in a start, the pause before the container is tried again.
DEFECT_PAUSE = 10.0
# Seconds that the end of a container may take beyond its grace period before it is asked for again.
STOP_PAUSE = 10.0


class Attempts:
    """One for a pod."""

    def __init__(
        self,
        services: Services,
        containers: PodContainers,
        allocation: PodAllocation,
        volumes: PodVolumes,
        stopper: Stopper,
    ) -> None:
        """All of them are the pod's worker's."""
        self._services = services
        self._containers = containers
        self._allocation = allocation
        self._volumes = volumes
        self._stopper = stopper
        self._failures: dict[str, tuple[str, Backoff]] = {}
        self._starts: dict[str, asyncio.Task[None]] = {}
        running = bool(containers.identifiers())
        self._awaited_since: float | None = None if running else time.monotonic()

    def start(
        self, pod: Pod, container: Container, number: int, now: float, group: asyncio.TaskGroup
    ) -> None:
        """Start attempt `number` of a container; the task is `group`'s."""
        self._containers.note(container.name, starting=True, waiting=None)
        self._starts[container.name] = group.create_task(
            self._start(pod, container, number, now, group), name=f"start {pod.key} {container.name}"
        )

    def cancel(self, name: str) -> None:
        """Give up a start that is under way."""
        if not self._starts[name].cancelling():
            self._starts[name].cancel()

    def retry(self, reasons: Collection[str]) -> None:
        """What starts failed for may be there now: what waits for one of these reasons is tried at once."""
        for name, view in self._containers.views.items():
            if view.waiting is not None and view.waiting.reason in reasons:
                self._containers.set(name, waiting=dataclasses.replace(view.waiting, retry_at=0.0))

    def resume(self, pod: Pod) -> None:
        """Go on with the probes of what an earlier agent started."""
        for running in self._containers.all_running():
            self._probe(pod, running)

    def terminate(self) -> None:
        """The pod must not run any more: nothing of it is restarted for a probe."""
        for running in self._containers.all_running():
            self._services.probes.terminate(running.state.id)

    async def discard_previous(self, pod: Pod) -> None:
        """Forget the attempts before the latest, with their logs."""
        for container in pod.spec.all_containers():
            view = self._containers.views.get(container.name)
            if view is None or view.previous is None or view.starting:
                continue
            await self._discard(pod, container, view.previous.id, view.previous.number)

    async def _start(
        self, pod: Pod, container: Container, number: int, now: float, group: asyncio.TaskGroup
    ) -> None:
        """Start a container and note what came of it."""
        name = container.name
        logs.speak_of_container(name)
        try:
            with tracing.span("container", {"k8s.container.name": name}):
                await self._attempt(pod, container, number, now)
            if self._awaited_since is None:
                tracing.finish()
            await self._begin(pod, container, group)
        except StartError as error:
            failed = clock.now()
            image, before = self._failures.get(name, (container.image, Backoff()))
            again = (before if image == container.image else Backoff()).next(failed, failed)
            self._failures[name] = container.image, again
            due = again.retry_at(failed, error.retry_after)
            waiting = Waiting(error.reason, str(error), failed, due, container.image)
            self._containers.set(name, waiting=waiting, starting=False)
            telemetry.STARTED_CONTAINER_ERRORS.inc(self._containers.kind(name), error.reason)
        except NotMountedError:
            self._containers.set(name, starting=False)
        except asyncio.CancelledError:
            self._containers.set(name, starting=False)
            raise
        except Exception as error:
            text = lacking(error) or f"defect in the node agent: {error!r}"
            told = pod.key, name, text
            logger.exception("pod %s: start of container %s: %s", *told, exc_info=lacking(error) is None)
            failed = clock.now()
            waiting = Waiting("CreateContainerError", text, failed, failed + DEFECT_PAUSE)
            self._containers.set(name, waiting=waiting, starting=False)

    async def _attempt(self, pod: Pod, container: Container, number: int, now: float) -> None:
        """Everything until there is a process."""
        name, services = container.name, self._services
        view = self._containers.views[name]
        crash = view.backoff
        if view.latest is not None and view.latest.exit is not None and not view.latest.reset:
            crash = Backoff() if is_changed(container, view.latest) else crash
            crash = crash.next(view.latest.ended, now)
        sharing = self._allocation.starting(pod, container)
        # A later agent reads it by a clock of its own.
        recorded = dataclasses.replace(crash, updated=crash.updated + clock.ahead())
        try:
            state = await services.starter.start(
                pod,
                container,
                number,
                self._containers.life,
                recorded,
                services.host_ip,
                self._volumes,
                pod_group(pod, sharing, services.config.process_limit),
                lambda mounted: self._preopens(pod, container, number, mounted),
                lambda: self.retry(("CreateContainerConfigError",)),
            )
        finally:
            self._allocation.started(sharing)
        self._failures.pop(name, None)
        latest = self._containers.begun(state)
        self._containers.set(
            name, latest=latest, previous=view.latest, backoff=crash, probed=NOT_PROBED, restart=False
        )
        reached("start-noted")
        self._count_start(pod, name)
        if view.previous is not None:
            await self._discard(pod, container, view.previous.id, view.previous.number)

    async def _begin(self, pod: Pod, container: Container, group: asyncio.TaskGroup) -> None:
        """What follows once there is a process: the postStart hook, then the probes."""
        running = self._containers.running(container.name)
        handler = container.lifecycle.post_start if container.lifecycle is not None else None
        waiting = None
        if running is not None and handler is not None:
            try:
                await self._services.hooks.run(pod, container, running, handler)
            except HookError as error:
                # The container's end is no failure of a sleep: a kubelet's goes on.
                if handler.sleep is None or not running.end.is_set():
                    waiting = await self._end_for_hook(pod, running, str(error), group)
        self._containers.set(container.name, starting=False, waiting=waiting)
        if running is not None and not running.end.is_set():
            self._probe(pod, running)

    async def _end_for_hook(
        self, pod: Pod, running: RunningContainer, message: str, group: asyncio.TaskGroup
    ) -> Waiting | None:
        """End a container whose postStart hook failed; what is shown of it then, if it is started again."""
        name = running.spec.name
        logger.warning("pod %s: container %s: postStart hook: %s", pod.key, name, message)
        # The hook's message is no event's, so that secrets in it do not get about.
        reference = container_reference(pod, name)
        self._services.recorder.event(reference, "Warning", "FailedPostStartHook", "PostStartHook failed")
        kill = Kill(name, running.state.id, grace_seconds(pod), "FailedPostStartHook")
        while not running.end.is_set():  # an end that the provider could not bring about is asked for again
            self._stopper.stop(pod, kill, group)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(kill.grace + STOP_PAUSE):
                    await running.end.wait()
        telemetry.STARTED_CONTAINER_ERRORS.inc(self._containers.kind(name), "PostStartHookError")
        view = self._containers.views[name]
        again = should_restart(pod, running.spec, view)
        return hook_failed(running.spec, view, message, clock.now()) if again else None

    def _probe(self, pod: Pod, running: RunningContainer) -> None:
        """Have the container's probes made until it ends."""
        spec, identifier = running.spec, running.state.id

        def on_result(kind: ProbeKind, success: bool) -> None:
            view = self._containers.views[spec.name]
            if view.running is not None and view.running.id == identifier:
                probed: Probed = dataclasses.replace(view.probed, **{kind.value: success})
                self._containers.set(spec.name, probed=probed)

        if spec.startup_probe or spec.readiness_probe or spec.liveness_probe:
            self._services.probes.start(pod, spec, running, on_result)

    def _preopens(
        self, pod: Pod, container: Container, number: int, mounted: tuple[Preopen, ...]
    ) -> tuple[Preopen, ...]:
        """What a container sees beside its own files and what it mounts. Raises StartError."""
        shown = []
        run_dir = Path(self._services.config.run_dir)
        where = termination.directory(run_dir, pod.metadata.uid)
        message = termination.prepare(where, container, number, mounted)
        if message is not None:
            shown.append(message)
        if is_builtin(container.image):
            shown.append(Preopen(self._containers.show_info(), podinfo.GUEST_PATH, read_only=True))
        if container.target_container_name:
            target = self._containers.running(container.target_container_name)
            if target is None:
                text = f"unable to find target container {container.target_container_name}"
                raise StartError("CreateContainerError", text)
            shown.append(Preopen(self._services.provider.root(target.state.id), TARGET_ROOT))
        return tuple(shown)

    def _count_start(self, pod: Pod, name: str) -> None:
        telemetry.STARTED_CONTAINERS.inc(self._containers.kind(name))
        views = self._containers.views
        started = all(views[item.name].latest for item in pod.spec.containers or ())
        if started and self._awaited_since is not None:
            telemetry.POD_START_DURATION.observe(time.monotonic() - self._awaited_since)
            self._awaited_since = None

    async def _discard(self, pod: Pod, container: Container, identifier: str, number: int) -> None:
        """Forget an attempt that is neither the latest nor the one before, with its log and message."""
        try:
            await self._services.provider.remove(identifier)
        except asyncio.CancelledError:
            # The pod begins anew, or ends, while this start does; the container is removed nevertheless.
            self._forget(pod, container, identifier, number)
            raise
        reached("previous-attempt-removed")
        self._forget(pod, container, identifier, number)

    def _forget(self, pod: Pod, container: Container, identifier: str, number: int) -> None:
        """The container of this attempt is removed: so is what was beside it."""
        self._containers.forget(identifier)
        self._stopper.forget(identifier)
        path = log_file(self._services.config, pod, container.name, number)
        try:
            for part in log_directories.up_to(path.parent, number):
                part.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("the log of a former container is left until its pod is gone: %s", error)
        where = termination.directory(Path(self._services.config.run_dir), pod.metadata.uid)
        termination.remove(termination.place(where, container, number).parent)
