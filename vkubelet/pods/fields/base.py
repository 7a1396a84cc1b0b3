"""What can be said of a field: it works, it is applied as far as wasm allows, or it is refused.

It exists so that the tables of fields read like tables. It must not know any field.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from providers.base import Capabilities, Identity
from vkubelet.api.objects import Pod


class How(enum.Enum):
    """What becomes of a field."""

    WORKS = "works"
    APPLIED = "as far as wasm allows"
    REFUSED = "refused"


@dataclasses.dataclass(frozen=True, slots=True)
class Where:
    """What a refusal may depend on: the pod, what its host can do, and whom the node runs as."""

    pod: Pod
    host: Capabilities
    own: Identity


Refusal: TypeAlias = Callable[[Any, Where], str | None]
"""The message with which a value that is set is refused; None if it is not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """What becomes of one field, in words, and which of its values refuse the pod."""

    how: How
    note: str = ""
    refusal: Refusal | None = None


Fields: TypeAlias = Mapping[str, Field]
"""By the API's names of a type's fields."""


def works(note: str = "", *, but: Refusal | None = None) -> Field:
    """It means what it says; `but` refuses single values."""
    return Field(How.WORKS, note, but)


def applied(note: str, *, but: Refusal | None = None) -> Field:
    """It is accepted, and `note` says what it comes to; `but` refuses single values."""
    return Field(How.APPLIED, note, but)


def refused(message: str) -> Field:
    """A pod that sets it, to anything but false or nothing, is refused with this message."""
    return Field(
        How.REFUSED, message, lambda value, _where: None if value is False or value == [] else message
    )
