"""A node with a storage driver of its own, which does as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from csi_driver import NAME, FakeDriver
from csi_node import CsiNode, csi_node
from grpc_server import RefusedError
from storage_api import StorageApi, storage_api

from vkubelet.pods.volumes.csi import staging, volumes
from vkubelet.pods.volumes.errors import VolumeError
from vkubelet.pods.volumes.pod import PodVolumes
from vkubelet.rpc.messages import Message

UNIQUE = f"kubernetes.io/csi/{NAME}^h"


@pytest.fixture
def root(short_path: Path) -> Path:
    return short_path


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (staging, volumes):
        monkeypatch.setattr(module, "RETRY_FIRST", 0.02)
        monkeypatch.setattr(module, "RETRY_LIMIT", 0.05)


@pytest.fixture
async def api() -> AsyncIterator[StorageApi]:
    async with storage_api() as made:
        yield made


@pytest.fixture
async def driver(root: Path) -> AsyncIterator[FakeDriver]:
    made = FakeDriver(root)
    async with made.serving():
        yield made


@pytest.fixture
async def lonely(root: Path, api: StorageApi) -> AsyncIterator[CsiNode]:
    """A node without a driver."""
    async with csi_node(root, api) as made:
        yield made


@pytest.fixture
async def node(lonely: CsiNode, driver: FakeDriver) -> CsiNode:
    """A node with the driver."""
    await driver.registered()
    return lonely


async def mount(node: CsiNode, wanted: Any) -> PodVolumes:
    made = node.manager.pod(wanted, node.available.set)
    await made.mount(wanted)
    return made


async def refusal(node: CsiNode, wanted: Any) -> str:
    """The message of a mount that fails."""
    with pytest.raises(VolumeError) as error:
        await mount(node, wanted)
    assert error.value.reason == "FailedMount"
    (message,) = error.value.messages
    return message


def of(driver: FakeDriver, kind: type[Message]) -> list[Any]:
    return [call for call in driver.calls if isinstance(call, kind)]


def fails(kind: type[Message], code: str, times: int) -> Any:
    """What has a driver refuse the first calls of a kind."""
    left = [None] * times

    async def before(request: Message) -> None:
        if isinstance(request, kind) and left:
            left.pop()
            raise RefusedError(code, "broken disk")

    return before
