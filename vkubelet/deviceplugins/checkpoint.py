"""What an agent knows of devices, as a file for the next one.

It exists because a container outlives the agent with its devices, and devices must not be given twice. The
file is written whole. One that cannot be read is set aside, for people to look at. It must not know what is
done with devices.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from providers import intact
from providers.faultpoints import reached
from vkubelet.api.struct import Struct
from vkubelet.deviceplugins.ledger import Allocation

logger = logging.getLogger(__name__)


class Checkpoint(Struct):
    """The resources of plugins, and who has what of them."""

    resources: list[str] = msgspec.field(default_factory=list)
    allocations: list[Allocation] = msgspec.field(default_factory=list)


class CheckpointFile:
    """The file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: bytes | None = None

    def read(self) -> Checkpoint:
        """What an earlier agent knew; nothing if there was none. Raises OSError."""
        try:
            data = intact.read(self._path)
            found = msgspec.json.decode(data, type=Checkpoint)
        except FileNotFoundError:
            return Checkpoint()
        except (intact.DamagedError, msgspec.MsgspecError) as error:
            aside = intact.set_aside(self._path)
            logger.error("who has which device is not known any more: %s; it is now %s", error, aside)  # noqa: TRY400  the text tells all
            return Checkpoint()
        self._written = data
        return found

    def write(self, checkpoint: Checkpoint) -> None:
        """Keep it, unless that is what the file says. Raises OSError."""
        data = msgspec.json.encode(checkpoint)
        if data == self._written:
            return
        fresh = self._path.with_name(f".{self._path.name}")
        fresh.write_bytes(data)
        reached("devices-half-written")
        intact.replace(fresh, self._path)
        reached("devices-written")
        self._written = data
