"""nfs: a server's export, mounted by the machine's own mount program.

It exists because only that program knows how the kernel is asked. It must not know where the export comes
from: a pod's volume and a persistent one are mounted alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from providers import programs
from vkubelet.api.objects import Pod
from vkubelet.api.volumes import NFSVolumeSource, Volume
from vkubelet.pods.volumes.errors import SetUpError, os_text
from vkubelet.pods.volumes.kinds import Mounted, Prepared
from vkubelet.pods.volumes.layout import Layout, make_private

PLUGIN = "nfs"
_TIMEOUT = 125.0
"""Seconds: mount(8) itself gives up a silent server after two minutes (nfs(5), retry)."""


class Nfs:
    """See Kind."""

    renewed = False

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        """See Kind."""
        source = volume.nfs or NFSVolumeSource()
        where = self._layout.in_memory(pod.metadata.uid, PLUGIN, volume.name)
        mounted = await mount(where, source, (), read_only=source.read_only)
        return Prepared(lambda: mounted)


async def mount(where: Path, source: NFSVolumeSource, options: Iterable[str], *, read_only: bool) -> Mounted:
    """Mount the export unless it is; takes as long as its server makes it. Raises SetUpError."""
    try:
        is_there = await asyncio.to_thread(_is_mounted, where)
    except OSError as error:
        raise SetUpError(os_text(error)) from error
    if not is_there:
        chosen = list(dict.fromkeys((*options, *(("ro",) if read_only else ()))))
        arguments = ["-t", "nfs", *(["-o", ",".join(chosen)] if chosen else [])]
        await _run([*arguments, f"{_bracketed(source.server)}:{source.path}", str(where)])
    return Mounted(where, read_only)


def _is_mounted(where: Path) -> bool:
    make_private(where.parent)
    where.mkdir(exist_ok=True, mode=0o750)
    return where.is_mount()


async def _run(arguments: list[str]) -> None:
    """Run the machine's mount program, which is ended when nobody waits for it any more."""
    creating = asyncio.create_subprocess_exec(
        "mount",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        ended = await programs.run(creating, _TIMEOUT)
    except TimeoutError:
        raise SetUpError(_failed(f"timed out after {_TIMEOUT:.0f}s", arguments, "")) from None
    except OSError as error:
        raise SetUpError(_failed(os_text(error), arguments, "")) from error
    if ended.code != 0:
        text = ended.output.decode(errors="replace")
        raise SetUpError(_failed(f"exit status {ended.code}", arguments, text))


def _failed(cause: str, arguments: list[str], output: str) -> str:
    """The kubelet's text (its mount-utils)."""
    return (
        f"mount failed: {cause}\nMounting command: mount\nMounting arguments: {' '.join(arguments)}\n"
        f"Output: {output}"
    )


def _bracketed(server: str) -> str:
    """An IPv6 address needs brackets before a path."""
    return f"[{server}]" if ":" in server and not server.startswith("[") else server
