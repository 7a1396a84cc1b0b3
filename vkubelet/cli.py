"""The command line: composes everything, decides nothing."""

from __future__ import annotations

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A Kubernetes node whose containers are WebAssembly."""
