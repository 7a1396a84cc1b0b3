"""A volume that pods come to and leave in any order, with a driver that fails at any moment."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest
from csi_node import AttachingNode
from hypothesis import given, settings
from hypothesis import strategies as st

from vkubelet.csi.drivers import DriverNotFoundError
from vkubelet.csi.protocol import STAGE_UNSTAGE_VOLUME, Empty, NodeUnstageVolumeRequest
from vkubelet.pods.volumes.csi import staging
from vkubelet.pods.volumes.csi.attachments import Attachments
from vkubelet.pods.volumes.csi.records import Given, Records
from vkubelet.pods.volumes.csi.staging import Staging
from vkubelet.pods.volumes.csi.wanted import PERSISTENT, Wanted
from vkubelet.pods.volumes.layout import Layout
from vkubelet.rpc.client import RpcError

WANTED = Wanted("d", "h", "pv", "v", PERSISTENT)


class Failed(Exception):  # noqa: N818  what the test makes of it
    pass


class Driver:
    """A driver, and the registry that knows it. `faults` are how its next calls end: False is a failure."""

    name = "d"

    def __init__(self, records: Records, faults: list[bool]) -> None:
        self._records = records
        self._faults = faults
        self.staged = False
        self.using: set[str] = set()
        """Pods that were told that the volume is ready, and have not left."""

    def works(self) -> bool:
        return self._faults.pop(0) if self._faults else True

    async def get(self, name: str) -> Driver:
        await asyncio.sleep(0)
        if not self.works():
            raise DriverNotFoundError(name)
        return self

    async def news(self, seconds: float) -> None:
        await asyncio.sleep(0)

    async def capabilities(self, deadline: float) -> frozenset[int]:
        await asyncio.sleep(0)
        return frozenset({STAGE_UNSTAGE_VOLUME})

    async def stage(self) -> None:
        self._records.note_staged(self._records.staging(WANTED), WANTED)
        await asyncio.sleep(0)
        if not self.works():
            raise Failed
        self.staged = True

    async def ask(self, method: Any, request: Any, deadline: float) -> Empty:
        assert isinstance(request, NodeUnstageVolumeRequest)
        assert not self.using, "it is taken from pods that use it"
        await asyncio.sleep(0)
        assert not self.using, "it is taken from pods that use it"
        if not self.works():
            raise RpcError("Internal", "busy")
        self.staged = False
        return Empty()


@dataclasses.dataclass
class Setting:
    driver: Driver
    node: AttachingNode
    staging: Staging

    async def come(self, uid: str) -> None:
        self.staging.hold(WANTED.key, uid, attach=True)
        await self.staging.stage(WANTED.key, self.driver.stage)
        self.driver.using.add(uid)

    def leave(self, uid: str) -> None:
        self.driver.using.discard(uid)
        self.staging.leave(uid)


def setting(root: Path, faults: list[bool]) -> Setting:
    records = Records(Layout.of(root, root / "run"), root)
    node, driver = AttachingNode(), Driver(records, faults)
    return Setting(
        driver, node, Staging(cast("Any", driver), records, Attachments(cast("Any", None), node, "n"))
    )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["come", "leave", "cancel", "pause"]), st.sampled_from("abc"))),
    st.lists(st.booleans()),
)
def test_no_order_of_events_takes_a_volume_from_its_pods_or_leaves_it_behind(
    steps: list[tuple[str, str]], faults: list[bool]
) -> None:
    async def play(root: Path) -> None:
        made = setting(root, faults)
        running = asyncio.create_task(made.staging.run())
        await asyncio.sleep(0)
        coming: dict[str, asyncio.Task[None]] = {}

        async def end(uid: str) -> None:
            # A pod's end gives up its start first, as a pod's volumes do.
            task = coming.pop(uid, None)
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            made.leave(uid)

        for step, uid in steps:
            if step == "come" and uid not in coming:
                coming[uid] = asyncio.create_task(made.come(uid))
            elif step == "leave" and uid in coming:
                await asyncio.gather(coming[uid], return_exceptions=True)
                await end(uid)
            elif step == "cancel":
                await end(uid)
            else:
                await asyncio.sleep(0)
            assert not made.driver.using or made.driver.staged
        for uid in "abc":
            await end(uid)
        async with asyncio.timeout(10):
            while made.node.in_use or made.driver.staged:  # noqa: ASYNC110  it is told to nobody
                await asyncio.sleep(0.001)
        assert not list((root / "plugins" / "kubernetes.io" / "csi" / "d").glob("*"))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "RETRY_FIRST", 0.0)
        patch.setattr(staging, "RETRY_LIMIT", 0.0)
        asyncio.run(play(Path(root)))


async def test_what_was_recovered_is_in_use_until_all_pods_are_known(tmp_path: Path) -> None:
    made = setting(tmp_path, [])
    given = Given("d", "h", tmp_path / "mount")
    inline = Given("d", "i", tmp_path / "inline", "Ephemeral")
    made.staging.recover({"u": [given, inline]}, [Given("d", "other", tmp_path / "globalmount")])
    assert made.node.in_use == {"kubernetes.io/csi/d^h", "kubernetes.io/csi/d^other"}
    running = asyncio.create_task(made.staging.run())
    await asyncio.sleep(0)
    made.staging.settle()
    async with asyncio.timeout(10):
        while made.node.in_use != {"kubernetes.io/csi/d^h"}:  # noqa: ASYNC110  it is told to nobody
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
