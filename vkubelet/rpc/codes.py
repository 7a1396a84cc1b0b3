"""How Go writes the code of a gRPC error, which is how a kubelet's messages have it.

It exists because gRPC's library names codes its own way. It must not know who failed.
"""

from __future__ import annotations


def go_code(name: str) -> str:
    """`DEADLINE_EXCEEDED` as `DeadlineExceeded`."""
    return "Canceled" if name == "CANCELLED" else "OK" if name == "OK" else name.title().replace("_", "")
