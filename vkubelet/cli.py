"""The command line: composes everything, decides nothing.

It exists to turn the words of a command into a typed configuration and a failure into one clear line with
a non-zero exit. Modules that are slow to import are imported by the command that needs them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from pathlib import Path

import click

from providers.exhausted import lacking
from vkubelet import footprint, logs, startup
from vkubelet.config import ConfigError, load
from vkubelet.options import given, options

_ELSEWHERE = {
    "dev": "vkubelet.dev.cli",
    "doctor": "vkubelet.doctor.cli",
    "images": "vkubelet.images.kept",
    "inspect": "vkubelet.images.cli",
    "play": "vkubelet.play.cli",
    "pull": "vkubelet.images.kept",
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


@main.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="A YAML file with these options.")
@options
def run(file: Path | None, **flags: str | tuple[str, ...] | None) -> None:
    """Be a node: register with the API server and run the pods that are scheduled to it.

    Each option is also a YAML key (maxPods) and a variable (VKUBELET_MAX_PODS); flags win over variables,
    variables over the file.
    """
    try:
        config = load(given(flags), os.environ, file)
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
    except* (OSError, RuntimeError) as group:
        causes = startup.leaves(group)
        if not all(map(lacking, causes)):
            raise
    if causes:
        _fail("; ".join(dict.fromkeys(lacking(error) or str(error) for error in causes)))


def _fail(message: str) -> None:
    click.echo(f"vkubelet: {message}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
