"""What is to be known of this machine for a node to run on it, and what to make of it.

It exists so that judging is a pure function of facts, which a table can try for machines that nobody has. It
must not read anything itself: `reading` does.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

from vkubelet.doctor.verdict import Verdict, missing, ok, warning

OLDEST_KERNEL = (5, 9)
"""close_range(2), without which a container's process would have what its launcher has open."""
CAPABILITIES: Mapping[str, tuple[int, str]] = {
    "CAP_CHOWN": (0, "run containers as other users"),
    "CAP_KILL": (5, "end processes of other users"),
    "CAP_SETGID": (6, "run containers as other users"),
    "CAP_SETUID": (7, "run containers as other users"),
    "CAP_SYS_PTRACE": (19, "forward ports to containers of other users"),
    "CAP_SYS_ADMIN": (21, "mount a tmpfs for secrets, and storage drivers' volumes"),
}
"""Numbers of capabilities(7), and what of a node needs them."""
_NAMESPACES = (
    "run the node as root with CAP_SYS_ADMIN and CAP_SETPCAP, or allow user namespaces "
    "(user.max_user_namespaces; kernel.apparmor_restrict_unprivileged_userns on Ubuntu)"
)
SANDBOX_ADVICE: Mapping[str, str] = {
    "landlock": "use Linux 5.13 or newer, and name landlock in the kernel's lsm= parameter",
    "seccomp": "use a kernel with CONFIG_SECCOMP_FILTER, and a container runtime that lets filters be nested",
    "userns": _NAMESPACES,
    "bounding-set": _NAMESPACES,
    "ipc": _NAMESPACES,
    "pid": _NAMESPACES,
    "network": _NAMESPACES,
    "mount": _NAMESPACES,
    "user": "run the node as root, with CAP_KILL, CAP_SETUID, CAP_SETPCAP and CAP_SYS_PTRACE",
}
FILES_A_POD, FILES_BESIDE = 4, 1024
"""A bound, not a measurement: a watched process, a followed log, and the sockets of a probe and a stream."""
INOTIFY_INSTANCES, INOTIFY_WATCHES = 32, 1024
"""What a node uses of inotify at most: certificates, static pods, plugins, logs that are followed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Directory:
    """A directory of the configuration. `existing` is itself, or the nearest above it that is there."""

    option: str
    path: str
    existing: str
    writable: bool
    is_directory: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class HostFacts:
    """What was found; texts are empty where there is nothing to tell.

    `kernel` is the release, `capabilities` the effective ones as bits, `unsynchronized` whether the kernel
    knows of nobody who keeps the clock, `sandbox` why each part of the second wall around a guest is lacking.
    `cgroups` are controllers and the version that has them, `cgroups_missing` says why some are lacking.
    `pressure` names thresholds of eviction that are crossed. `agent` is the process that holds the run
    directory, `port_taken` why nobody else can listen.
    """

    kernel: str
    uid: int
    capabilities: int
    cgroups: Mapping[str, int]
    cgroups_missing: str
    launcher: str
    launcher_trouble: str
    sandbox: Mapping[str, str]
    toolbox: str
    toolbox_trouble: str
    in_memory: bool
    files: int
    max_pods: int
    inotify_instances: int
    inotify_watches: int
    unsynchronized: bool
    machine_id: str
    directories: Sequence[Directory]
    pressure: Sequence[str]
    agent: str
    port: int
    port_taken: str
    resolv_conf: str
    resolv_conf_trouble: str


def judge(facts: HostFacts) -> Iterator[Verdict]:
    """All checks of the machine, in the order in which people look."""
    yield _kernel(facts.kernel)
    yield _launcher(facts)
    yield _toolbox(facts)
    yield _user(facts)
    yield _cgroups(facts)
    yield from _sandbox(facts.sandbox)
    yield from map(_directory, facts.directories)
    yield _secrets(facts)
    yield _space(facts)
    yield _files(facts)
    yield _inotify(facts)
    yield _clock(facts)
    yield _machine_id(facts)
    yield _resolver(facts)
    yield _agent(facts)
    yield _port(facts)


def _kernel(release: str) -> Verdict:
    found = re.match(r"(\d+)\.(\d+)", release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        return missing("kernel", f"Linux {release}", f"update it to {oldest} or newer")
    return ok("kernel", f"Linux {release}")


def _launcher(facts: HostFacts) -> Verdict:
    if facts.launcher_trouble:
        advice = "reinstall vkubelet, or run `make native` in a source tree"
        return missing("launcher", facts.launcher_trouble, advice)
    return ok("launcher", facts.launcher)


def _toolbox(facts: HostFacts) -> Verdict:
    if facts.toolbox_trouble:
        advice = "reinstall vkubelet, or run `make toolbox` in a source tree; pods have no shell until then"
        return warning("toolbox", facts.toolbox_trouble, advice)
    return ok("toolbox", facts.toolbox)


def _user(facts: HostFacts) -> Verdict:
    lacking = [name for name, (bit, _) in CAPABILITIES.items() if not facts.capabilities >> bit & 1]
    who = f"user {facts.uid}"
    if not lacking:
        return ok("user", f"{who}, with all capabilities that a node uses")
    needs = dict.fromkeys(CAPABILITIES[name][1] for name in lacking)
    found = f"{who} without {', '.join(lacking)}: the node cannot {'; nor '.join(needs)}"
    return warning("user", found, "run it as root, or give it AmbientCapabilities= of these")


def _cgroups(facts: HostFacts) -> Verdict:
    there = ", ".join(f"{name} (v{version})" for name, version in sorted(facts.cgroups.items()))
    if not facts.cgroups_missing:
        return ok("cgroups", there)
    return warning(
        "cgroups",
        f"{facts.cgroups_missing}{f'; there is {there}' if there else ''}",
        "limits of these are not enforced; run the node as root, or under systemd with Delegate=yes and "
        "DelegateSubgroup=agent",
    )


def _sandbox(parts: Mapping[str, str]) -> Iterator[Verdict]:
    there = [name for name, why in parts.items() if not why]
    lacking = {name: why for name, why in parts.items() if why}
    if there:
        yield ok("sandbox", f"besides WebAssembly itself: {', '.join(there)}")
    for name, why in lacking.items():
        kind = name.partition("-")[0]
        advice = SANDBOX_ADVICE.get(kind, "run the node as root; the other parts hold without it")
        yield warning("sandbox", f"no {name}: {why}", advice)


def _directory(one: Directory) -> Verdict:
    name, option = one.option.replace("_", " "), "--" + one.option.replace("_", "-")
    if not one.is_directory:
        return missing(name, f"{one.existing} is no directory", f"remove it, or set {option}")
    if not one.writable:
        advice = f"run the node as the directory's owner, or set {option} to one of its own"
        return missing(name, f"nothing can be written to {one.existing}", advice)
    return ok(name, one.path if one.existing == one.path else f"{one.path} can be made")


def _secrets(facts: HostFacts) -> Verdict:
    if facts.in_memory:
        return ok("secrets", "in memory: the run directory is on a tmpfs")
    if facts.capabilities >> CAPABILITIES["CAP_SYS_ADMIN"][0] & 1:
        return ok("secrets", "in memory: the node mounts a tmpfs for them")
    found = "files on a disk: the run directory is on no tmpfs, and none can be mounted"
    return warning("secrets", found, "set --run-dir to a directory on a tmpfs")


def _space(facts: HostFacts) -> Verdict:
    if facts.pressure:
        found = f"less is left than eviction wants: {', '.join(facts.pressure)}"
        return warning("space", found, "pods would be evicted: make room, or set --eviction-hard")
    return ok("space", "memory, disks, inodes and processes are above the thresholds of eviction")


def _files(facts: HostFacts) -> Verdict:
    wanted = FILES_A_POD * facts.max_pods + FILES_BESIDE
    if facts.files < wanted:
        found = f"{facts.files} open files at most, and {facts.max_pods} pods may take {wanted}"
        return warning("open files", found, "raise the hard limit (systemd: LimitNOFILE=), or set --max-pods")
    return ok("open files", f"{facts.files} at most")


def _inotify(facts: HostFacts) -> Verdict:
    found = f"{facts.inotify_instances} instances, {facts.inotify_watches} watches"
    if facts.inotify_instances >= INOTIFY_INSTANCES and facts.inotify_watches >= INOTIFY_WATCHES:
        return ok("inotify", found)
    advice = (
        "raise fs.inotify.max_user_instances and max_user_watches; until then, files may be looked at seldom "
        "and logs not be followed"
    )
    return warning("inotify", found, advice)


def _clock(facts: HostFacts) -> Verdict:
    if facts.unsynchronized:
        found = "the kernel says that nobody keeps the clock"
        return warning(
            "clock", found, "run chrony, ntpd or systemd-timesyncd: certificates and leases need it"
        )
    return ok("clock", "kept by somebody")


def _machine_id(facts: HostFacts) -> Verdict:
    if facts.machine_id:
        return ok("machine id", facts.machine_id)
    return warning("machine id", "/etc/machine-id is empty or missing", "run systemd-machine-id-setup")


def _resolver(facts: HostFacts) -> Verdict:
    if not facts.resolv_conf:
        return ok("resolver", "none is configured for pods")
    if facts.resolv_conf_trouble:
        found = f"{facts.resolv_conf}: {facts.resolv_conf_trouble}"
        return warning("resolver", found, 'pods that use it do not start: set --resolv-conf to one, or to ""')
    return ok("resolver", facts.resolv_conf)


def _agent(facts: HostFacts) -> Verdict:
    if facts.agent:
        return ok("agent", f"process {facts.agent} runs on this run directory; a second one would refuse to")
    return ok("agent", "none runs on this run directory")


def _port(facts: HostFacts) -> Verdict:
    if not facts.port_taken:
        return ok("port", f"{facts.port} is free" if facts.port else "the node takes a free one")
    if facts.agent:
        return ok("port", f"{facts.port} is taken, as by the agent that runs")
    return missing("port", facts.port_taken, "end whoever listens there (a kubelet?), or set --port")
