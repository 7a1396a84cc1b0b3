"""Which of the node's disks have no room for anything, whatever the thresholds of eviction say; pure.

It exists because thresholds may be off, and none is about the disks of runtime state and logs, on which
containers need room too: nothing can be started then, and people must be told at the node why. It must not
know who is told, nor what is done.
"""

from __future__ import annotations

from vkubelet.pods.machine import MachineUsage

ROOM = 1 << 20
"""Bytes that a disk must have left for a pod to start; 100 MB of an image need more."""
INODES = 40
"""Files and directories: a pod with one container of one module needs some twenty."""


def exhausted(machine: MachineUsage) -> frozenset[str]:
    """What is wrong with each, in words; empty if nothing is."""
    found = set()
    for what, system in (
        ("images and volumes", machine.file_system),
        ("running containers' state", machine.container_file_system),
        ("containers' logs", machine.log_file_system),
    ):
        if system.read_only:
            found.add(f"the disk of {what} is read-only")
        if system.available < ROOM:
            found.add(f"the disk of {what} is full")
        if system.inodes and system.inodes_free < INODES:
            found.add(f"the disk of {what} has no inodes left")
    return frozenset(found)
