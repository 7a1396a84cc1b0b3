"""What can be wrong with a layer, before anybody says of which image it is.

It exists so that the code that reads archives needs no reference. It must not know images.
"""

from __future__ import annotations


class LayerError(ValueError):
    """The layer is damaged, hostile, or holds what cannot be unpacked here; the text names the entry."""


class LimitError(LayerError):
    """Unpacked, the layers would be more than a node takes; the text says of what and how much."""
