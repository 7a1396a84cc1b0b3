"""The command `vkubelet doctor`: the options of a node, and a look instead of a run.

It exists apart because what it needs is imported only when it is asked for. It must decide nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import click

from vkubelet.config import Config, ConfigError, load
from vkubelet.doctor.verdict import Verdict
from vkubelet.options import given, options


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="A YAML file with these options.")
@options
def doctor(file: Path | None, *, as_json: bool, **flags: str | tuple[str, ...] | None) -> None:
    """Tell what of a node works on this machine, what is missing and how to get it.

    Takes the options of `vkubelet run`, and looks as that would find things. With a kubeconfig the API server
    is asked what the node may do. But for a cgroup that it makes and removes, and the controllers that this
    enables, it changes nothing, and a node may run meanwhile. The exit code is 1 if no node can run.
    """
    from vkubelet.doctor import host, reading, verdict

    try:
        config = load(given(flags), os.environ, file)
        verdicts = list(host.judge(reading.read(config)))
    except (ConfigError, OSError) as error:
        click.echo(f"vkubelet doctor: {error}", err=True)
        sys.exit(1)
    verdicts += asyncio.run(_cluster(config))
    if as_json:
        click.echo(json.dumps(verdict.as_document(verdicts), indent=2))
    else:
        click.echo(verdict.as_text(verdicts))
    sys.exit(0 if verdict.is_fit(verdicts) else 1)


async def _cluster(config: Config) -> list[Verdict]:
    from vkubelet.doctor import cluster, verdict
    from vkubelet.node.certificates import client_kubeconfig
    from vkubelet.standalone import is_standalone

    if is_standalone(config):
        return [verdict.ok("api server", "none is configured: the node runs its static pods")]
    path = client_kubeconfig(config)
    bootstrap = bool(config.bootstrap_kubeconfig) and not path.exists()
    if bootstrap:
        path = Path(config.bootstrap_kubeconfig)
    elif not path.exists():
        advice = "give --kubeconfig, --bootstrap-kubeconfig, or --static-pod-path for a node by itself"
        return [verdict.missing("api server", f"there is no kubeconfig {path}", advice)]
    found = await cluster.read(config, path, bootstrap=bootstrap)
    return list(cluster.judge(found, config.node_name, bootstrap=bootstrap))
