"""All that runs pods, put together: whoever names the pods, and wherever their statuses and events go.

It exists because pods may come from an API server, from files with or without one, or from a command line,
and the parts that run them are the same. It must not know an API server, nor what the kubelet API is.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from oci.images import ImageStore
from providers.base import Provider
from vkubelet.api.events import Recorder
from vkubelet.config import Config
from vkubelet.pods.builtin import BuiltinImages
from vkubelet.pods.manager import PodManager
from vkubelet.pods.reporter import StatusSink
from vkubelet.pods.services import Services
from vkubelet.pods.starter import Starter
from vkubelet.pods.volumes.manager import VolumeManager
from vkubelet.toolbox import Toolbox


class PodRuntime:
    """The parts that run the pods that `manager` is told of."""

    def __init__(
        self,
        config: Config,
        provider: Provider,
        images: ImageStore,
        *,
        toolbox: Toolbox,
        recorder: Recorder,
        statuses: StatusSink,
        host_ip: str,
    ) -> None:
        """All of them outlive this."""
        self._provider = provider
        starter = Starter(config, provider, images, BuiltinImages(toolbox), recorder)
        self._volumes = VolumeManager(config)
        self.manager = PodManager(
            Services(
                config=config,
                provider=provider,
                starter=starter,
                volumes=self._volumes,
                probes=_Unprobed(),
                hooks=_Unprobed(),
                recorder=recorder,
                reporter=statuses,
                host_ip=host_ip,
            )
        )

    async def open(self) -> None:
        """Take charge of what an earlier agent left; before any pod is named. Raises ProviderError."""
        self.manager.adopt(await self._provider.open(self.manager.on_exit))

    def tasks(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What must run for as long as there are pods, by name; to be called once, after `open`."""
        return {"pods": self.manager.run(), "volumes": self._volumes.run()}


class _Unprobed:
    """Admission refuses pods with probes and hooks."""

    def start(self, *_: object) -> None:
        raise AssertionError("a pod with probes was admitted")

    def stop(self, container_id: str) -> None:
        """Nothing is probed."""

    async def run(self, *_: object) -> None:
        raise AssertionError("a pod with hooks was admitted")
