"""hostPath: a file or directory of the machine, of the type that the pod says.

It exists to hold the kubelet's checks and their texts. It must not know who mounts it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from vkubelet.api.objects import Pod
from vkubelet.api.volumes import HostPathVolumeSource, Volume
from vkubelet.pods.volumes.errors import SetUpError, os_text
from vkubelet.pods.volumes.kinds import Mounted, Prepared

# type -> what the kubelet's message calls it.
_EXPECTED = {
    "Directory": "directory",
    "File": "file",
    "Socket": "socket file",
    "CharDevice": "character device",
    "BlockDevice": "block device",
}
_OR_CREATE = "OrCreate"


class HostPath:
    """See Kind."""

    renewed = False

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        """See Kind."""
        source = volume.host_path or HostPathVolumeSource()
        return Prepared(lambda: Mounted(check(source)))


def check(source: HostPathVolumeSource) -> Path:
    """The path, once it is what it should be; made if the type says so. Blocks.

    Raises SetUpError and OSError.
    """
    path = source.path
    if ".." in path.split("/"):
        raise SetUpError(f"invalid HostPath `{path}`: must not contain '..'")
    if not path.startswith("/"):
        raise SetUpError(f"invalid HostPath `{path}`: must be an absolute path")
    if not source.type:
        # A container runtime makes what it is to mount and is not there.
        if not os.path.lexists(path):
            _make(Path(path), "Directory")
        return Path(path)
    wanted = source.type.removesuffix(_OR_CREATE)
    if wanted not in _EXPECTED or (source.type != wanted and wanted not in ("Directory", "File")):
        raise SetUpError(f"{source.type} is an invalid volume type")
    if source.type != wanted and not Path(path).exists():
        _make(Path(path), wanted)
        return Path(path)
    try:
        found = _type_of(Path(path))
    except (OSError, _UnknownTypeError) as error:
        raise SetUpError(
            f"hostPath type check failed, {path} is not a {_EXPECTED[wanted]}, "
            f"unable to determine its type: {_cause(path, error)}"
        ) from error
    if found != wanted:
        raise SetUpError(f"hostPath type check failed: {path} is not a {_EXPECTED[wanted]}, it's a {found}")
    return Path(path)


class _UnknownTypeError(Exception):
    """What the API has no name for; the text is the kubelet's."""


def _cause(path: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f'path "{path}" does not exist'
    return f"stat {os_text(error)}" if isinstance(error, OSError) else str(error)


def _make(path: Path, wanted: str) -> None:
    if wanted == "Directory":
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        return
    with contextlib.suppress(FileExistsError):
        path.touch(mode=0o644, exist_ok=False)


def _type_of(path: Path) -> str:
    """The API's name of what is there. Raises OSError and _UnknownTypeError."""
    mode = path.stat().st_mode
    for is_type, name in (
        (stat.S_ISSOCK, "Socket"),
        (stat.S_ISBLK, "BlockDevice"),
        (stat.S_ISCHR, "CharDevice"),
        (stat.S_ISDIR, "Directory"),
        (stat.S_ISREG, "File"),
    ):
        if is_type(mode):
            return name
    raise _UnknownTypeError("only recognise file, directory, socket, block device and character device")
