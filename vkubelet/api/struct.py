"""The base of all structs that are decoded from the API.

It exists alone so that objects can be spread over files by idea. It must not know any object.
"""

from __future__ import annotations

import msgspec


class Struct(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """Camel case on the wire, snake case here; defaults are not written.

    What is decoded is a tree and stays one: the garbage collector need not look for cycles in it.
    """
