"""A pod's resolver configuration, by dnsPolicy and dnsConfig, as a kubelet makes it; pure.

It exists to hold the rules of pkg/kubelet/network/dns. It must not know where the text goes: a guest reads it
as /etc/resolv.conf, while the runtime looks names up for guests by the machine's own resolver.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from vkubelet.api.objects import Pod, PodDNSConfig

_MOST_NAMESERVERS = 3
_MOST_SEARCHES = 32
_LONGEST_SEARCH_LINE = 2048
_LONGEST_SEARCH = 253

CLUSTER_OPTIONS = ("ndots:5",)


@dataclasses.dataclass(frozen=True, slots=True)
class Resolver:
    """What a resolv.conf says."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def text(self) -> str:
        """As container runtimes write it."""
        lines = [f"search {' '.join(self.searches)}"] if self.searches else []
        lines += [f"nameserver {server}" for server in self.nameservers]
        lines += [f"options {' '.join(self.options)}"] if self.options else []
        return "".join(f"{line}\n" for line in lines)


NO_LOOKUPS = Resolver(nameservers=("127.0.0.1",), searches=(".",))
"""What a node with no resolver configuration of its own gives its pods."""


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterDNS:
    """The cluster's DNS servers, none if they are not known, and its domain."""

    servers: tuple[str, ...]
    domain: str


def parse(text: str) -> Resolver:
    """The part of a resolv.conf that pods get: the last `search` counts, and the last of an option."""
    nameservers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_]:
                nameservers.append(server)
            case ["search", *domains]:
                searches = [domain.removesuffix(".") for domain in domains if domain != "."]
            case ["options", *more]:
                options = _merged(options, more)
    return Resolver(tuple(nameservers), tuple(searches), tuple(options))


def pod_resolver(pod: Pod, host: Resolver, cluster: ClusterDNS) -> tuple[Resolver, list[str]]:
    """The pod's resolver, and what had to be left out of it, as the kubelet's DNSConfigForming events say."""
    found = _by_policy(pod, host, cluster)
    if pod.spec.dns_config is not None:
        found = _with(found, pod.spec.dns_config)
    return _fitting(found)


def wants_cluster_dns(pod: Pod) -> bool:
    """Whether the policy asks for the cluster's servers; with the host's network, ClusterFirst does not."""
    policy = pod.spec.dns_policy
    if policy == "ClusterFirst":
        return not pod.spec.host_network
    return policy not in ("None", "Default")


def _by_policy(pod: Pod, host: Resolver, cluster: ClusterDNS) -> Resolver:
    if pod.spec.dns_policy == "None":
        return Resolver()
    if not wants_cluster_dns(pod) or not cluster.servers:
        return host
    domain = cluster.domain
    own = (f"{pod.metadata.namespace}.svc.{domain}", f"svc.{domain}", domain) if domain else ()
    return Resolver(cluster.servers, _unique((*own, *host.searches)), CLUSTER_OPTIONS)


def _with(base: Resolver, config: PodDNSConfig) -> Resolver:
    more = [
        f"{option.name}:{option.value}" if option.value else option.name for option in config.options or ()
    ]
    return Resolver(
        _unique((*base.nameservers, *(config.nameservers or ()))),
        _unique((*base.searches, *(config.searches or ()))),
        tuple(_merged(base.options, more)),
    )


def _fitting(resolver: Resolver) -> tuple[Resolver, list[str]]:
    """Cut to what resolvers take."""
    said = []
    servers = resolver.nameservers[:_MOST_NAMESERVERS]
    if servers != resolver.nameservers:
        said.append(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver "
            f"line is: {' '.join(servers)}"
        )
    searches = [name for name in resolver.searches[:_MOST_SEARCHES] if len(name) <= _LONGEST_SEARCH]
    while len(" ".join(searches)) > _LONGEST_SEARCH_LINE:
        searches.pop()
    if len(searches) != len(resolver.searches):
        said.append(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line "
            f"is: {' '.join(searches)}"
        )
    return Resolver(servers, tuple(searches), resolver.options), said


def _merged(options: Iterable[str], more: Iterable[str]) -> list[str]:
    """By name, the part before a colon: the last of a name counts, in the place of the first."""
    return list({option.partition(":")[0]: option for option in (*options, *more)}.values())


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
