"""The composition root: makes every part of the node, starts them in order, and ends them in order.

It exists so that no other module knows how the parts fit together. One task group owns all tasks of the
process. Containers are not owned here: they outlive the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from oci.signing.errors import PolicyError
from providers.base import Provider, ProviderError
from providers.wasmtime.provider import WasmtimeProvider
from vkubelet import footprint
from vkubelet.api.client import ApiClient, KubeconfigError
from vkubelet.api.cluster_services import ClusterServices
from vkubelet.api.events import EventRecorder
from vkubelet.api.first_contact import NoContactError, first_contact
from vkubelet.api.informer import PodInformer
from vkubelet.api.objects import ObjectReference
from vkubelet.api.references import ObjectReferences
from vkubelet.config import Config, ConfigError
from vkubelet.debug import signals
from vkubelet.debug.state import Diagnosis
from vkubelet.deviceplugins.on_demand import DevicesOnDemand
from vkubelet.endpoints import endpoints
from vkubelet.images.store import image_store
from vkubelet.node import usage
from vkubelet.node.certificates import (
    CertificateError,
    ClientCertificate,
    client_kubeconfig,
    ensure_client,
)
from vkubelet.node.followed_credentials import follow_credentials
from vkubelet.node.identity import NodeNameTakenError
from vkubelet.node.node import Node, RegistrationError
from vkubelet.node.serving_certificate import ServingCertificate
from vkubelet.node.status import NodeImage
from vkubelet.node.trouble import Trouble
from vkubelet.otlp import exporting
from vkubelet.pods.images.access import AccessFiles
from vkubelet.pods.instrumented import InstrumentedProvider
from vkubelet.pods.manager import PodManager
from vkubelet.pods.reporter import Reporter
from vkubelet.pods.runtime import PodRuntime
from vkubelet.pods.static.mirror import MirrorPods
from vkubelet.pods.static.source import StaticPods
from vkubelet.pods.static.watch import ManifestWatcher, manifest_watcher
from vkubelet.server.app import KubeletServer, ListenError
from vkubelet.server.auth_configured import kubelet_auth
from vkubelet.server.log_reader import LogReader
from vkubelet.server.metrics.snapshot import Observer
from vkubelet.server.tls import harden
from vkubelet.standalone import is_standalone, serve_alone
from vkubelet.startup import AgentError, make_directories, only_agent, stop_signal
from vkubelet.toolbox import Toolbox

logger = logging.getLogger(__name__)

# The declaredFeatures of this node: the API server passes WebSockets on instead of translating them to SPDY,
# and lets people resize the whole of a pod and its init containers; the scheduler sends pods that start over.
FEATURES = (
    "ExtendWebSocketsToKubelet",
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
    "RestartAllContainersOnContainerExits",
)
# What a shutdown may take for what is on its way to the API server, and for pods to end when draining.
FLUSH_TIMEOUT = 5.0
DRAIN_TIMEOUT = 60.0

# Everything that ends the agent with one line for people; anything else is a defect and shows its trace.
AGENT_ERRORS = (
    AgentError,
    CertificateError,
    ConfigError,
    KubeconfigError,
    ListenError,
    NoContactError,
    NodeNameTakenError,
    PolicyError,
    ProviderError,
    RegistrationError,
)


async def serve(config: Config) -> None:
    """Be a node until SIGTERM or SIGINT. Raises one of AGENT_ERRORS when the node cannot be."""
    if is_standalone(config):
        await serve_alone(config)
        return
    root, run_dir = Path(config.root_dir), Path(config.run_dir)
    make_directories(config)
    diagnosis, trouble = Diagnosis(), Trouble()
    with only_agent(run_dir), signals.answered(diagnosis, run_dir), trouble.listening():
        if config.bootstrap_kubeconfig and not client_kubeconfig(config).exists():
            stranger = await ApiClient.from_kubeconfig(Path(config.bootstrap_kubeconfig))
            try:
                await first_contact(stranger)
            finally:
                await stranger.close()
        kubeconfig = await ensure_client(config)
        async with contextlib.AsyncExitStack() as ends:
            client = await ApiClient.from_kubeconfig(kubeconfig)
            ends.push_async_callback(client.close)
            if not config.static_pod_path:
                await first_contact(client)
            provider = WasmtimeProvider(run_dir / "wasmtime", root / "compiled", root / "rootfs")
            ends.push_async_callback(provider.close)
            await ends.enter_async_context(exporting(config))
            instrumented = InstrumentedProvider(provider)
            await _Agent(config, client, kubeconfig, instrumented, diagnosis, trouble).run()


class _Agent:
    """The parts of one running node."""

    def __init__(
        self,
        config: Config,
        client: ApiClient,
        kubeconfig: Path,
        provider: Provider,
        diagnosis: Diagnosis,
        trouble: Trouble,
    ) -> None:
        self._config = config
        self._diagnosis = diagnosis
        self._trouble = trouble
        self._client = client
        self._kubeconfig = kubeconfig
        self._provider = provider
        self._not_ready: str | None = "the node agent is starting"
        self._port = config.port
        self._images = image_store(config, owner=Path(config.run_dir), policy=config.image_policy)
        self._reporter = Reporter(client)
        self._recorder = EventRecorder(
            client,
            config.node_name,
            qps=config.event_qps,
            burst=config.event_burst,
            calm=self._reporter.calm,
        )
        self._node = Node(
            config,
            client,
            self._recorder,
            port=lambda: self._port,
            images=self._node_images,
            ready=lambda: self._not_ready,
            features=FEATURES,
        )

    async def run(self) -> None:
        """Start the parts in the order in which they need each other; end when told by a signal."""
        config, stop = self._config, stop_signal()
        await self._node.prepare()
        await asyncio.to_thread(self._images.open)
        references, services = ObjectReferences(self._client), ClusterServices(self._client)
        mirrors = MirrorPods(
            self._client, self._reporter, config.node_name, lambda: self._node.uid, self._complain
        )
        static = StaticPods(self._reporter, mirrors)
        devices = DevicesOnDemand(config, self._node.offer)
        if devices.is_new:
            self._node.recreated()
        runtime = PodRuntime(
            config,
            self._provider,
            self._images,
            AccessFiles(Path(config.root_dir) / "image-access"),
            toolbox=Toolbox(enabled=config.toolbox),
            recorder=self._recorder,
            statuses=static,
            references=references,
            services=services,
            client=self._client,
            node=self._node,
            host_ip=self._node.host_ip,
            devices=devices,
        )
        devices.changed = runtime.wake
        manager = runtime.manager
        static.run_with(manager)
        manager.ended, manager.known_as = static.ended, mirrors.static_uid
        async with contextlib.AsyncExitStack() as ends:
            ends.callback(runtime.close)
            await runtime.open()
            host = self._provider.capabilities()
            self._node.limited(host.missing, host.sandbox)
            own = {
                "statuses": self._reporter.queue,
                "events": self._recorder.queue,
                "images": self._images.queue,
            }
            self._diagnosis.tell_of(manager.insights, {**runtime.queues(), **own})
            keep_certificate = await self._serve(runtime, ends)
            footprint.settle()
            informer = PodInformer(
                self._client, config.node_name, on_change=static.on_change, on_delete=static.on_delete
            )
            client_certificate = ClientCertificate(config, self._client, self._kubeconfig)
            watcher = manifest_watcher(config, static, self._complain)
            at_once = {
                **runtime.tasks(),
                "devices": devices.run(),
                "credentials": follow_credentials(self._client),
            }
            if watcher is not None:
                at_once["static pods"] = watcher.run()

            def registered() -> Mapping[str, Coroutine[Any, Any, None]]:
                return {
                    "events": self._recorder.run(),
                    "trouble": self._trouble.run(self._node.event),
                    "statuses": self._reporter.run(),
                    "references": references.run(),
                    "services": services.run(),
                    "node": self._node.run(),
                    "informer": informer.run(),
                    "client certificate": client_certificate.run(),
                    "serving certificate": keep_certificate(),
                    "readiness": self._become_ready(informer, watcher, manager, mirrors),
                }

            await self._live(at_once, registered, manager, stop)

    async def _serve(
        self, runtime: PodRuntime, ends: contextlib.AsyncExitStack
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        """Answer the kubelet API's callers until `ends`; gives what keeps its certificate and CA current."""
        config = self._config
        observer = Observer(runtime.manager, self._provider, lambda: usage.read(config, self._node.capacity))
        ends.push_async_callback(observer.close)
        certificate = ServingCertificate(config, self._client, self._node.host_ip)
        reader = LogReader()
        ends.callback(reader.close)
        server = KubeletServer(
            address=config.address,
            port=config.port,
            tls=harden(await certificate.context(ssl.CERT_OPTIONAL)),
            healthy=lambda: self._not_ready,
            auth=kubelet_auth(config, self._client),
            groups=endpoints(
                config,
                runtime,
                self._provider,
                self._images,
                observer,
                reader,
                self._diagnosis,
                client=self._client,
                healthy=lambda: self._not_ready,
            ),
        )
        self._port = await server.start()
        ends.push_async_callback(server.close)
        return lambda: certificate.run(lambda tls: server.use_tls(harden(tls)), self._node.event)

    async def _live(
        self,
        at_once: Mapping[str, Coroutine[Any, Any, None]],
        registered: Callable[[], Mapping[str, Coroutine[Any, Any, None]]],
        manager: PodManager,
        stop: asyncio.Event,
    ) -> None:
        """Run what runs at once, as static pods do whether or not the API server can be asked, and the rest.

        `registered` gives what runs from then on that the API server knows the node.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part, name=name) for name, part in at_once.items()]
            registering = group.create_task(self._node.register(), name="registration")
            tasks.append(registering)
            if await _first(registering, stop):
                tasks.extend(group.create_task(part, name=name) for name, part in registered().items())
            await stop.wait()
            await self._shut_down(manager)
            for task in tasks:
                task.cancel()

    async def _become_ready(
        self,
        informer: PodInformer,
        watcher: ManifestWatcher | None,
        manager: PodManager,
        mirrors: MirrorPods,
    ) -> None:
        """Ready once every pod of the node is known; what then belongs to none is ended."""
        await informer.synced.wait()
        if watcher is not None:
            await watcher.synced.wait()
        manager.synced()
        self._not_ready = None
        self._node.wake()
        logger.info("node %s is ready, its API listens on port %d", self._config.node_name, self._port)
        await mirrors.run()

    def _complain(self, text: str) -> None:
        """Tell people, at the node, what is wrong with its static pods."""
        logger.warning("static pods: %s", text)
        node = ObjectReference(kind="Node", name=self._config.node_name, uid=self._node.uid)
        self._recorder.event(node, "Warning", "FailedStaticPod", text)

    async def _shut_down(self, manager: PodManager) -> None:
        """Take no more pods, say so, and send what is on its way; containers run on unless drained."""
        logger.info("shutting down")
        self._not_ready = "the node agent is shutting down"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self._node.mark_not_ready()
        if self._config.drain_on_shutdown:
            await manager.drain(DRAIN_TIMEOUT)
        await self._reporter.drain(FLUSH_TIMEOUT)
        await self._recorder.flush(FLUSH_TIMEOUT)

    def _node_images(self) -> list[NodeImage]:
        return [NodeImage(names=list(image.names), size_bytes=image.size) for image in self._images.list()]


async def _first(task: asyncio.Task[None], stop: asyncio.Event) -> bool:
    """Wait for a task, or to be stopped before: whether it has ended well. A failure is its group's."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    return task.done() and not task.cancelled() and task.exception() is None
