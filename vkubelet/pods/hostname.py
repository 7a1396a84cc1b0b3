"""What a pod is called in the network, by the kubelet's rules; pure.

It must not know how a guest is told.
"""

from __future__ import annotations

import dataclasses
import re

from vkubelet.api.objects import Pod

_LONGEST = 63
_LONGEST_FQDN = 64
"""What Linux takes as a host name."""

_LABEL = re.compile(r"(?!.{64})[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?!.{254})[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class HostnameError(ValueError):
    """A pod cannot be called what it asks for; the text is the kubelet's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hostname:
    """`short`, the `domain` that it is in (empty for none), and what the pod itself sees as its `name`."""

    short: str
    domain: str
    name: str


def hostname(pod: Pod, cluster_domain: str, machine: str) -> Hostname:
    """What the pod is called. A pod with the host's network is called what the `machine` is.

    Raises HostnameError. (GeneratePodHostNameAndDomain and GetNodenameForKernel of pkg/kubelet)
    """
    short, domain = _parts(pod, cluster_domain)
    if pod.spec.host_network:
        return Hostname(short, domain, machine)
    if not domain or not pod.spec.set_hostname_as_fqdn:
        return Hostname(short, domain, short)
    name = f"{short}.{domain}"
    if len(name) > _LONGEST_FQDN:
        raise HostnameError(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long "
            f"({_LONGEST_FQDN} characters is the max, {len(name)} characters requested)"
        )
    return Hostname(short, domain, name)


def _parts(pod: Pod, cluster_domain: str) -> tuple[str, str]:
    spec = pod.spec
    if spec.hostname_override is not None:
        if not _SUBDOMAIN.fullmatch(spec.hostname_override):
            raise HostnameError(
                f'pod HostnameOverride "{spec.hostname_override}" is not a valid DNS subdomain'
            )
        return _cut(spec.hostname_override), ""
    for field, label in (("Hostname", spec.hostname), ("Subdomain", spec.subdomain)):
        if label and not _LABEL.fullmatch(label):
            raise HostnameError(f'pod {field} "{label}" is not a valid DNS label')
    domain = f"{spec.subdomain}.{pod.metadata.namespace}.svc.{cluster_domain}" if spec.subdomain else ""
    return _cut(spec.hostname or pod.metadata.name), domain


def _cut(name: str) -> str:
    """Cut to what a host name may be; it does not end in `-` or `.` then."""
    return name if len(name) <= _LONGEST else name[:_LONGEST].rstrip("-.")
