"""What was found in an image, as lines for people.

It exists so that the command only prints. It must not know where an image is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oci.artifact import ImageConfig
from oci.inspection import Inspection, Part
from oci.spin import Application

_WIDTH = 10
_UNITS = ("B", "kB", "MB", "GB", "TB")


def lines(found: Inspection, refusal: str | None) -> Iterator[str]:
    """`refusal` is why a node cannot run it; None: it can."""
    yield found.name
    yield from _field("format", [found.format])
    yield from _field("digest", [found.digest])
    yield from _field("platforms", found.platforms or ())
    yield from _field("config", [_part(found.config)] if found.config else ())
    yield from _field("layers", [_part(layer) for layer in found.layers or ()])
    yield from _field("runs as", list(_run(found.run)) if found.run else ())
    if found.spin is not None:
        yield from _field("spin", _application(found.spin))
    if found.module is not None:
        where = f"{found.module.path}, " if found.module.path else ""
        yield from _field("module", [f"{where}{found.module.kind}, {size(found.module.size)}"])
        yield from _field("imports", _grouped(found.module.imports))
        yield from _field("exports", found.module.exports)
    yield from _field("runs here", ["yes" if refusal is None else f"no: {refusal}"])


def table(images: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The images of a store, one line for each of their tags, or one for an image without any."""
    rows = [("IMAGE", "DIGEST", "SIZE", "PULLED", "USED")]
    for image in images:
        tagged = [name for name in image["names"] if "@" not in name]
        for name in tagged or [image["names"][0].partition("@")[0]]:
            digest = image["digest"].partition(":")[2][:12]
            pulled = image["pulled"].replace("T", " ")[:16]
            rows.append((name, digest, size(image["size"]), pulled, "yes" if image["inUse"] else "no"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def size(number: int) -> str:
    """Bytes as people read them: 1.2 MB is 1,200,000."""
    amount, units = float(number), list(_UNITS)
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{number} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def _field(name: str, values: Sequence[str]) -> Iterator[str]:
    for value in values:
        yield f"  {name:<{_WIDTH}}  {value}"
        name = ""


def _part(part: Part) -> str:
    return f"{part.media_type}  {size(part.size)}  {part.digest}"


def _run(config: ImageConfig) -> Iterator[str]:
    if config.command:
        yield " ".join(config.command)
    if config.working_dir:
        yield f"in {config.working_dir}"
    if config.user:
        yield f"as user {config.user}"
    yield from config.env


def _application(found: Application) -> list[str]:
    """A Spin application by its name, and one line for what triggers each component."""
    triggers = [
        " ".join(part for part in (trigger.kind, trigger.route, trigger.component) if part)
        for trigger in found.triggers
    ]
    archives = [f"{found.files} files in archives"] if found.files else []
    return [f"{found.name} {found.version}".strip(), *triggers, *archives]


def _grouped(names: Sequence[str]) -> list[str]:
    """A core module's imports, `MODULE.NAME`, by their module; a component's are one each."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        module, dot, function = ("", "", name) if ":" in name else name.partition(".")
        groups.setdefault(module if dot else name, []).append(function if dot else "")
    return [f"{module}: {', '.join(inner)}" if any(inner) else module for module, inner in groups.items()]
