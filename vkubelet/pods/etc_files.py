"""The files in a guest's /etc that a kubelet and a container runtime make: hosts, hostname, resolv.conf.

It exists because a guest learns its pod's name, its aliases and its resolver from these. It must not know
what a guest does with them. The files are runtime state: they are made at each start of a container, shared
by the containers of a pod, and go with it.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from providers.base import FileMount, Preopen
from vkubelet.api.events import Recorder
from vkubelet.api.objects import HostAlias, ObjectReference, Pod, pod_reference
from vkubelet.config import Config
from vkubelet.pods import dns
from vkubelet.pods.hostname import Hostname

_ETC = "/etc"
_GUESTS = tuple((name, f"{_ETC}/{name}") for name in ("hosts", "hostname", "resolv.conf"))
_MODE = 0o644
_LONGEST = 10 * 1024 * 1024
"""Bytes of the host's files that are read."""

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


@dataclasses.dataclass(frozen=True, slots=True)
class HostFiles:
    """Where the machine's own are; no `resolver` for a node that gives its pods no servers of its own."""

    hosts: Path = Path("/etc/hosts")
    resolver: Path | None = Path("/etc/resolv.conf")


class EtcFiles:
    """The files of all pods of the node."""

    def __init__(self, config: Config, recorder: Recorder) -> None:
        """`recorder` is told of what pods do not get."""
        self._run_dir = Path(config.run_dir)
        self._node_name = config.node_name
        self._recorder = recorder
        self._host = HostFiles(resolver=Path(config.resolv_conf) if config.resolv_conf else None)
        self._cluster = dns.ClusterDNS(config.cluster_dns, config.cluster_domain)
        self._told = False

    def make(self, pod: Pod, name: Hostname, host_ip: str) -> None:
        """Make the pod's files what they should be now. Raises OSError."""
        if dns.wants_cluster_dns(pod) and not self._cluster.servers:
            self._tell_of_missing_servers(pod.spec.dns_policy)
        where = directory(self._run_dir, pod.metadata.uid)
        for text in prepare(where, pod, name, host_ip, self._host, self._cluster):
            self._recorder.event(pod_reference(pod), "Warning", "DNSConfigForming", text)

    def mounts(
        self, pod: Pod, preopens: Collection[Preopen], files: Collection[FileMount]
    ) -> tuple[FileMount, ...]:
        """The files that a container sees which is given `preopens` and `files`."""
        return visible(directory(self._run_dir, pod.metadata.uid), preopens, files)

    def forget(self, pod: Pod) -> None:
        """The pod has ended: its files go."""
        remove(directory(self._run_dir, pod.metadata.uid))

    def _tell_of_missing_servers(self, policy: str) -> None:
        """Once, of the node: a kubelet says it at each look at each pod."""
        if self._told:
            return
        self._told = True
        node = ObjectReference(kind="Node", name=self._node_name, uid=self._node_name)
        text = (
            "kubelet does not have ClusterDNS IP configured and cannot create Pod using "
            f'"{policy}" policy. Falling back to "Default" policy.'
        )
        self._recorder.event(node, "Warning", "MissingClusterDNS", text)


def directory(run_dir: Path, uid: str) -> Path:
    """The host's directory of a pod's files."""
    return Path(run_dir, "etc", uid)


def remove(where: Path) -> None:
    """The pod is gone."""
    shutil.rmtree(where, ignore_errors=True)


def hosts(pod: Pod, name: Hostname, host_ip: str, machine: str) -> str:
    """The pod's hosts file; with the host's network, the `machine`'s own with the pod's aliases."""
    aliases = _aliases(pod.spec.host_aliases or ())
    if pod.spec.host_network:
        return f"# Kubernetes-managed hosts file (host network).\n{machine}{aliases}"
    full = f"{name.short}.{name.domain}\t{name.short}" if name.domain else name.short
    return f"# Kubernetes-managed hosts file.\n{_HOSTS}{host_ip}\t{full}\n{aliases}"


def prepare(
    where: Path, pod: Pod, name: Hostname, host_ip: str, host: HostFiles, cluster: dns.ClusterDNS
) -> list[str]:
    """Make the pod's files what they should be now; what the pod should be told of its resolver.

    Blocks for a few calls on files of the machine and of the run directory, which is in memory or the page
    cache: less than a thread costs. Raises OSError.
    """
    machine = dns.parse(_read(host.resolver)) if host.resolver is not None else dns.NO_LOOKUPS
    resolver, said = dns.pod_resolver(pod, machine, cluster)
    names = _read(host.hosts) if pod.spec.host_network else ""
    fresh = _make(str(where))
    _put(f"{where}/hosts", hosts(pod, name, host_ip, names), fresh=fresh)
    _put(f"{where}/hostname", f"{name.name}\n", fresh=fresh)
    _put(f"{where}/resolv.conf", resolver.text(), fresh=fresh)
    return said


def visible(
    where: Path, preopens: Collection[Preopen], files: Collection[FileMount]
) -> tuple[FileMount, ...]:
    """The files as a guest sees them, but for those in whose place it is given something else."""
    taken = {_path(file.guest) for file in files}
    if _ETC in taken:
        return ()
    directories = {_path(preopen.guest) for preopen in preopens}
    if _ETC in directories:
        return ()
    taken |= directories
    # Writable, as a runtime's are, where the guest's user may write to them.
    return tuple(FileMount(where / name, guest) for name, guest in _GUESTS if guest not in taken)


def _aliases(aliases: Iterable[HostAlias]) -> str:
    lines = [f"{alias.ip}\t" + "\t".join(alias.hostnames or ()) for alias in aliases]
    return "\n# Entries added by HostAliases.\n" + "".join(f"{line}\n" for line in lines) if lines else ""


def _path(guest: str) -> str:
    return os.path.normpath("/" + guest.lstrip("/"))


def _read(path: Path) -> str:
    """One of the machine's files. One that is absent is empty: so do resolvers take it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        return os.read(descriptor, min(os.fstat(descriptor).st_size, _LONGEST)).decode(errors="replace")
    finally:
        os.close(descriptor)


def _make(where: str) -> bool:
    """Make the directory; whether it was not there."""
    try:
        os.mkdir(where, 0o700)  # noqa: PTH102  paths are text here: this is done for every start
    except FileNotFoundError:
        os.makedirs(where, 0o700)  # noqa: PTH103
    except FileExistsError:
        return False
    return True


def _put(path: str, text: str, *, fresh: bool) -> None:
    """Put the text in place, unless it is there: guests may have written to the file they have.

    In a `fresh` directory nobody looks yet. What is cut off there with the agent, the next start replaces.
    """
    content = text.encode()
    if fresh:
        _write(path, content)
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    else:
        try:
            if os.fstat(descriptor).st_size == len(content) and os.read(descriptor, len(content)) == content:
                return
        finally:
            os.close(descriptor)
    _write(f"{path}.new", content)
    os.replace(f"{path}.new", path)  # noqa: PTH105


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
    try:
        os.fchmod(descriptor, _MODE)
        while content:
            content = content[os.write(descriptor, content) :]
    finally:
        os.close(descriptor)
