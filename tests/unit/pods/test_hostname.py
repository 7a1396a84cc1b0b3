"""What a pod is called, by the kubelet's table."""

from __future__ import annotations

from typing import Any

import pytest

from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.pods.hostname import Hostname, HostnameError, hostname


def named(name: str = "web-1", **spec: Any) -> Hostname:
    pod = Pod(metadata=ObjectMeta(name=name, namespace="shop"), spec=PodSpec(**spec))
    return hostname(pod, "cluster.local", "machine")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, Hostname("web-1", "", "web-1")),
        ({"hostname": "db"}, Hostname("db", "", "db")),
        ({"hostname": "db", "subdomain": "x"}, Hostname("db", "x.shop.svc.cluster.local", "db")),
        (
            {"subdomain": "x", "set_hostname_as_fqdn": True},
            Hostname("web-1", "x.shop.svc.cluster.local", "web-1.x.shop.svc.cluster.local"),
        ),
        ({"set_hostname_as_fqdn": True}, Hostname("web-1", "", "web-1")),
        ({"hostname_override": "a.b", "subdomain": "x"}, Hostname("a.b", "", "a.b")),
        ({"host_network": True}, Hostname("web-1", "", "machine")),
    ],
)
def test_names(spec: dict[str, Any], expected: Hostname) -> None:
    assert named(**spec) == expected


def test_a_long_name_is_cut_and_does_not_end_in_a_hyphen() -> None:
    assert named("a" * 63 + "b").short == "a" * 63
    assert named("a" * 60 + "-.-" + "b" * 5).short == "a" * 60


def test_a_full_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(HostnameError) as raised:
        named("a" * 50, subdomain="x", set_hostname_as_fqdn=True)
    full = "a" * 50 + ".x.shop.svc.cluster.local"
    assert str(raised.value) == (
        "failed to construct FQDN from pod hostname and cluster domain, "
        f"FQDN {full} is too long (64 characters is the max, {len(full)} characters requested)"
    )


@pytest.mark.parametrize(
    "spec",
    [{"hostname": "a.b"}, {"hostname": "a" * 64}, {"subdomain": "A"}, {"hostname_override": "-a"}],
)
def test_what_is_no_name_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(HostnameError, match="is not a valid DNS"):
        named(**spec)
