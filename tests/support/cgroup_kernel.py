"""A kernel's cgroups as plain files: making one makes the files that it has, and some of its rules hold."""

from __future__ import annotations

import errno
import os
from pathlib import Path

FILES = {
    1: {
        "cpu": {"cpu.shares": "1024", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1"},
        "memory": {"memory.limit_in_bytes": "9223372036854771712", "memory.oom_control": "oom_kill 0\n"},
        "pids": {"pids.max": "max"},
    },
    2: {
        "cpu": {"cpu.weight": "100", "cpu.max": "max 100000"},
        "memory": {
            "memory.max": "max",
            "memory.oom.group": "0",
            "memory.swap.max": "max",
            "memory.current": "0",
            "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
        },
        "pids": {"pids.max": "max"},
    },
}


class Kernel:
    """Hierarchies below `root`, as /proc/self of a process that runs in `place` of each tells of them."""

    def __init__(self, root: Path, place: str) -> None:
        self.root = root
        self.proc = root / "proc"
        self.proc.mkdir(parents=True)
        self._place = place
        self._mounts = ["1 0 0:1 / / rw - tmpfs tmpfs rw"]
        self._memberships: list[str] = []
        self._hierarchies: dict[Path, tuple[int, tuple[str, ...]]] = {}
        self._forbidden: set[Path] = set()
        self._lacking: set[str] = set()
        self._tell()

    def mount(self, version: int, *controllers: str) -> Path:
        """Mount a hierarchy, with the cgroup where the process is."""
        names = ",".join(controllers)
        top = self.root / (names if version == 1 else "unified")
        kind = f"cgroup cgroup rw,{names}" if version == 1 else "cgroup2 cgroup2 rw"
        self._mounts.append(f"2 1 0:2 / {top} rw,relatime - {kind}")
        self._memberships.append(f"3:{names}:{self._place}" if version == 1 else f"0::{self._place}")
        self._hierarchies[top] = (version, controllers)
        self._tell()
        path = top
        self.make(path)
        for part in Path(self._place).parts[1:]:
            if version == 2:
                (path / "cgroup.subtree_control").write_text(" ".join(controllers))
            path = path / part
            self.make(path)
        (path / "cgroup.procs").write_text("1\n")
        return top

    def _tell(self) -> None:
        (self.proc / "mountinfo").write_text("\n".join(self._mounts))
        (self.proc / "cgroup").write_text("\n".join(self._memberships))

    def delegate(self, path: Path) -> None:
        """Mark it as systemd does what it delegates."""
        os.setxattr(path, "user.delegate", b"1")

    def forbid(self, path: Path) -> None:
        """Let no cgroup be made in it."""
        self._forbidden.add(path)

    def lack(self, *files: str) -> None:
        """Be an older kernel, which does not have these files."""
        self._lacking.update(files)

    def make(self, path: Path) -> None:
        """mkdir(2). Raises OSError."""
        if path.parent in self._forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        path.mkdir()
        top = next(top for top in self._hierarchies if top == path or top in path.parents)
        version, controllers = self._hierarchies[top]
        files = {"cgroup.procs": "", "tasks": ""}
        if version == 2:
            if path != top:
                controllers = tuple((path.parent / "cgroup.subtree_control").read_text().split())
            there = " ".join(controllers)
            files = {"cgroup.procs": "", "cgroup.controllers": there, "cgroup.subtree_control": ""}
        for controller in controllers if path != top else ():
            files |= FILES[version][controller]
        for name, content in files.items():
            if name not in self._lacking:
                (path / name).write_text(content)

    def remove(self, path: Path) -> None:
        """rmdir(2). Raises OSError."""
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if (path / "cgroup.procs").read_text() or any(child.is_dir() for child in path.iterdir()):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        for file in path.iterdir():
            file.unlink()
        path.rmdir()

    def write(self, path: Path, value: str) -> None:
        """write(2) to one of its files. Raises OSError."""
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if path.name == "cgroup.subtree_control":
            if (path.parent / "cgroup.procs").read_text():
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
            value = " ".join([*path.read_text().split(), *(word[1:] for word in value.split())])
            for child in path.parent.iterdir():
                if child.is_dir():
                    self._give(child, value)
        path.write_text(value)

    def _give(self, path: Path, controllers: str) -> None:
        (path / "cgroup.controllers").write_text(controllers)
        for controller in controllers.split():
            for name, content in FILES[2][controller].items():
                if name not in self._lacking and not (path / name).exists():
                    (path / name).write_text(content)
