"""What a guest with limits sees of the kernel: its cgroup in /sys/fs/cgroup, and a little of /proc.

It exists because there is where programs look for what they may use, and people for whether it is what they
asked for. They are plain files that tell what the spec says, as the kernel would: what the kernel itself is
told has room for the runtime beside the guest. It must not know who made a cgroup.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from providers.base import ContainerSpec, Preopen
from providers.wasmtime import cgroupfs
from providers.wasmtime.cgroupfs import Limits, Setting
from providers.wasmtime.rootfs import make_directory

_CGROUP, _PROC = PurePosixPath("/sys/fs/cgroup"), PurePosixPath("/proc")
_DIRECTORIES = {_CGROUP: "cgroup", _PROC: "proc"}
_LINKS = {"proc/self": "1", "proc/mounts": "self/mounts"}
_DEFAULTS = {
    (1, "cpu"): (Setting("cpu.shares", "1024"),),
    (2, "cpu"): (Setting("cpu.weight", "100"),),
    (1, "pids"): (Setting("pids.max", "max"),),
    (2, "pids"): (Setting("pids.max", "max"),),
}
"""What holds where nothing is said."""
_NO_LIMIT = Setting("memory.limit_in_bytes", "-1")
_UNLIMITED = str(2**63 - 4096)
"""How it is shown."""


def preopens(directory: Path, spec: ContainerSpec) -> tuple[Preopen, ...]:
    """What a guest has of the files in `directory`: but for those in whose place its spec has something."""
    taken = {PurePosixPath(preopen.guest) for preopen in spec.preopens}
    return tuple(
        Preopen(directory / name, str(place), read_only=True)
        for place, name in _DIRECTORIES.items()
        if taken.isdisjoint((place, *place.parents))
    )


def contents(spec: ContainerSpec, versions: Mapping[str, int]) -> dict[str, str]:
    """The files by their paths. `versions` are those of the cgroups of each controller that there is."""
    limits = Limits.of(spec) or Limits()
    found = {}
    # Linear memory is bounded in any case.
    for controller, version in {"memory": 2, **versions}.items():
        where = "cgroup" if version == 2 else f"cgroup/{controller}"
        told = cgroupfs.settings(version, controller, limits, overhead=0)
        for setting in (*_DEFAULTS.get((version, controller), ()), *told):
            value = _UNLIMITED if setting == _NO_LIMIT else setting.value
            found[f"{where}/{setting.file}"] = f"{value}\n"
    if spec.oom_score_adj is not None:
        found["proc/1/oom_score_adj"] = f"{spec.oom_score_adj}\n"
    found["proc/1/mounts"] = "".join(f"{line}\n" for line in _mounts(spec, versions))
    return found


def place(directory: Path, files: Mapping[str, str]) -> None:
    """Have the files in the directory, each of them whole at any time. Raises OSError.

    Paths are text here, and what is there already is left: this is done for starts.
    """
    known = {str(directory.parent)}
    is_new = not os.path.lexists(directory)
    for name, text in files.items():
        path = f"{directory}/{name}"
        if is_new:
            _make_directories(os.path.dirname(path), known)  # noqa: PTH120
        fresh = path if is_new else f"{path}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o444)
        try:
            os.fchmod(descriptor, 0o444)
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
        if not is_new:
            os.rename(fresh, path)  # noqa: PTH104
    for name, target in _LINKS.items() if is_new else ():
        os.symlink(target, f"{directory}/{name}")  # noqa: PTH211


def _mounts(spec: ContainerSpec, versions: Mapping[str, int]) -> list[str]:
    """proc_pid_mounts(5): a guest's directories are WASI's, whatever file system the host has them from."""
    lines = [_mount("wasi", "/", "wasi", "ro" if spec.read_only_root else "rw")]
    lines += [
        _mount("wasi", preopen.guest, "wasi", "ro" if preopen.read_only else "rw")
        for preopen in spec.preopens
    ]
    if all(version == 2 for version in versions.values()):
        return [*lines, _mount("cgroup2", str(_CGROUP), "cgroup2", "ro")]
    old = (name for name, version in versions.items() if version == 1)
    return [*lines, *(_mount("cgroup", f"{_CGROUP}/{name}", "cgroup", f"ro,{name}") for name in old)]


def _mount(source: str, where: str, kind: str, options: str) -> str:
    escaped = where.translate({ord(character): f"\\{ord(character):03o}" for character in " \t\n\\"})
    return f"{source} {escaped} {kind} {options} 0 0"


def _make_directories(path: str, known: set[str]) -> None:
    """Make a directory, and those above it that are not known to be there."""
    if path not in known:
        _make_directories(os.path.dirname(path), known)  # noqa: PTH120
        make_directory(path)
        known.add(path)
