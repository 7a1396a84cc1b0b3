"""A node with no API server: it runs the static pods of a directory, and answers its own user.

It exists so that a machine can run pods with nothing but their files. What the API server is for others, the
directory is here: it names the pods. Events are lines of the log. The kubelet API is served on a socket that
only this user can open; over TLS too where a certificate, a client CA and AlwaysAllow are configured, for
there is nobody who could be asked what a caller may do. It must not know the API server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

from providers.wasmtime.provider import WasmtimeProvider
from vkubelet import footprint
from vkubelet.api.events import Recorder
from vkubelet.api.local_events import LoggedEvents
from vkubelet.api.objects import ObjectReference, Pod, PodStatus
from vkubelet.api.references import NoReferences
from vkubelet.config import Config, ConfigError
from vkubelet.debug import signals
from vkubelet.debug.state import Diagnosis
from vkubelet.deviceplugins.on_demand import DevicesOnDemand
from vkubelet.endpoints import endpoints
from vkubelet.images.store import image_store
from vkubelet.node import facts, usage
from vkubelet.node.certificates import client_kubeconfig
from vkubelet.node.node import LIMITED_HOST, limited_text
from vkubelet.node.serving_certificate import ServingCertificate
from vkubelet.node.view import node_view
from vkubelet.otlp import exporting
from vkubelet.pods.fit import NodeView
from vkubelet.pods.images.access import AccessFiles
from vkubelet.pods.instrumented import InstrumentedProvider
from vkubelet.pods.machine import MachineUsage
from vkubelet.pods.runtime import PodRuntime
from vkubelet.pods.static.source import NoMirrors, StaticPods
from vkubelet.pods.static.watch import ManifestWatcher, manifest_watcher
from vkubelet.server.app import KubeletServer, RouteGroup
from vkubelet.server.auth import AlwaysAllow, KubeletAuth, OwnersDoor
from vkubelet.server.log_reader import LogReader
from vkubelet.server.metrics.snapshot import Observer
from vkubelet.server.tls import harden
from vkubelet.startup import make_directories, only_agent, stop_signal
from vkubelet.toolbox import Toolbox

logger = logging.getLogger(__name__)

SOCKET = "kubelet.sock"
"""The kubelet API's socket in the run directory."""
DRAIN_TIMEOUT = 60.0


def is_standalone(config: Config) -> bool:
    """Whether the configuration names pods to run and no API server."""
    named = config.kubeconfig or config.bootstrap_kubeconfig
    return bool(config.static_pod_path) and not named and not client_kubeconfig(config).exists()


class LocalNode:
    """This machine as pods must fit on it, with nobody to report it to; implements HostNode."""

    def __init__(self, config: Config, found: facts.Facts, recorder: Recorder) -> None:
        self._config = config
        self._found = found
        self._recorder = recorder
        self._view = node_view(config, found, None)

    def view(self) -> NodeView:
        """See NodeSource."""
        return self._view

    async def refresh(self) -> NodeView:
        """See NodeSource: nobody changes it."""
        return self._view

    def offer(self, capacity: Mapping[str, int], allocatable: Mapping[str, int]) -> None:
        """Device plugins give the node so much of these resources, from now on."""
        found = self._found.with_devices(self._config, capacity, allocatable)
        self._view = node_view(self._config, found, None)

    def usage(self) -> MachineUsage:
        """See PressuredNode."""
        return usage.read(self._config, self._found.capacity)

    def press(self, conditions: frozenset[str]) -> None:
        """See PressuredNode: nobody asks for conditions."""

    def use_volumes(self, names: frozenset[str]) -> None:
        """See AttachingNode: nobody attaches or detaches any."""

    async def attached(self, name: str) -> None:
        """See AttachingNode: nobody ever will."""
        await asyncio.get_running_loop().create_future()

    def event(self, kind: str, reason: str, message: str) -> None:
        """See PressuredNode."""
        ref = ObjectReference(kind="Node", name=self._config.node_name)
        self._recorder.event(ref, kind, reason, message)


class Nobody:
    """Where there is no API server there are no pods of one: implements StatusSink."""

    def report(self, pod: Pod, status: PodStatus) -> None:
        """See StatusSink."""

    async def finish(self, pod: Pod, status: PodStatus | None) -> None:
        """See StatusSink."""

    def forget(self, uid: str) -> None:
        """See StatusSink."""


async def serve_alone(config: Config) -> None:
    """Run the static pods until SIGTERM or SIGINT. Raises one of the agent's AGENT_ERRORS."""
    _check(config)
    make_directories(config)
    root, run_dir = Path(config.root_dir), Path(config.run_dir)
    diagnosis = Diagnosis()
    with only_agent(run_dir), signals.answered(diagnosis, run_dir):
        async with contextlib.AsyncExitStack() as ends:
            provider = WasmtimeProvider(run_dir / "wasmtime", root / "compiled", root / "rootfs")
            ends.push_async_callback(provider.close)
            await ends.enter_async_context(exporting(config))
            await _Alone(config, InstrumentedProvider(provider), diagnosis).run()


def _check(config: Config) -> None:
    """Refuse a TLS door that could not be guarded. Raises ConfigError."""
    wanted = {
        "tls_cert_file": bool(config.tls_cert_file),
        "tls_private_key_file": bool(config.tls_private_key_file),
        "client_ca_file": bool(config.client_ca_file),
        "authorization_mode=AlwaysAllow": config.authorization_mode == "AlwaysAllow",
    }
    missing = [name for name, given in wanted.items() if not given]
    if len(missing) not in (0, len(wanted)):
        raise ConfigError(
            "without an API server the kubelet API is served over TLS only with all of "
            f"{', '.join(wanted)}; missing: {', '.join(missing)}"
        )


