"""What pods have been given, as files: one a pod, for the next agent.

It exists because a resize that was granted must not be forgotten with the agent, nor what a running container
is held to. The files are of this boot, like the containers: written whole and never synced to disk. It
must not know what is granted, nor why.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import msgspec

from providers import intact
from providers.faultpoints import reached
from providers.removal import remove
from vkubelet.api.containers import ResourceRequirements
from vkubelet.api.struct import Struct
from vkubelet.pods.resize import PodResources
from vkubelet.pods.resources import Applied

logger = logging.getLogger(__name__)


class Given(Struct):
    """The resources that a pod was granted, and what each of its containers, and the whole, is held to.

    `shared` is what the containers are held to together; None in the files of earlier agents.
    """

    resources: PodResources
    applied: dict[str, Applied]
    whole: ResourceRequirements | None = None
    shared: Applied | None = None


_decoder = msgspec.json.Decoder(Given)
_encoder = msgspec.json.Encoder()


class AllocationFiles:
    """A directory with a file for each pod, named by its uid."""

    def __init__(self, directory: Path) -> None:
        """The directory is made if need be."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._known = {path.name for path in directory.iterdir()}

    def read(self, uid: str) -> Given | None:
        """What the pod was given; None if nothing is known of it."""
        if uid not in self._known:
            return None
        path = self._directory / uid
        try:
            return _decoder.decode(intact.read(path))
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, intact.DamagedError) as error:
            aside = intact.set_aside(path)
            logger.warning(
                "what pod %s was given is not known any more: %s: %s: set aside as %s",
                uid,
                path,
                error,
                aside,
            )
            return None

    def write(self, uid: str, given: Given) -> None:
        """Keep what a pod has been given. Where there is no room, the next agent knows what its spec says."""
        self._known.add(uid)
        fresh = self._directory / f".{uid}"
        try:
            fresh.write_bytes(_encoder.encode(given))
            reached("allocation-half-written")
            intact.replace(fresh, self._directory / uid)
        except OSError as error:
            logger.warning("what pod %s was given is known to this agent only: %s", uid, error)
            return
        reached("allocation-written")

    def forget(self, uid: str) -> None:
        """The pod is no more."""
        if uid in self._known:
            self._known.discard(uid)
            try:
                remove(self._directory / uid)
            except OSError as error:
                logger.warning("what a pod that is gone was given is left: %s", error)

    def keep_only(self, uids: Collection[str]) -> None:
        """Forget all pods but these."""
        for path in self._directory.iterdir():
            if path.name not in uids:
                remove(path)
        self._known.intersection_update(uids)
