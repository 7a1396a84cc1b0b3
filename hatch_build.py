"""The wheel's build hook: compiles the launcher, and for wheels the toolbox.

It exists because the wheel carries one native program, which makes it a wheel for one kind of machine, and
one WebAssembly module. An installation of a source tree leaves the module to `make toolbox`.
"""

from __future__ import annotations

import shutil
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LauncherBuildHook(BuildHookInterface[Any]):
    """Builds the launcher and the toolbox in place; they are parts of the wheel as artifacts."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """See BuildHookInterface. pip installs PyPI's Go where the machine has none."""
        return [] if shutil.which("go") else ["pip"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See BuildHookInterface."""
        sys.path.insert(0, self.root)
        from providers.wasmtime.native import build  # the source tree is importable only now

        build.launcher()
        if self.target_name == "wheel" and version != "editable":
            from vkubelet.dev import toolbox

            toolbox.build()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{build.platform_tag()}"
