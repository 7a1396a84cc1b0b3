"""Which pods this node takes: a pure function from a pod to the reason it is refused, if it is.

It exists so that nothing in a spec is silently ignored: a field whose promise this node cannot keep refuses
the pod, in the way that a kubelet's admission handlers do (phase Failed, `Pod was rejected: ...`), with
the field's path and what to do. Which fields these are, the tables of `fields` say. It must not know how a
pod is run.
"""

from __future__ import annotations

from providers.base import Capabilities, Identity
from vkubelet.api.objects import Pod
from vkubelet.pods.fields.base import Where
from vkubelet.pods.fields.refusals import refusals
from vkubelet.pods.observed import Rejection
from vkubelet.pods.security import forbidden_sysctl

REASON = "UnsupportedPodSpec"


def admit(pod: Pod, host: Capabilities, own: Identity) -> Rejection | None:
    """None when the node takes the pod, else all that it cannot keep, named by field.

    `host` is what the host can enforce, `own` whom the node itself runs as.
    """
    forbidden = forbidden_sysctl(pod)
    if forbidden is not None:
        return forbidden
    found = list(refusals(Where(pod, host, own)))
    if not found:
        return None
    return Rejection(REASON, "this wasm node cannot keep what the pod asks for: " + "; ".join(found))
