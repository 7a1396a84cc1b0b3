"""Fuzzes the reading of hosts.toml with atheris: `python -m tests.fuzz.hosts [CORPUS] [-max_total_time=60]`.

Whatever a file says, it is read or refused with the reader's own error, and what is read is fit to be asked.
"""

from __future__ import annotations

import sys
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import atheris

with atheris.instrument_imports(include=["oci.hosts", "oci.durations", "tomllib"]):
    from oci.hosts import ALL, HostsError, own_host, parse_hosts

OWN = own_host("docker.io", insecure=False)


def one(data: bytes) -> None:
    """Read one file."""
    try:
        found = parse_hosts(data, PurePosixPath("/certs.d/docker.io"), OWN)
    except HostsError:
        return
    for host in found:
        parts = urlsplit(host.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise AssertionError(host.url)
        if not host.capabilities <= ALL or (host.connect_timeout is not None and host.connect_timeout <= 0):
            raise AssertionError(host)
        for name, value in host.header:
            if not name.isascii() or any(char in name + value for char in "\r\n\0"):
                raise AssertionError((name, value))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
