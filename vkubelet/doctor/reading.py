"""Looks at this machine as a node that starts now would find it.

It exists to bring together what the parts of a node find out for themselves: it asks those, so that doctor
and node never disagree. It must not judge. It changes nothing that stays but one thing: to learn whether
cgroups can be made one is made and removed, and the kernel keeps the controllers that this enabled for it, as
for a node. Everything here blocks.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import msgspec

from providers.base import ProviderError
from providers.wasmtime import engine, hierarchies, launcher
from providers.wasmtime.confinement import effective_capabilities
from vkubelet.config import Config
from vkubelet.doctor.host import Directory, HostFacts
from vkubelet.node import facts, usage
from vkubelet.pods.eviction.manager import observations_of, short_of_logs
from vkubelet.pods.eviction.thresholds import configured, met
from vkubelet.pods.volumes import tmpfs
from vkubelet.startup import LOCK, taken_by
from vkubelet.toolbox import Toolbox, ToolboxError

_TIME_ERROR = 5
"""What adjtimex(2) returns for a clock that is not synchronized."""
_LARGE = 512
"""Bytes that struct timex fits into, on every machine."""
_DIRECTORIES = ("root_dir", "run_dir", "pod_logs_dir")


def read(config: Config) -> HostFacts:
    """Look at everything. Raises ConfigError for thresholds of eviction that cannot be read."""
    directories = [_directory(option, getattr(config, option)) for option in _DIRECTORIES]
    there = msgspec.structs.replace(config, **{one.option: one.existing for one in directories})
    found = facts.read(there)
    controllers, cgroups_missing = _cgroups()
    identity, sandbox, launcher_trouble = asyncio.run(_launcher())
    toolbox, toolbox_trouble = _toolbox(config)
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return HostFacts(
        kernel=found.kernel_version,
        uid=os.geteuid(),
        capabilities=effective_capabilities(),
        cgroups=controllers,
        cgroups_missing=cgroups_missing,
        launcher=identity,
        launcher_trouble=launcher_trouble,
        sandbox=sandbox,
        toolbox=toolbox,
        toolbox_trouble=toolbox_trouble,
        in_memory=tmpfs.is_in_memory(Path(there.run_dir)),
        files=files,
        max_pods=config.max_pods,
        inotify_instances=_number("/proc/sys/fs/inotify/max_user_instances"),
        inotify_watches=_number("/proc/sys/fs/inotify/max_user_watches"),
        unsynchronized=_unsynchronized(),
        machine_id=found.machine_id,
        directories=directories,
        pressure=list(_pressure(there, found.capacity)),
        agent=_agent(Path(config.run_dir)),
        port=config.port,
        port_taken=_port_taken(config),
        resolv_conf=config.resolv_conf,
        resolv_conf_trouble=_unreadable(config.resolv_conf) if config.resolv_conf else "",
    )


def _directory(option: str, path: str) -> Directory:
    existing = Path(path).absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    is_directory = existing.is_dir()
    writable = os.access(existing, os.W_OK | os.X_OK)
    return Directory(option, path, str(existing), writable, is_directory)


def _pressure(config: Config, capacity: facts.Resources) -> Iterator[str]:
    """The thresholds that are crossed, and the disk of the logs, which has none of its own."""
    observed = usage.read(config, capacity)
    thresholds = configured(config)
    for threshold in met(thresholds, observations_of(observed)):
        yield f"{threshold.signal} ({'hard' if threshold.is_hard else 'soft'})"
    for lacking in short_of_logs(thresholds, observed):
        yield f"{lacking} of {config.pod_logs_dir}"


def _cgroups() -> tuple[dict[str, int], str]:
    found = hierarchies.find(f"vkubelet-doctor-{os.getpid()}")
    for hierarchy in found.hierarchies:
        hierarchies.remove(hierarchy.base)
    return {name: each.version for each in found.hierarchies for name in each.controllers}, found.missing


async def _launcher() -> tuple[str, dict[str, str], str]:
    try:
        engine.library()
        identity = await launcher.identity(launcher.PROGRAM)
        return identity, await launcher.sandbox(launcher.PROGRAM), ""
    except (ProviderError, FileNotFoundError) as error:
        return "", {}, str(error)


def _toolbox(config: Config) -> tuple[str, str]:
    if not config.toolbox:
        return "turned off", ""
    try:
        module = Toolbox().module()
    except ToolboxError as error:
        return "", str(error)
    return module.digest, ""


def _agent(run_dir: Path) -> str:
    """The process that holds the run directory; empty if none does, or nobody may ask."""
    try:
        descriptor = os.open(run_dir / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        owner = taken_by(descriptor)
    finally:
        os.close(descriptor)
    return "" if owner is None else owner or "of an unknown number"


def _port_taken(config: Config) -> str:
    from vkubelet.server.app import ListenError, listen

    if not config.port:
        return ""
    try:
        listen(config.address, config.port).close()
    except ListenError as error:
        return str(error)
    return ""


def _unsynchronized() -> bool:
    """By adjtimex(2), which says so of a clock that nobody keeps."""
    asked = ctypes.create_string_buffer(_LARGE)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(asked)
    return bool(state == _TIME_ERROR)


def _unreadable(path: str) -> str:
    try:
        Path(path).read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _text(path)
    return int(text) if text.isdecimal() else 0
