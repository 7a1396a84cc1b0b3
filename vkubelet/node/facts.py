"""What this machine is and has: read from the system, never assumed.

It exists so that the scheduler is told the truth. Constant facts are read once, what is left at every look.
It must not know how any of it is reported.
"""

from __future__ import annotations

import importlib.metadata
import ipaddress
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from vkubelet.config import Config, ConfigError
from vkubelet.node import cgroup
from vkubelet.pods.eviction import thresholds

KUBERNETES = "1.37.2"
"""The Kubernetes version whose kubelet's behaviour and API this node follows."""


@dataclass(frozen=True)
class Resources:
    """Amounts of what pods use: thousandths of a core, bytes, bytes, pods; extended ones by name."""

    millicores: int
    memory: int
    storage: int
    pods: int
    extended: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What holds for as long as the agent runs."""

    capacity: Resources
    allocatable: Resources
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel_version: str
    os_image: str
    container_runtime_version: str
    kubelet_version: str
    operating_system: str
    architecture: str

    def with_devices(
        self, config: Config, capacity: Mapping[str, int], allocatable: Mapping[str, int]
    ) -> Facts:
        """The machine with so many devices of plugins, beside the extended resources that are configured."""
        own = config.extended_resources
        return replace(
            self,
            capacity=replace(self.capacity, extended={**capacity, **own}),
            allocatable=replace(self.allocatable, extended={**allocatable, **own}),
        )


@dataclass(frozen=True)
class Signals:
    """How much is left of what has no place in a file system: bytes and processes."""

    memory_available: int
    processes_available: int
    processes_capacity: int


def read(config: Config, root: Path = Path("/")) -> Facts:
    """Look at the machine; `root` is another file system's root in tests. Blocks: call it in a thread."""
    limits = cgroup.read(root)
    cores = len(os.sched_getaffinity(0)) * 1000
    filesystem = os.statvfs(config.root_dir)
    capacity = Resources(
        millicores=min(cores, limits.millicores or cores),
        memory=_least(meminfo(root)["MemTotal"], limits.memory),
        storage=filesystem.f_blocks * filesystem.f_frsize,
        pods=config.max_pods,
        extended=config.extended_resources,
    )
    machine_id = _first_text(root, "etc/machine-id", "var/lib/dbus/machine-id")
    return Facts(
        capacity=capacity,
        allocatable=allocatable(capacity, config),
        machine_id=machine_id,
        system_uuid=_first_text(root, "sys/class/dmi/id/product_uuid", "etc/machine-id"),
        boot_id=_first_text(root, "proc/sys/kernel/random/boot_id"),
        kernel_version=platform.release(),
        os_image=_os_release(root).get("PRETTY_NAME", "Linux"),
        container_runtime_version=f"wasmtime://{importlib.metadata.version('wasmtime')}",
        kubelet_version=f"v{KUBERNETES}-vkubelet.{importlib.metadata.version('vkubelet')}",
        # What Krustlet's nodes say; the labels, which pods select by, carry the target's name.
        operating_system="linux",
        architecture="wasm-wasi",
    )


def allocatable(capacity: Resources, config: Config) -> Resources:
    """The kubelet's Node Allocatable: capacity without what is reserved and without eviction's thresholds.

    In whole KiB, as the node's object shows it: pods are told what everybody sees. Raises ConfigError for
    thresholds that cannot be read.
    """
    hard = thresholds.configured(config)
    memory = thresholds.reserved(hard, "memory.available", capacity.memory)
    storage = thresholds.reserved(hard, "nodefs.available", capacity.storage)
    return Resources(
        millicores=max(capacity.millicores - round(config.system_reserved_cpu * 1000), 0),
        memory=_whole(max(capacity.memory - config.system_reserved_memory - memory, 0)),
        storage=_whole(max(capacity.storage - storage, 0)),
        pods=capacity.pods,
        extended=capacity.extended,
    )


def _whole(size: int) -> int:
    return size // 1024 * 1024


def signals(root: Path = Path("/")) -> Signals:
    """Look at what is left now. Blocks for the time of a few reads: call it in a thread."""
    limits = cgroup.read(root)
    memory = meminfo(root)["MemAvailable"]
    if limits.memory is not None:
        memory = min(memory, max(limits.memory - (limits.memory_used or 0), 0))
    maximum = _least(
        min(
            int(_first_text(root, "proc/sys/kernel/pid_max")),
            int(_first_text(root, "proc/sys/kernel/threads-max")),
        ),
        limits.processes,
    )
    # The fourth field of loadavg is running/existing, threads included, as the limits count them.
    existing = int(_first_text(root, "proc/loadavg").split()[3].partition("/")[2])
    return Signals(
        memory_available=memory,
        processes_available=max(maximum - existing, 0),
        processes_capacity=maximum,
    )


def host_ip(config: Config, server: str) -> str:
    """The address to report: the configured one, else this machine's on the way to `server`, the API server.

    An API server on this very machine would make that a loopback address, which nobody else can use: then it
    is the address of the default route, and loopback only when there is no network at all. Raises
    ConfigError for a `node_ip` that is no address of this machine. Blocks on the resolver: call it in a
    thread.
    """
    if config.node_ip:
        return _own_address(config.node_ip)
    url = urlsplit(server)
    found = _source_address(url.hostname or "localhost", url.port or 443)
    if found is None or ipaddress.ip_address(found).is_loopback:
        # Connecting a datagram socket sends nothing: it only asks the routing table.
        outward = _source_address("192.0.2.1", 9) or _source_address("2001:db8::1", 9)
        found = outward or found
    if found is None:
        raise ConfigError(f"no route to the API server {server}: set node_ip")
    return found


def _own_address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise ConfigError(f"node_ip {text!r}: not an IP address") from error
    if address.is_unspecified or address.is_multicast:
        raise ConfigError(f"node_ip {text}: not an address that a node can be reached at")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError as error:
            raise ConfigError(f"node_ip {text}: not an address of this machine") from error
    return str(address)


def _source_address(host: str, port: int) -> str | None:
    try:
        candidates = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    for family, kind, protocol, _, target in candidates:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.connect(target)
            except OSError:
                continue
            return str(probe.getsockname()[0]).partition("%")[0]
    return None


def _least(amount: int, limit: int | None) -> int:
    return amount if limit is None else min(amount, limit)


def meminfo(root: Path) -> Mapping[str, int]:
    """proc_meminfo(5), in bytes."""
    entries = {}
    for line in (root / "proc/meminfo").read_text().splitlines():
        key, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        entries[key] = int(number) * (1024 if unit == "kB" else 1)
    return entries


def _os_release(root: Path) -> Mapping[str, str]:
    for name in ("etc/os-release", "usr/lib/os-release"):
        path = root / name
        if path.exists():
            pairs = (line.partition("=") for line in path.read_text().splitlines())
            return {key: value.strip().strip("\"'") for key, _, value in pairs}
    return {}


def _first_text(root: Path, *names: str) -> str:
    """The first of these files that can be read and is not empty; a guest or a container may hide some."""
    for name in names:
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        if text:
            return text
    return ""
