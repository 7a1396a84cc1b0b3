"""What a container's spec says of resources, as numbers.

It exists for those who show limits and requests and must not fail over a text that is no quantity: whoever
starts a container refuses such a one.
"""

from __future__ import annotations

from decimal import Decimal

from vkubelet.api.containers import Container
from vkubelet.pods.text import quantity


def limit(container: Container, resource: str) -> Decimal | None:
    """The limit in bytes or cores; None if there is none."""
    return _amount(container.resources.limits, resource)


def request(container: Container, resource: str) -> Decimal | None:
    """The request in bytes or cores; None if there is none."""
    return _amount(container.resources.requests, resource)


def _amount(amounts: dict[str, str | int] | None, resource: str) -> Decimal | None:
    text = (amounts or {}).get(resource)
    try:
        return None if text is None else quantity(text)
    except ValueError:
        return None
