"""What there is of each resource, by what its plugins do and when."""

from __future__ import annotations

from vkubelet.deviceplugins.messages import Device
from vkubelet.deviceplugins.pool import GRACE, Pool

R = "example.com/widget"


def devices(**health: str) -> list[Device]:
    return [Device(id=name, health=value) for name, value in health.items()]


def amounts(pool: Pool[str]) -> tuple[int | None, int | None]:
    return pool.capacity().get(R), pool.allocatable().get(R)


def test_a_resource_is_not_there_until_its_plugin_tells_of_it() -> None:
    pool: Pool[str] = Pool([], 0)
    pool.connected(R, "a.sock", "a")
    assert pool.find(R) is None
    assert amounts(pool) == (None, None)
    assert pool.names() == []
    assert pool.listed(R, devices(one="Healthy", two="Unhealthy", three="who knows")) == {
        "one",
        "two",
        "three",
    }
    assert amounts(pool) == (3, 1)
    assert pool.names() == [R]
    assert (pool.health(R, "one"), pool.health(R, "two"), pool.health(R, "gone")) == (
        "Healthy",
        "Unhealthy",
        "Healthy",
    )


def test_only_what_changed_is_news() -> None:
    pool: Pool[str] = Pool([], 0)
    pool.connected(R, "a.sock", "a")
    pool.listed(R, devices(one="Healthy", two="Healthy"))
    assert pool.listed(R, devices(one="Healthy", two="Unhealthy")) == {"two"}
    assert pool.listed(R, devices(one="Healthy")) == set()
    assert pool.listed(R, devices(one="Healthy", two="Healthy")) == {"two"}


def test_a_device_that_is_named_twice_is_one() -> None:
    pool: Pool[str] = Pool([], 0)
    pool.connected(R, "a.sock", "a")
    pool.listed(R, [Device(id="one", health="Healthy"), Device(id="one", health="Unhealthy")])
    assert amounts(pool) == (1, 0)


def test_nobody_gets_anything_when_the_plugin_has_gone_and_then_there_is_nothing() -> None:
    pool: Pool[str] = Pool([], 0)
    pool.connected(R, "a.sock", "a")
    pool.listed(R, devices(one="Healthy"))
    assert pool.expires_at() is None
    assert pool.disconnected(R, "a.sock", "a", 100)
    assert amounts(pool) == (1, 0)
    assert pool.find(R) is not None
    assert pool.plugin(R) is None
    assert pool.expires_at() == 100 + GRACE
    assert not pool.expire(99 + GRACE)
    assert pool.expire(100 + GRACE)
    assert not pool.expire(1000 + GRACE)
    assert amounts(pool) == (0, 0)
    assert pool.find(R) is None
    assert pool.names() == [R]


def test_a_plugin_that_comes_back_in_time_changes_nothing() -> None:
    pool: Pool[str] = Pool([], 0)
    pool.connected(R, "a.sock", "a")
    pool.listed(R, devices(one="Healthy"))
    pool.disconnected(R, "a.sock", "a", 100)
    pool.connected(R, "b.sock", "b")
    assert amounts(pool) == (1, 0)
    assert not pool.expire(1000)
    pool.listed(R, devices(one="Healthy"))
    assert amounts(pool) == (1, 1)


def test_the_end_of_a_plugin_that_has_been_replaced_is_no_news() -> None:
    pool: Pool[str] = Pool([], 0)
    assert pool.connected(R, "a.sock", "old") is None
    pool.listed(R, devices(one="Healthy"))
    assert pool.connected(R, "a.sock", "new") == "old"
    assert not pool.disconnected(R, "a.sock", "old", 100)
    assert amounts(pool) == (1, 1)
    assert pool.plugin(R) == "new"


def test_the_plugin_that_came_last_is_asked_and_another_stands_in_for_it() -> None:
    pool: Pool[str] = Pool([], 0)
    pool.connected(R, "a.sock", "a")
    pool.connected(R, "b.sock", "b")
    assert pool.plugin(R) == "b"
    assert not pool.disconnected(R, "b.sock", "b", 100)
    assert pool.plugin(R) == "a"
    assert pool.disconnected(R, "a.sock", "a", 100)


def test_what_was_there_before_the_agent_counts_nothing_until_it_comes_back() -> None:
    pool: Pool[str] = Pool([R], 50)
    assert amounts(pool) == (0, 0)
    assert pool.find(R) is not None
    assert pool.expire(50 + GRACE)
    assert pool.find(R) is None
    pool.connected(R, "a.sock", "a")
    pool.listed(R, devices(one="Healthy"))
    assert amounts(pool) == (1, 1)
