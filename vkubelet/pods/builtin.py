"""Images that the node itself serves: no registry is asked, and every pod may use them.

It exists so that `kubectl debug --image=vkubelet.local/toolbox` works on a node that reaches no registry. It
must not know how an image is run.
"""

from __future__ import annotations

from oci.errors import NotFoundError
from oci.images import Image, ImageConfig
from oci.reference import Reference
from vkubelet.toolbox import Toolbox

REGISTRY = "vkubelet.local"
"""The registry of these images' references; a name that no public registry can have."""
_TOOLBOX = "toolbox"


def is_builtin(image: str) -> bool:
    """Whether a container's image is one of the node's own."""
    return image.startswith(f"{REGISTRY}/")


class BuiltinImages:
    """One for the node. Any tag of an image means the one that is there."""

    def __init__(self, toolbox: Toolbox) -> None:
        """The toolbox is looked at when it is asked for."""
        self._toolbox = toolbox

    def get(self, reference: Reference) -> Image:
        """The image. Blocks for a verification the first time. Raises OciError, ToolboxError."""
        if reference.repository != _TOOLBOX:
            raise NotFoundError(reference, f"the node serves no other image than {REGISTRY}/{_TOOLBOX}")
        module = self._toolbox.module()
        if reference.digest not in (None, module.digest):
            raise NotFoundError(reference, f"the node has it with digest {module.digest}")
        return Image(
            reference=reference,
            digest=module.digest,
            module=module.path,
            module_digest=module.digest,
            size=module.path.stat().st_size,
            names=(),
            config=ImageConfig(entrypoint=(_TOOLBOX,)),
        )
