"""What a request to the kubelet API asks permission for: a verb on a subresource of this node.

It exists so that the mapping is a pure function that a table can show whole. It is the kubelet's, with
KubeletFineGrainedAuthz, which is on for good since 1.36: where there are two subresources, permission for
either suffices. A WebSocket is opened with GET and so asks for `get`, whatever runs behind it: that is the
kubelet's rule too. It must not know which routes there are.
"""

from __future__ import annotations

import dataclasses

from vkubelet.server.auth_identity import Identity

_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

_SUBRESOURCES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("/allocatedPods", ("pods", "proxy")),
    ("/pods", ("pods", "proxy")),
    ("/healthz", ("healthz", "proxy")),
    ("/configz", ("configz", "proxy")),
    ("/runningpods", ("pods", "proxy")),
    ("/stats", ("stats",)),
    ("/metrics", ("metrics",)),
    ("/logs", ("log",)),
    ("/checkpoint", ("checkpoint",)),
    ("/statusz", ("statusz",)),
    ("/flagz", ("configz",)),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Attributes:
    """One question: may `identity` do `verb` on nodes/`subresource` of the node `node`?"""

    identity: Identity
    verb: str
    node: str
    subresource: str


def verb(method: str) -> str:
    """The API's verb for an HTTP method; empty where there is none, which only permission for all covers."""
    return _VERBS.get(method, "")


def subresources(path: str) -> tuple[str, ...]:
    """The subresources of nodes that stand for a decoded path, the finest first; never empty."""
    for prefix, found in _SUBRESOURCES:
        if path == prefix or path.startswith(f"{prefix}/"):
            return found
    return ("proxy",)
