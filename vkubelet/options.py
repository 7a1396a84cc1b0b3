"""The configuration's fields as options of a command.

It exists because more than one command takes them, and each must mean the same by them. It must not know what
a command does with its configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click
import msgspec

from vkubelet.config import HELP, THRESHOLDS, Config

# What the kubelet calls an option whose name here is that of its configuration file.
_KUBELETS_NAMES = {"static_pod_path": ("--pod-manifest-path",)}


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Every field of the configuration as a flag; its text is parsed where YAML and variables are."""
    defaults = msgspec.structs.asdict(Config())
    for field in reversed(Config.__struct_fields__):
        default = _shown(field, defaults[field])
        form: dict[str, Any] = {"metavar": "VALUE"}
        if isinstance(defaults[field], bool):
            form = {"metavar": "[true|false]", "is_flag": False, "flag_value": "true"}
        elif isinstance(defaults[field], dict | tuple):
            form["multiple"] = True
        command = click.option(
            f"--{field.replace('_', '-')}",
            *_KUBELETS_NAMES.get(field, ()),
            field,
            help=HELP[field] + (f" [default: {default}]" if default else ""),
            **form,
        )(command)
    return command


def _shown(field: str, value: object) -> str:
    """A default as its flag takes it."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, dict):
        mark = "<" if field in THRESHOLDS else "="
        return ",".join(f"{key}{mark}{item}" for key, item in value.items())
    if isinstance(value, tuple):
        return ",".join(
            item if isinstance(item, str) else f"{item.key}={item.value}:{item.effect}" for item in value
        )
    return str(value)


def given(flags: Mapping[str, str | tuple[str, ...] | None]) -> dict[str, str]:
    """The flags that were given, as `config.load` takes them."""
    return {
        name: value if isinstance(value, str) else ",".join(value) for name, value in flags.items() if value
    }
