"""How each registry is reached on this node: its hosts, as files and options say at this moment.

It exists to read the files that `oci.hosts` knows the meaning of. All of it blocks. It must not know what is
asked for.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from oci.errors import RegistryHostsError
from oci.hosts import Host, HostsError, directories, from_certificates, is_insecure, own_host, parse_hosts
from oci.reference import Reference

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
"""Seconds of a registry's silence."""

_FILE = "hosts.toml"


@dataclass(frozen=True, slots=True)
class Registries:
    """The registries that are asked over plain HTTP, and containerd's directory of hosts, if there is one."""

    insecure: Collection[str] = ()
    directory: Path | None = None

    def hosts(self, reference: Reference) -> tuple[Host, ...]:
        """Whom to ask for an image, one after the other. Raises RegistryHostsError.

        The files are read each time: that costs a fraction of a millisecond, and no restart.
        """
        registry = reference.registry
        own = own_host(registry, insecure=self.is_insecure(reference))
        if self.directory is None:
            return (own,)
        for name in directories(registry):
            place = self.directory / name
            try:
                if place.is_dir():
                    return _read(place, own)
            except OSError as error:
                cause = f"{error.filename or place}: {error.strerror or error}"
                raise RegistryHostsError(reference, cause) from error
            except HostsError as error:
                raise RegistryHostsError(reference, f"{place / _FILE}: {error}") from error
        return (own,)

    def is_insecure(self, reference: Reference) -> bool:
        """Whether the registry itself is asked over plain HTTP."""
        return is_insecure(reference.registry, self.insecure)


def _read(place: Path, own: Host) -> tuple[Host, ...]:
    """What a directory says. One without a hosts.toml, or with an empty one, may hold certificates."""
    try:
        data = (place / _FILE).read_bytes()
    except FileNotFoundError:
        data = b""
    if data:
        return parse_hosts(data, place, own)
    return (from_certificates([path.name for path in place.iterdir() if path.is_file()], place, own),)
