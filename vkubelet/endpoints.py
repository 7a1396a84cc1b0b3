"""What the kubelet API serves of a node, put together: the same with an API server and without one.

It exists so that there is one list of the routes. It must not know who may call them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from oci.images import ImageStore
from providers.base import Provider
from vkubelet.api.client import ApiClient
from vkubelet.config import Config
from vkubelet.debug.state import Diagnosis
from vkubelet.pods.interactions import PodInteractions
from vkubelet.pods.runtime import PodRuntime
from vkubelet.server.app import RouteGroup
from vkubelet.server.commands import CommandRoutes
from vkubelet.server.configz import ConfigzRoutes
from vkubelet.server.debug import DebugRoutes
from vkubelet.server.health import HealthRoutes
from vkubelet.server.log_reader import LogReader
from vkubelet.server.logs import LogRoutes
from vkubelet.server.metrics.routes import MetricsRoutes
from vkubelet.server.metrics.snapshot import Observer
from vkubelet.server.node_logs import NodeLogRoutes
from vkubelet.server.pods_list import PodListRoutes
from vkubelet.server.portforward import PortForwardRoutes

# What `/logs/` shows, where it is switched on: a kubelet's nodeLogDir.
SYSTEM_LOGS = Path("/var/log")


def endpoints(
    config: Config,
    runtime: PodRuntime,
    provider: Provider,
    images: ImageStore,
    observer: Observer,
    reader: LogReader,
    diagnosis: Diagnosis,
    *,
    client: ApiClient | None,
    healthy: Callable[[], str | None],
) -> list[RouteGroup]:
    """All routes. `client` is None where there is no API server, `healthy` says what is wrong, or None."""
    manager = runtime.manager
    interactions = PodInteractions(manager, provider, runtime.commands)
    idle_timeout = config.streaming_connection_idle_timeout
    return [
        LogRoutes(manager, reader),
        MetricsRoutes(
            observer,
            manager,
            node=config.node_name,
            pod_logs_dir=Path(config.pod_logs_dir),
            images_size=lambda: sum(image.size for image in images.list()),
        ),
        PodListRoutes(client, manager, config.node_name),
        ConfigzRoutes(config),
        HealthRoutes(healthy),
        NodeLogRoutes(SYSTEM_LOGS if config.enable_system_log_handler else None),
        CommandRoutes(interactions, reader, idle_timeout=idle_timeout),
        DebugRoutes(diagnosis),
        PortForwardRoutes(interactions, idle_timeout=idle_timeout),
    ]
