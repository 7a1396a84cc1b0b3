"""The wheel's build hook: compiles the launcher, for wheels and for installations of a source tree.

It exists because the wheel carries one native program, which makes it a wheel for one kind of machine.
"""

from __future__ import annotations

import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LauncherBuildHook(BuildHookInterface[Any]):
    """Builds providers/wasmtime/bin/vkubelet-launcher in place; it is part of the wheel as an artifact."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See BuildHookInterface."""
        sys.path.insert(0, self.root)
        from providers.wasmtime.native import build  # the source tree is importable only now

        build.launcher()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{build.platform_tag()}"
