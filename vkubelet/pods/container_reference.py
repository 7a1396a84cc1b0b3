"""What an event about a container is attached to.

It exists apart because everything that happens to a container is told of, wherever it happens.
"""

from __future__ import annotations

from vkubelet.api.objects import ObjectReference, Pod, pod_reference


def container_reference(pod: Pod, container: str) -> ObjectReference:
    """The pod, and the field of it in which the container is."""
    field = "containers"
    if any(item.name == container for item in pod.spec.init_containers or ()):
        field = "initContainers"
    elif any(item.name == container for item in pod.spec.ephemeral_containers or ()):
        field = "ephemeralContainers"
    return pod_reference(pod, f"spec.{field}{{{container}}}")
