"""Modules that are files of this machine, put into the store without a registry.

It exists apart from pulls, so that nobody loads what asks registries who asks none. It blocks. It must not
know what the module is for.
"""

from __future__ import annotations

from pathlib import Path

from oci import digests
from oci.artifact import SingleModule
from oci.index import Blob
from oci.package import package
from oci.plan import Plan, disk
from oci.reference import Reference
from oci.store import Store

_CHUNK = 1024 * 1024


def take_in(file: Path, reference: Reference, store: Store) -> Plan:
    """Put a module that is a file of this machine into the store, as an artifact of its own.

    Raises OciError, and OSError when the file cannot be read.
    """
    with file.open("rb") as content:
        made = package(file, content, reference)
        content.seek(0)
        with disk(reference):
            if not store.has(made.layer.digest, made.layer.size):
                with store.writer(reference, made.layer.digest, made.layer.size) as writer:
                    while piece := content.read(_CHUNK):
                        writer.write(piece)
    store.write(reference, made.config.digest, made.config_data)
    digest = digests.of(made.manifest)
    store.write(reference, digest, made.manifest)
    return Plan(digest, SingleModule(made.layer, None), (Blob(digest, len(made.manifest)),))
