"""The images that one process knows to be on this node, in memory: by name and by digest.

It exists so that an image that is here costs a few system calls to find. What it says is true as long as
the files are as they were: another process may name and remove images too. It must not know how an image gets
here.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from oci.artifact import ImageConfig
from oci.content import Content
from oci.index import Index, Stamp, stamp_of
from oci.layers.unpacked import ImageFiles
from oci.reference import Reference


@dataclass(frozen=True, slots=True)
class Image:
    """An image whose files are on this node.

    `digest` is what the reference stood for: a manifest, or an index of which the part for wasm is here.
    `size` is bytes of all of it. `names` has the digest references first, as in a node's status. What there
    is to run is either a `module`, and its digest, or among the `files`; see oci.layers.command.
    """

    reference: Reference
    digest: str
    module: Path | None
    module_digest: str
    size: int
    names: tuple[str, ...]
    config: ImageConfig
    files: ImageFiles | None = None

    @property
    def module_digests(self) -> frozenset[str]:
        """Of all WebAssembly in it."""
        return frozenset(self.files.modules.values() if self.files else (self.module_digest,))


def orphaned_modules(removed: Iterable[Image], left: Iterable[Image]) -> frozenset[str]:
    """The digests of the WebAssembly that only removed images had."""
    needed = frozenset[str]().union(*(image.module_digests for image in left))
    return frozenset[str]().union(*(image.module_digests for image in removed)) - needed


@dataclass(frozen=True, slots=True)
class _Name:
    """What a name stood for when its entry had this stamp."""

    digest: str
    stamp: Stamp


class Known:
    """The names of one index, and what they stand for. Names are as `Reference.name` tells them apart."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._names: dict[Reference, _Name] = {}
        self._contents: dict[str, Content] = {}
        self._references: dict[str, dict[Reference, None]] = {}

    def get(self, key: Reference, reference: Reference) -> Image | None:
        """The image of the name `key`, as `reference`, if the name's entry is still the same and all is here.

        Raises OSError.
        """
        known = self._names.get(key)
        if known is None or stamp_of(self._index.location(key)) != known.stamp:
            return None
        content = self._contents[known.digest]
        return self.image(reference, content) if content.is_here() else None

    def list(self) -> builtins.list[Image]:
        """All images that are here, one a digest, under one of its references."""
        return [
            self.image(next(iter(references)), content)
            for digest, references in self._references.items()
            if (content := self._contents[digest]).is_here()
        ]

    def digest(self, reference: Reference) -> str | None:
        """What a name stood for."""
        known = self._names.get(reference)
        return known.digest if known else None

    def content(self, digest: str) -> Content | None:
        """What is known of an image."""
        return self._contents.get(digest)

    def stamp(self, reference: Reference) -> Stamp | None:
        """Of a name's entry, as it is known."""
        known = self._names.get(reference)
        return known.stamp if known else None

    def stamps(self) -> dict[Reference, Stamp]:
        """Of all entries that are known."""
        return {reference: known.stamp for reference, known in self._names.items()}

    def pulled(self) -> dict[str, float]:
        """When each image's first name of those that are known was given, in seconds since the epoch."""
        return {
            digest: min(self._names[reference].stamp.changed for reference in references) / 1e9
            for digest, references in self._references.items()
        }

    def remember(self, content: Content, stamps: Mapping[Reference, Stamp]) -> None:
        """These names stand for it, by entries with these stamps."""
        self._contents[content.digest] = content
        for reference, stamp in stamps.items():
            before = self._names.get(reference)
            if before is not None and before.digest != content.digest:
                self.forget((reference,))
            self._names[reference] = _Name(content.digest, stamp)
            self._references.setdefault(content.digest, {})[reference] = None

    def forget(self, references: Iterable[Reference]) -> None:
        """Their entries are gone."""
        for reference in references:
            known = self._names.pop(reference, None)
            if known is None:
                continue
            others = self._references[known.digest]
            del others[reference]
            if not others:
                del self._references[known.digest]
                del self._contents[known.digest]

    def forget_images(self, digests: Iterable[str]) -> None:
        """All names of these images are gone."""
        for digest in digests:
            self.forget(list(self._references.get(digest, ())))

    def image(self, reference: Reference, content: Content) -> Image:
        """The image under one of its names."""
        references = self._references[content.digest]
        names = sorted((reference.digest is None, reference.name) for reference in references)
        return Image(
            reference=reference,
            digest=content.digest,
            module=None if content.module is None else Path(content.module),
            module_digest=content.module_digest,
            size=content.size,
            names=tuple(name for _, name in names),
            config=content.config,
            files=content.files,
        )
