"""The node's own image store, as its configuration has it.

It exists because a node with an API server, one without and the commands beside them must mean the same
store. It must not open it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from oci.images import ImageStore
from vkubelet.config import Config

if TYPE_CHECKING:
    from oci.puller import Progress


def image_store(
    config: Config,
    *,
    owner: Path | None = None,
    policy: Path | None = None,
    progress: Progress | None = None,
) -> ImageStore:
    """See ImageStore."""
    return ImageStore(
        Path(config.root_dir) / "images",
        owner=owner,
        insecure_registries=config.insecure_registries,
        registry_config_dir=config.hosts_directory,
        policy=policy,
        max_parallel_pulls=config.max_parallel_image_pulls,
        progress=progress,
    )
