"""All that runs pods, put together: whoever names the pods, and wherever their statuses and events go.

It exists because pods may come from an API server, from files with or without one, or from a command line,
and the parts that run them are the same. It must not ask an API server itself, nor know what the kubelet API
is.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from oci.images import ImageStore
from providers.base import Provider
from vkubelet.api.client import ApiClient
from vkubelet.api.events import Recorder
from vkubelet.api.references import References
from vkubelet.config import Config
from vkubelet.pods.allocation_files import AllocationFiles
from vkubelet.pods.allocations import Allocations, NodeSource
from vkubelet.pods.builtin import BuiltinImages
from vkubelet.pods.commands import Commands
from vkubelet.pods.devices import Devices
from vkubelet.pods.eviction.manager import EvictionManager, PressuredNode
from vkubelet.pods.eviction.thresholds import configured
from vkubelet.pods.garbage import Garbage
from vkubelet.pods.hooks import HookRunner
from vkubelet.pods.images.access import AccessFiles
from vkubelet.pods.images.collection import policy as image_policy
from vkubelet.pods.images.pull_secrets import PullSecrets
from vkubelet.pods.images.source import ImageSource, PullLimit
from vkubelet.pods.kept import KeptCommands
from vkubelet.pods.manager import PodManager
from vkubelet.pods.probes.checks import Checks
from vkubelet.pods.probes.report import Report
from vkubelet.pods.probes.runner import ProbeRunner
from vkubelet.pods.reporter import StatusSink
from vkubelet.pods.services import Services
from vkubelet.pods.sources import Environments, ServiceSource
from vkubelet.pods.starter import Starter
from vkubelet.pods.volumes.attaching import AttachingNode
from vkubelet.pods.volumes.manager import VolumeManager
from vkubelet.toolbox import Toolbox

if TYPE_CHECKING:
    from vkubelet.pods.images.credential_providers import CredentialProviders


class HostNode(NodeSource, PressuredNode, AttachingNode, Protocol):
    """The node that the pods run on."""


class PodRuntime:
    """The parts that run the pods that `manager` is told of."""

    def __init__(
        self,
        config: Config,
        provider: Provider,
        images: ImageStore,
        access: AccessFiles | None,
        *,
        toolbox: Toolbox,
        recorder: Recorder,
        statuses: StatusSink,
        references: References,
        services: ServiceSource | None,
        client: ApiClient | None,
        node: HostNode,
        host_ip: str,
        devices: Devices,
    ) -> None:
        """All of them outlive this.

        `services` and `client` are None where there is no cluster, `access` where all pods are one user's.

        Raises ConfigError for thresholds of eviction, rules of image garbage collection and credential
        providers that cannot be used.
        """
        self._provider = provider
        environments = Environments(references, services)
        own_config, providers = Path(config.root_dir) / "config.json", _providers(config, client)
        secrets = PullSecrets(references, recorder, own_config, providers)
        limit = PullLimit(config.registry_pull_qps, config.registry_burst)
        source = ImageSource(images, BuiltinImages(toolbox), recorder, secrets, access, limit)
        starter = Starter(config, provider, source, environments, recorder, node.view, devices)
        self._volumes = VolumeManager(
            config, references=references, client=client, recorder=recorder, node=node
        )
        self.commands = Commands(provider, toolbox, _private_directory(config))
        files = AllocationFiles(Path(config.run_dir) / "allocations")
        self._eviction = EvictionManager(
            config,
            configured(config),
            node,
            lambda: self.manager.active(),
            lambda: self._garbage.collect(),
            lambda: self.manager.retry(),
        )
        self._allocations = Allocations(
            files,
            node,
            recorder,
            self._eviction.refuse,
            lambda uid, eviction: self.manager.evict(uid, eviction),
            devices,
        )
        self._kept = KeptCommands(provider, self.commands)
        self._probes = ProbeRunner(Checks(self.commands, self._kept, host_ip), Report(recorder))
        self.manager = PodManager(
            Services(
                config=config,
                provider=provider,
                starter=starter,
                volumes=self._volumes,
                allocations=self._allocations,
                probes=self._probes,
                hooks=HookRunner(self.commands, recorder, host_ip),
                recorder=recorder,
                reporter=statuses,
                host_ip=host_ip,
            )
        )
        self._garbage = Garbage(self.manager, images, provider, access, node, image_policy(config))

    async def open(self) -> None:
        """Take charge of what an earlier agent left; before any pod is named.

        Raises ProviderError, and OSError where the volumes' directory cannot be made.
        """
        await asyncio.to_thread(self._volumes.open)
        self._volumes.recover()
        self.manager.adopt(await self._provider.open(self.manager.on_exit))

    def queues(self) -> dict[str, Callable[[], Mapping[str, int]]]:
        """What tells, by name, how much waits or is under way."""
        return {"pods": self.manager.queue, "probes": self._probes.queue}

    def wake(self, uid: str) -> None:
        """There is news of the devices of a pod, which its status tells."""
        self._allocations.wake(uid)

    def close(self) -> None:
        """Let go of what no pod uses, once the tasks have ended. Blocks for a call to the file system."""
        self._volumes.close()

    def tasks(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What must run for as long as there are pods, by name; to be called once, after `open`."""
        return {
            "pods": self.manager.run(),
            "commands": self._kept.run(),
            "probes": self._probes.run(),
            "resizes": self._allocations.run(),
            "volumes": self._volumes.run(),
            "eviction": self._eviction.run(),
            "images": self._garbage.run(),
        }


def _providers(config: Config, client: ApiClient | None) -> CredentialProviders | None:
    """The plugins that have credentials for images; most nodes have none. Raises ConfigError."""
    if not (config.image_credential_provider_config or config.image_credential_provider_bin_dir):
        return None
    from vkubelet.pods.images import credential_provider_config
    from vkubelet.pods.images.credential_providers import CredentialProviders
    from vkubelet.pods.images.service_accounts import ServiceAccounts

    plugins = credential_provider_config.load(config)
    programs = Path(config.image_credential_provider_bin_dir)
    return CredentialProviders(plugins, programs, ServiceAccounts(client))


def _private_directory(config: Config) -> Path:
    """A directory of this agent alone, for modules taken out of guests' files."""
    private = Path(config.run_dir) / "exec"
    shutil.rmtree(private, ignore_errors=True)  # copies that an agent which was killed left
    private.mkdir(mode=0o700)
    return private
