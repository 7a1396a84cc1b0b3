"""Spin applications: several components, and what triggers each; recognised and described, not run.

It exists so that people are told what an image is that a node refuses. Its parts are in a document that Spin
calls a locked application: the image's config once, a layer of its own beside an image config since Spin 2.
It must not know registries or files.
"""

from __future__ import annotations

from typing import Any

import msgspec

from oci.errors import InvalidManifestError, Named
from oci.manifest import Descriptor, Manifest

APPLICATION = "application/vnd.fermyon.spin.application.v1+config"
ASSETS = "application/vnd.wasm.content.bundle.v1.tar+gzip"


class Trigger(msgspec.Struct):
    """What starts a component: `kind` is `http`, `redis` ...; `route` is a path, empty where none is told."""

    kind: str
    component: str
    route: str


class Application(msgspec.Struct):
    """What the locked application says of itself; `components` are their names.

    `files` is how many there are in its archives of assets, for who has looked.
    """

    name: str
    version: str
    triggers: list[Trigger]
    components: list[str]
    files: int = 0


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""
    version: str = ""


class _Trigger(msgspec.Struct, frozen=True):
    trigger_type: str
    trigger_config: dict[str, Any] = {}


class _Component(msgspec.Struct, frozen=True):
    id: str


class _Locked(msgspec.Struct, frozen=True):
    metadata: _Metadata
    triggers: list[_Trigger]
    components: list[_Component]


def application(manifest: Manifest) -> Descriptor | None:
    """The locked application of an image; None if the image is none."""
    parts = (manifest.config, *manifest.layers)
    return next((part for part in parts if part.media_type == APPLICATION), None)


def describe(data: bytes, reference: Named) -> Application:
    """What a locked application says. Raises InvalidManifestError naming the field."""
    try:
        locked = msgspec.json.decode(data, type=_Locked)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidManifestError(reference, f"Spin application: {error}") from error
    triggers = [
        Trigger(
            one.trigger_type,
            _text(one.trigger_config.get("component")),
            _text(one.trigger_config.get("route")),
        )
        for one in locked.triggers
    ]
    return Application(
        name=locked.metadata.name,
        version=locked.metadata.version,
        triggers=triggers,
        components=[component.id for component in locked.components],
    )


def _text(value: object) -> str:
    """Only texts are told: a private route is an object, and so is a component that is written in place."""
    return value if isinstance(value, str) else ""
