"""All that makes drivers' volumes, put together.

It exists so that nobody else knows how its parts fit. It must not know what they do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vkubelet.api.client import ApiClient
from vkubelet.api.events import Recorder
from vkubelet.api.references import References
from vkubelet.config import Config
from vkubelet.csi.drivers import Drivers
from vkubelet.csi.node_info import NodeInfo
from vkubelet.csi.registration import Registration
from vkubelet.pods.volumes.attaching import AttachingNode
from vkubelet.pods.volumes.csi.attachments import Attachments
from vkubelet.pods.volumes.csi.objects import DriverObjects
from vkubelet.pods.volumes.csi.publishing import Publishing
from vkubelet.pods.volumes.csi.records import Records
from vkubelet.pods.volumes.csi.staging import Staging
from vkubelet.pods.volumes.csi.volumes import CsiVolumes
from vkubelet.pods.volumes.layout import Layout
from vkubelet.pods.volumes.tokens import Tokens


def csi_volumes(
    config: Config,
    layout: Layout,
    *,
    client: ApiClient,
    node: AttachingNode,
    secrets: References,
    tokens: Tokens,
    recorder: Recorder,
    on_registered: Callable[[], None],
) -> CsiVolumes:
    """For one node; `on_registered` hears of each driver."""
    root = Path(config.root_dir)
    drivers = Drivers(on_registered)
    records = Records(layout, root)
    attachments = Attachments(client, node, config.node_name)
    return CsiVolumes(
        drivers=drivers,
        registration=Registration(drivers, NodeInfo(client, config.node_name)),
        objects=DriverObjects(client),
        records=records,
        attachments=attachments,
        staging=Staging(drivers, records, attachments),
        publishing=Publishing(drivers, records, secrets, tokens, config.node_name),
        recorder=recorder,
    )
