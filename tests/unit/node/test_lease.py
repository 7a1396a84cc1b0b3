"""The lease by the kubelet's rules, with a clock of the test's."""

from typing import Any

import pytest

from vkubelet.api.client import ApiClient
from vkubelet.node.lease import LEASES, LeaseKeeper

Store = Any
PATH = f"{LEASES}/wasm-1"


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.25
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


class EnoughError(Exception):
    pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keeper(client: ApiClient, clock: Clock) -> LeaseKeeper:
    return LeaseKeeper(client, "wasm-1", 40, lambda: "node-uid", clock=clock, sleep=clock.sleep)


async def test_a_lease_is_created_with_its_owner(store: Store, keeper: LeaseKeeper) -> None:
    assert await keeper.renew()
    lease = store.objects[PATH]
    assert lease["spec"] == {
        "holderIdentity": "wasm-1",
        "leaseDurationSeconds": 40,
        "renewTime": "2023-11-14T22:13:20.250000Z",
    }
    assert lease["metadata"]["namespace"] == "kube-node-lease"
    assert lease["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "wasm-1", "uid": "node-uid"}
    ]


async def test_a_renewal_is_one_put_without_a_get(store: Store, keeper: LeaseKeeper, clock: Clock) -> None:
    await keeper.renew()
    store.requests.clear()
    clock.now += 10
    assert await keeper.renew()
    assert [verb for verb, _, _ in store.requests] == ["PUT"]
    assert store.objects[PATH]["spec"]["renewTime"] == "2023-11-14T22:13:30.250000Z"


async def test_an_existing_lease_is_taken_on(store: Store, keeper: LeaseKeeper) -> None:
    store.put(PATH, {"metadata": {"name": "wasm-1"}, "spec": {"holderIdentity": "wasm-1"}})
    assert await keeper.renew()
    assert [verb for verb, _, _ in store.requests] == ["GET", "PUT"]


async def test_a_conflict_is_resolved_by_reading(store: Store, keeper: LeaseKeeper) -> None:
    await keeper.renew()
    store.put(PATH, store.objects[PATH])
    store.requests.clear()
    assert await keeper.renew()
    assert [verb for verb, _, _ in store.requests] == ["PUT", "GET", "PUT"]


async def test_a_deleted_lease_is_created_again(store: Store, keeper: LeaseKeeper) -> None:
    await keeper.renew()
    del store.objects[PATH]
    assert await keeper.renew()
    assert PATH in store.objects


async def test_a_server_that_has_gone_back_is_noticed(
    store: Store, client: ApiClient, keeper: LeaseKeeper
) -> None:
    store.version = 50
    await keeper.renew()
    await keeper.renew()
    assert client.history == 0
    store.version = 40
    store.put(PATH, store.objects[PATH])
    await keeper.renew()
    assert client.history == 1
    await keeper.renew()
    assert client.history == 1
    # So much has been written since that a write alone tells nothing.
    store.objects[PATH]["metadata"]["resourceVersion"] = "41"
    store.version = 100
    await keeper.renew()
    assert client.history == 2


async def test_a_renewal_is_later_than_the_one_before_whatever_the_clock_says(
    store: Store, client: ApiClient, keeper: LeaseKeeper, clock: Clock
) -> None:
    """A control plane takes a lease whose time goes back for one that is not renewed."""
    await keeper.renew()
    clock.now -= 3600
    await keeper.renew()
    assert store.objects[PATH]["spec"]["renewTime"] == "2023-11-14T22:13:20.251000Z"
    later = LeaseKeeper(client, "wasm-1", 40, lambda: "node-uid", clock=clock, sleep=clock.sleep)
    await later.renew()
    assert store.objects[PATH]["spec"]["renewTime"] == "2023-11-14T22:13:20.252000Z"
    clock.now += 3601
    await later.renew()
    assert store.objects[PATH]["spec"]["renewTime"] == "2023-11-14T22:13:21.250000Z"


async def test_five_tries_with_rising_pauses(store: Store, keeper: LeaseKeeper, clock: Clock) -> None:
    await keeper.renew()
    store.faults += [500] * 5
    assert not await keeper.renew()
    assert len(clock.naps) == 5
    assert clock.naps[-1] > clock.naps[0]
    assert await keeper.renew()


async def test_renewals_come_every_quarter_of_the_duration(
    keeper: LeaseKeeper, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nap(seconds: float) -> None:
        clock.naps.append(seconds)
        if len(clock.naps) == 5:
            raise EnoughError

    monkeypatch.setattr(keeper, "_sleep", nap)
    with pytest.raises(EnoughError):
        await keeper.run()
    assert all(10 <= seconds <= 10.4 for seconds in clock.naps)
    assert len(set(clock.naps)) > 1, "with jitter"
