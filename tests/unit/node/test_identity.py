"""Who may be the node of a name."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

from vkubelet.api.client import ApiClient
from vkubelet.api.objects import ObjectMeta
from vkubelet.node.conditions import NodeCondition
from vkubelet.node.identity import NodeNameTakenError, ensure_free, instance_id, visibly_free
from vkubelet.node.lease import LEASES
from vkubelet.node.status import INSTANCE, NodeObject, NodeStatus

Store = Any
PATH = f"{LEASES}/wasm-1"


def node(instance: str | None = None, ready: tuple[str, str] | None = ("True", "KubeletReady")) -> NodeObject:
    annotations = {INSTANCE: instance} if instance else None
    found = [NodeCondition(type="Ready", status=ready[0], reason=ready[1])] if ready else None
    return NodeObject(
        metadata=ObjectMeta(name="wasm-1", annotations=annotations), status=NodeStatus(conditions=found)
    )


def lease(store: Store, renewed: str, seconds: int = 1) -> None:
    spec = {"leaseDurationSeconds": seconds, "renewTime": renewed}
    store.put(PATH, {"metadata": {"name": "wasm-1"}, "spec": spec})


@pytest.mark.parametrize(
    ("found", "free"),
    [
        (node("me"), True),
        (node("other"), False),
        (node(None), False),
        (node("other", ready=None), True),
        (node("other", ready=("Unknown", "NodeStatusUnknown")), True),
        (node("other", ready=("False", "NodeShutdown")), True),
        (node("other", ready=("False", "KubeletNotReady")), False),
    ],
)
def test_visibly_free(found: NodeObject, free: bool) -> None:
    assert visibly_free(found, "me") is free


async def test_our_own_node_needs_no_look_at_the_lease(store: Store, client: ApiClient) -> None:
    await ensure_free(client, node("me"), "me")
    assert store.requests == []


async def test_a_node_without_a_lease_is_free(client: ApiClient) -> None:
    await ensure_free(client, node("other"), "me")


async def test_a_lease_that_nobody_renews_is_free(store: Store, client: ApiClient) -> None:
    lease(store, "2020-01-01T00:00:00.000000Z")
    await ensure_free(client, node("other"), "me")
    assert len(store.requests) > 2


async def test_a_lease_that_is_renewed_is_taken(store: Store, client: ApiClient) -> None:
    lease(store, "2020-01-01T00:00:00.000000Z", seconds=8)
    watching = asyncio.create_task(ensure_free(client, node("other"), "me"))
    async with asyncio.timeout(30):
        while not store.requests:  # noqa: ASYNC110  the server is a script without a signal
            await asyncio.sleep(0.01)
        lease(store, "2020-01-01T00:00:10.000000Z", seconds=8)
        with pytest.raises(NodeNameTakenError) as caught:
            await watching
    text = str(caught.value)
    assert "'wasm-1' is taken" in text
    assert "instance other, ours is me" in text
    assert "2020-01-01T00:00:10" in text


async def test_a_lease_that_goes_away_is_free(store: Store, client: ApiClient) -> None:
    lease(store, "2020-01-01T00:00:00.000000Z", seconds=8)
    watching = asyncio.create_task(ensure_free(client, node("other"), "me"))
    async with asyncio.timeout(30):
        while not store.requests:  # noqa: ASYNC110  the server is a script without a signal
            await asyncio.sleep(0.01)
        del store.objects[PATH]
        await watching


def test_the_instance_stays_the_same(tmp_path: Path) -> None:
    first = instance_id(tmp_path)
    assert str(uuid.UUID(first)) == first
    assert instance_id(tmp_path) == first
    assert (tmp_path / "instance").stat().st_mode & 0o777 == 0o600


def test_a_corrupt_instance_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "instance").write_bytes(b"\0\0")
    fresh = instance_id(tmp_path)
    assert instance_id(tmp_path) == fresh
    assert (tmp_path / "instance.corrupt").read_bytes() == b"\0\0"
    assert "holds no id" in caplog.text
