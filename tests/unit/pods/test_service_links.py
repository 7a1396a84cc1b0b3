"""Services as variables, by the kubelet's table."""

from __future__ import annotations

from vkubelet.api.configuration import Service, ServiceMeta, ServicePort, ServiceSpec
from vkubelet.pods.service_links import linked, variables


def service(name: str, address: str = "10.1.1.1", *ports: ServicePort, namespace: str = "shop") -> Service:
    return Service(
        metadata=ServiceMeta(name=name, namespace=namespace),
        spec=ServiceSpec(cluster_ip=address, ports=list(ports)),
    )


def test_the_variables_of_a_service() -> None:
    ports = (
        ServicePort(name="web-ui", port=80),
        ServicePort(name="dns", port=53, protocol="UDP"),
        ServicePort(port=9),
    )
    assert variables([service("my-db", "1.2.3.4", *ports)]) == {
        "MY_DB_SERVICE_HOST": "1.2.3.4",
        "MY_DB_SERVICE_PORT": "80",
        "MY_DB_SERVICE_PORT_WEB_UI": "80",
        "MY_DB_SERVICE_PORT_DNS": "53",
        "MY_DB_PORT": "tcp://1.2.3.4:80",
        "MY_DB_PORT_80_TCP": "tcp://1.2.3.4:80",
        "MY_DB_PORT_80_TCP_PROTO": "tcp",
        "MY_DB_PORT_80_TCP_PORT": "80",
        "MY_DB_PORT_80_TCP_ADDR": "1.2.3.4",
        "MY_DB_PORT_53_UDP": "udp://1.2.3.4:53",
        "MY_DB_PORT_53_UDP_PROTO": "udp",
        "MY_DB_PORT_53_UDP_PORT": "53",
        "MY_DB_PORT_53_UDP_ADDR": "1.2.3.4",
        "MY_DB_PORT_9_TCP": "tcp://1.2.3.4:9",
        "MY_DB_PORT_9_TCP_PROTO": "tcp",
        "MY_DB_PORT_9_TCP_PORT": "9",
        "MY_DB_PORT_9_TCP_ADDR": "1.2.3.4",
    }


def test_an_address_of_ipv6_is_bracketed_in_links_only() -> None:
    made = variables([service("db", "fd00::1", ServicePort(port=1))])
    assert made["DB_PORT"] == made["DB_PORT_1_TCP"] == "tcp://[fd00::1]:1"
    assert made["DB_SERVICE_HOST"] == made["DB_PORT_1_TCP_ADDR"] == "fd00::1"


def test_who_is_told_of_which() -> None:
    master = service("kubernetes", "10.0.0.1", namespace="default")
    other = service("other", "10.0.0.2", namespace="default")
    own = service("db")
    assert linked([own], [master, other], all_own=True) == [master, own]
    assert linked([own], [master, other], all_own=False) == [master]
    assert linked([master, other], [master, other], all_own=True) == [master, other]
    assert linked([master, other], [master, other], all_own=False) == [master]
    assert linked([own], [], all_own=True) == [own]


def test_a_service_of_the_masters_name_in_the_pods_namespace_stands_before_it() -> None:
    master = service("kubernetes", "10.0.0.1", namespace="default")
    own = service("kubernetes")
    assert linked([own], [master], all_own=True) == [own]
    assert linked([own], [master], all_own=False) == [master]
