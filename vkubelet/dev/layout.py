"""Where everything of a dev cluster is, and the one error that its commands end with.

Pure paths: it must not create, start or ask anything.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click


class DevError(click.ClickException):
    """A `vkubelet dev` command that cannot go on; its text is one sentence for the user. Exit code 1."""


@dataclass(frozen=True)
class Layout:
    """The directories: `root` holds one cluster with its node, `cache` what all clusters share."""

    root: Path
    cache: Path

    @property
    def cluster(self) -> Path:
        """The data directory of the control plane and the registry."""
        return self.root / "cluster"

    @property
    def node(self) -> Path:
        """The node's directories and its log."""
        return self.root / "node"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, once the cluster was up for the first time."""
        return self.cluster / "admin.kubeconfig"


def default_root() -> Path:
    """One dev cluster a user, where the XDG base directory specification keeps state."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "vkubelet" / "dev"


def default_cache() -> Path:
    """Build results: what is in it can be made again."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vkubelet"


def deployed(name: str) -> Path:
    """A directory of the repository's `deploy/`, which a wheel carries inside this package."""
    package = Path(__file__).parent
    for candidate in (package / "deploy" / name, package.parents[1] / "deploy" / name):
        if candidate.is_dir():
            return candidate
    raise DevError(f"this installation of vkubelet lacks deploy/{name}; install it again")
