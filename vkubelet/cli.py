"""The command line: composes everything, decides nothing.

It exists to turn the words of a command into a typed configuration and a failure into one clear line with
a non-zero exit. Modules that are slow to import are imported by the command that needs them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from vkubelet import footprint, logs, startup
from vkubelet.config import HELP, THRESHOLDS, Config, ConfigError, load

_ELSEWHERE = {
    "dev": "vkubelet.dev.cli",
    "inspect": "vkubelet.images.cli",
    "play": "vkubelet.play.cli",
    "push": "vkubelet.images.cli",
}
"""Commands and the modules that they are in."""


class _Commands(click.Group):
    """The commands; those with a package of their own are imported when they are asked for, not by a node."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click.Group."""
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click.Group."""
        where = _ELSEWHERE.get(cmd_name)
        if where is None:
            return super().get_command(ctx, cmd_name)
        found: click.Command = getattr(importlib.import_module(where), cmd_name)
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A Kubernetes node whose containers are WebAssembly."""


@main.command()
def version() -> None:
    """Print the versions of the node and of its WebAssembly runtime."""
    for package in ("vkubelet", "wasmtime"):
        click.echo(f"{package} {importlib.metadata.version(package)}")


# What the kubelet calls an option whose name here is that of its configuration file.
_KUBELETS_NAMES = {"static_pod_path": ("--pod-manifest-path",)}


def _options(command: Callable[..., None]) -> Callable[..., None]:
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


@main.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="A YAML file with these options.")
@_options
def run(file: Path | None, **flags: str | tuple[str, ...] | None) -> None:
    """Be a node: register with the API server and run the pods that are scheduled to it.

    Each option is also a YAML key (maxPods) and a variable (VKUBELET_MAX_PODS); flags win over variables,
    variables over the file.
    """
    given = {
        name: value if isinstance(value, str) else ",".join(value) for name, value in flags.items() if value
    }
    try:
        config = load(given, os.environ, file)
    except ConfigError as error:
        _fail(str(error))
    logs.set_up(config.log_level, config.logging_format)
    from vkubelet.agent import AGENT_ERRORS, serve

    footprint.one_arena()
    causes: list[Exception] = []
    try:
        startup.run(serve(config))
    except* AGENT_ERRORS as group:
        causes = startup.leaves(group)  # a SystemExit that is raised here would end up in a group of its own
    if causes:
        _fail("; ".join(dict.fromkeys(str(error) for error in causes)))


def _fail(message: str) -> None:
    click.echo(f"vkubelet: {message}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