class _Alone:
    """The parts of the node."""

    def __init__(self, config: Config, provider: InstrumentedProvider, diagnosis: Diagnosis) -> None:
        self._config = config
        self._diagnosis = diagnosis
        self._provider = provider
        self._recorder = LoggedEvents()
        self._not_ready: str | None = "the node agent is starting"
        self._images = image_store(config, owner=Path(config.run_dir), policy=config.image_policy)

    async def run(self) -> None:
        """Start the parts in the order in which they need each other; end when told by a signal."""
        config = self._config
        stop = stop_signal()
        found = await asyncio.to_thread(facts.read, config)
        host_ip = await asyncio.to_thread(facts.host_ip, config, "")
        await asyncio.to_thread(self._images.open)
        static = StaticPods(Nobody(), NoMirrors())
        self._node = node = LocalNode(config, found, self._recorder)
        self._devices = DevicesOnDemand(config, node.offer)
        runtime = PodRuntime(
            config,
            self._provider,
            self._images,
            AccessFiles(Path(config.root_dir) / "image-access"),
            toolbox=Toolbox(enabled=config.toolbox),
            recorder=self._recorder,
            statuses=static,
            references=NoReferences(),
            services=None,
            client=None,
            node=node,
            host_ip=host_ip,
            devices=self._devices,
        )
        self._devices.changed = runtime.wake
        static.run_with(runtime.manager)
        runtime.manager.ended = static.ended
        try:
            await runtime.open()
            if missing := self._provider.capabilities().missing:
                node.event("Warning", LIMITED_HOST, limited_text(missing))
            await self._serve(runtime, static, found, host_ip, stop)
        finally:
            runtime.close()

    async def _serve(
        self,
        runtime: PodRuntime,
        static: StaticPods,
        found: facts.Facts,
        host_ip: str,
        stop: asyncio.Event,
    ) -> None:
        """Run and answer until told to stop."""
        config = self._config
        async with self._served(runtime, found, host_ip) as parts:
            footprint.settle()
            watcher = manifest_watcher(config, static, lambda text: logger.error("static pods: %s", text))
            async with asyncio.TaskGroup() as group:
                parts = {**parts, **runtime.tasks(), "devices": self._devices.run()}
                if watcher is not None:
                    parts |= {"static pods": watcher.run(), "readiness": self._become_ready(watcher, runtime)}
                tasks = [group.create_task(part, name=name) for name, part in parts.items()]
                await stop.wait()
                logger.info("shutting down")
                self._not_ready = "the node agent is shutting down"
                if config.drain_on_shutdown:
                    await runtime.manager.drain(DRAIN_TIMEOUT)
                for task in tasks:
                    task.cancel()

    @contextlib.asynccontextmanager
    async def _served(
        self, runtime: PodRuntime, found: facts.Facts, host_ip: str
    ) -> AsyncIterator[Mapping[str, Coroutine[Any, Any, None]]]:
        """Serve the kubelet API: to this user, and to those whom the configuration lets in.

        Gives what must run meanwhile, by name.
        """
        config = self._config
        observer = Observer(runtime.manager, self._provider, lambda: usage.read(config, found.capacity))
        reader = LogReader()
        queues = {**runtime.queues(), "images": self._images.queue}
        self._diagnosis.tell_of(runtime.manager.insights, queues)

        def groups() -> Iterable[RouteGroup]:
            return endpoints(
                config,
                runtime,
                self._provider,
                self._images,
                observer,
                reader,
                self._diagnosis,
                client=None,
                healthy=lambda: self._not_ready,
            )

        async with contextlib.AsyncExitStack() as ends:
            ends.push_async_callback(observer.close)
            ends.callback(reader.close)
            where = Path(config.run_dir) / SOCKET
            local = KubeletServer(
                address=where, tls=None, healthy=lambda: self._not_ready, auth=OwnersDoor(), groups=groups()
            )
            await local.start()
            ends.push_async_callback(local.close)
            parts: dict[str, Coroutine[Any, Any, None]] = {}
            if config.tls_cert_file:
                certificate = ServingCertificate(config, None, host_ip)
                door = KubeletServer(
                    address=config.address,
                    port=config.port,
                    tls=harden(await certificate.context(ssl.CERT_OPTIONAL)),
                    healthy=lambda: self._not_ready,
                    auth=KubeletAuth(config.node_name, AlwaysAllow(), anonymous=config.anonymous_auth),
                    groups=groups(),
                )
                port = await door.start()
                ends.push_async_callback(door.close)
                logger.info("the kubelet API listens on port %d and at %s", port, where)
                parts["serving certificate"] = certificate.run(
                    lambda tls: door.use_tls(harden(tls)), self._node.event
                )
            else:
                logger.info("the kubelet API is at %s", where)
            yield parts

    async def _become_ready(self, watcher: ManifestWatcher, runtime: PodRuntime) -> None:
        """Ready once the files have been read; what runs for none of them is ended."""
        await watcher.synced.wait()
        runtime.manager.synced()
        self._not_ready = None
        logger.info(
            "node %s runs the static pods of %s, with no API server",
            self._config.node_name,
            self._config.static_pod_path,
        )
