"""What the volumes of all pods of the node share.

It exists so that a pod's volumes and their manager need not know each other. It must not know how a kind of
volume is made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping

from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod
from vkubelet.api.references import References
from vkubelet.api.volumes import Volume
from vkubelet.pods.volumes.kinds import Kind
from vkubelet.pods.volumes.layout import Layout
from vkubelet.pods.volumes.renewal import Renewal
from vkubelet.pods.volumes.tokens import Tokens


@dataclasses.dataclass(frozen=True, slots=True)
class NodeVolumes:
    """`kinds` are by the API's name of each; `forget` is told the uid of a pod without volumes.
    `release` has drivers take back what the pod of a uid has of them, before anything of it is removed.

    `begin` asks for what takes a while of a projected volume.
    """

    kinds: Mapping[str, Kind]
    begin: Callable[[Pod, Volume], Awaitable[None]]
    layout: Layout
    objects: References
    tokens: Tokens
    renewal: Renewal
    recorder: Recorder
    forget: Callable[[str], None]
    release: Callable[[str], Awaitable[None]]
