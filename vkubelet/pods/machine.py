"""What the node's machine has and uses, as values: what the kubelet API tells of it, and who else must know.

It exists because the machine is read on the node's side, which neither the server nor the pods may know. It
must not know how anything is read.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class FileSystemUsage:
    """A file system: bytes, inodes and whether it is only read. `used` is what its whole content takes."""

    capacity: int
    available: int
    used: int
    inodes: int
    inodes_free: int
    read_only: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class MachineUsage:
    """What the machine, or the part of it that its control group leaves to this node, has and uses.

    Times are seconds since the epoch, amounts bytes. `cpu` is nanoseconds of all cores since some moment
    that is fixed. The working set is what cannot be taken back under pressure: capacity without what is
    available; `memory_used` counts caches too; `anonymous` is memory that no file backs. Swap is None where
    there is none. The file systems are those of images, of containers' root directories and of logs, which
    may be one and the same.
    """

    measured_at: float
    booted_at: float
    millicores: int
    cpu: int
    memory_capacity: int
    memory_available: int
    memory_used: int
    anonymous: int
    page_faults: int
    major_page_faults: int
    swap_capacity: int | None
    swap_used: int | None
    file_system: FileSystemUsage
    container_file_system: FileSystemUsage
    log_file_system: FileSystemUsage
    processes: int
    processes_capacity: int

    @property
    def working_set(self) -> int:
        """Bytes of memory that are in use and cannot be taken back."""
        return max(self.memory_capacity - self.memory_available, 0)
