"""Resolvers of pods, by the kubelet's table."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.objects import ObjectMeta, Pod, PodDNSConfig, PodDNSConfigOption, PodSpec
from vkubelet.pods.dns import ClusterDNS, Resolver, parse, pod_resolver

HOST = Resolver(("10.0.0.2",), ("corp.example", "svc.cluster.local"), ("rotate", "ndots:1"))
CLUSTER = ClusterDNS(("10.96.0.10",), "cluster.local")
UNKNOWN = ClusterDNS((), "cluster.local")
OF_CLUSTER = Resolver(
    ("10.96.0.10",),
    ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"),
    ("ndots:5",),
)


def resolver(cluster: ClusterDNS = CLUSTER, **spec: Any) -> tuple[Resolver, list[str]]:
    meta = ObjectMeta(name="web", namespace="shop")
    return pod_resolver(Pod(metadata=meta, spec=PodSpec(**spec)), HOST, cluster)


@pytest.mark.parametrize(
    ("policy", "network", "cluster", "expected"),
    [
        ("ClusterFirst", False, CLUSTER, OF_CLUSTER),
        ("ClusterFirst", True, CLUSTER, HOST),
        ("ClusterFirstWithHostNet", True, CLUSTER, OF_CLUSTER),
        ("ClusterFirst", False, UNKNOWN, HOST),
        ("Default", False, CLUSTER, HOST),
        ("None", False, CLUSTER, Resolver()),
        ("", False, CLUSTER, OF_CLUSTER),
    ],
)
def test_policies(policy: str, network: bool, cluster: ClusterDNS, expected: Resolver) -> None:
    assert resolver(cluster, dns_policy=policy, host_network=network) == (expected, [])


def test_without_a_domain_the_searches_are_the_machines() -> None:
    found, _ = resolver(ClusterDNS(("1.1.1.1",), ""), dns_policy="ClusterFirst")
    assert found == Resolver(("1.1.1.1",), HOST.searches, ("ndots:5",))


def test_what_a_pod_adds_comes_last_and_overrules_options() -> None:
    config = PodDNSConfig(
        nameservers=["10.0.0.2", "1.1.1.1"],
        searches=["corp.example", "own.example"],
        options=[
            PodDNSConfigOption(name="ndots", value="2"),
            PodDNSConfigOption(name="edns0"),
        ],
    )
    assert resolver(dns_policy="Default", dns_config=config)[0] == Resolver(
        ("10.0.0.2", "1.1.1.1"),
        ("corp.example", "svc.cluster.local", "own.example"),
        ("rotate", "ndots:2", "edns0"),
    )


def test_what_is_too_much_is_left_out_and_said() -> None:
    config = PodDNSConfig(
        nameservers=[f"1.1.1.{number}" for number in range(4)],
        searches=["x" * 254, *(f"{number}.example" for number in range(40))],
    )
    found, said = resolver(dns_policy="None", dns_config=config)
    assert found.nameservers == ("1.1.1.0", "1.1.1.1", "1.1.1.2")
    assert found.searches == tuple(f"{number}.example" for number in range(31))
    assert said == [
        "Nameserver limits were exceeded, some nameservers have been omitted, "
        "the applied nameserver line is: 1.1.1.0 1.1.1.1 1.1.1.2",
        "Search Line limits were exceeded, some search paths have been omitted, "
        f"the applied search line is: {' '.join(found.searches)}",
    ]


@given(st.lists(st.text(alphabet="ab.", min_size=1, max_size=300), max_size=40))
def test_the_search_line_always_fits(searches: list[str]) -> None:
    found, said = resolver(dns_policy="None", dns_config=PodDNSConfig(searches=searches))
    assert len(" ".join(found.searches)) <= 2048
    assert len(found.searches) <= 32
    assert bool(said) == (len(found.searches) != len(dict.fromkeys(searches)))


def test_a_resolv_conf_is_read_and_written() -> None:
    text = """
    # a comment
    nameserver 10.0.0.2 ignored
    nameserver
    search old.example
    search corp.example. . svc.cluster.local
    options rotate ndots:5
    options ndots:1
    sortlist 1.1.1.1
    """
    assert parse(text) == HOST
    assert HOST.text() == (
        "search corp.example svc.cluster.local\nnameserver 10.0.0.2\noptions rotate ndots:1\n"
    )
    assert parse(HOST.text()) == HOST
    assert Resolver().text() == ""
