"""`vkubelet dev`: the command line of the dev cluster. It composes; the work is in the modules beside it."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from vkubelet.dev import build, cluster, kubectl, node, samples
from vkubelet.dev.layout import DevError, Layout, default_cache, default_root
from vkubelet.dev.report import Report
from vkubelet.pods.volumes import removal

PATH = click.Path(path_type=Path, file_okay=False, resolve_path=True)


@click.group(invoke_without_command=True)
@click.option(
    "--dir", "root", type=PATH, default=default_root, show_default="~/.local/state/vkubelet/dev",
    envvar="VKUBELET_DEV_DIR", help="Where the cluster and its node live.",
)  # fmt: skip
@click.option(
    "--cache-dir", type=PATH, default=default_cache, show_default="~/.cache/vkubelet",
    envvar="VKUBELET_CACHE_DIR", help="Where the cluster's program is kept once built.",
)  # fmt: skip
@click.pass_context
def dev(context: click.Context, root: Path, cache_dir: Path) -> None:
    """A Kubernetes of your own with a wasm node and a registry; no root, no container engine.

    Without a command: starts everything, runs a sample pod and shows its output.
    """
    context.obj = Layout(root, cache_dir)
    if context.invoked_subcommand is None:
        welcome(context.obj, Report())


@dev.command()
@click.option("--no-node", is_flag=True, help="Only the cluster: to run a node by hand.")
@click.pass_obj
def up(layout: Layout, no_node: bool) -> None:
    """Start the cluster and its wasm node, if they do not run."""
    report = Report()
    ready = start_cluster(layout, report)
    if no_node:
        report.step(
            f"A node of your own starts with:\n  vkubelet run {' '.join(_run_by_hand(layout, ready))}"
        )
        return
    start_node(layout, ready, report)
    report.step(_how_to_go_on(layout))


@dev.command()
@click.pass_obj
def down(layout: Layout) -> None:
    """End the node with its containers, then the cluster. Data stays."""
    if not stop_all(layout, Report()):
        click.echo("Nothing runs.", err=True)


@dev.command()
@click.pass_obj
def reset(layout: Layout) -> None:
    """End everything and remove the data."""
    stop_all(layout, Report())
    present = [directory for directory in (layout.node, layout.cluster) if directory.exists()]
    for directory in present:
        # What a node that was killed left mounted is taken away first.
        removal.remove(directory)
        click.echo(f"Removed {directory}.", err=True)
    if not present:
        click.echo(f"There is no data in {layout.root}.", err=True)


@dev.command()
@click.pass_obj
def status(layout: Layout) -> None:
    """Say what runs. Exit code 1 when the cluster does not."""
    ready = cluster.running(layout.cluster)
    pid = node.running(layout.node)
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "cluster": f"running, {ready.apiserver}, {ready.version}, process {ready.pid}"
        if ready
        else "not running",
        "node": f"running, {node.name()}, process {pid}" if pid else "not running",
        "registry": ready.registry if ready else "not running",
        "kubeconfig": str(layout.kubeconfig) if layout.kubeconfig.exists() else "none yet",
        "logs": f"{layout.cluster / 'logs'}, {layout.node / 'vkubelet.log'}",
    }
    for name, text in rows.items():
        table.add_row(name, text)
    Console(highlight=False, soft_wrap=True).print(table, markup=False)
    if ready is None:
        raise SystemExit(1)


@dev.command(
    "kubectl", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
)  # fmt: skip
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def kubectl_(layout: Layout, arguments: tuple[str, ...]) -> None:
    """Run the real kubectl against the cluster, with all arguments as they are."""
    ready = _running(layout)
    program = kubectl.binary()
    environment = kubectl.environment(ready.kubeconfig)
    os.execve(program, ["kubectl", *arguments], environment)  # noqa: S606  kubectl takes our place


@dev.command()
@click.pass_obj
def kubeconfig(layout: Layout) -> None:
    """Print the path of the administrator's kubeconfig, for the variable KUBECONFIG."""
    click.echo(_running(layout).kubeconfig)


@dev.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("image", metavar="NAME:TAG")
@click.pass_obj
def push(layout: Layout, file: Path, image: str) -> None:
    """Push a wasm module (.wasm or .wat) into the registry; prints the image name for manifests."""
    click.echo(samples.push(file, image, _running(layout).registry))


@dev.command()
@click.argument("name", type=click.Choice(samples.NAMES))
@click.option("--print", "only_print", is_flag=True, help="Write the manifest instead of applying it.")
@click.pass_obj
def sample(layout: Layout, name: str, only_print: bool) -> None:
    """Run a sample: a pod, a deployment of three, a job, a pod that traps, one whose image is missing."""
    ready = _running(layout)
    text = samples.manifest(name, ready.registry)
    if only_print:
        click.echo(text, nl=False)
        return
    samples.push_guests(ready.registry)
    click.echo(kubectl.run(ready.kubeconfig, ["apply", "--filename=-"], stdin=text), nl=False)


def welcome(layout: Layout, report: Report) -> None:
    """From nothing to a running wasm pod."""
    ready = start_cluster(layout, report)
    start_node(layout, ready, report)
    report.step(f"Pushing a sample module to the registry {ready.registry}")
    samples.push_guests(ready.registry)
    report.step("Running it in a pod; this is its output (kubectl logs --follow hello):")
    # One of an earlier run may have ended with its node: a pod is not started twice.
    kubectl.run(ready.kubeconfig, ["delete", "pod/hello", "--ignore-not-found", "--timeout=60s"])
    kubectl.run(ready.kubeconfig, ["apply", "--filename=-"], stdin=samples.manifest("hello", ready.registry))
    kubectl.run(ready.kubeconfig, ["wait", "--for=condition=Ready", "pod/hello", "--timeout=60s"])
    with ThreadPoolExecutor(1) as beside:
        # The first command on a node compiles its shell, for some seconds: nobody has to wait for that later.
        ran = beside.submit(kubectl.run, ready.kubeconfig, ["exec", "hello", "--", "uname", "-a"])
        for line in kubectl.first_lines(ready.kubeconfig, ["logs", "--follow", "pod/hello"], 3):
            click.echo(f"  {line}", nl=False)
        report.step("Running a command beside it (kubectl exec hello -- uname -a):")
        try:
            click.echo(f"  {ran.result()}", nl=False)
        except DevError as error:  # an installation without its shell: all else works
            report.step(f"  {error}")
    report.step(_how_to_go_on(layout))


def start_cluster(layout: Layout, report: Report) -> cluster.Ready:
    """The running cluster, started if need be."""
    ready = cluster.running(layout.cluster)
    if ready is not None:
        report.step(f"The cluster runs ({ready.apiserver}).")
        return ready
    binary = build.cluster_binary(layout.cache, report)
    report.step("Starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler and the registry")
    return cluster.start(binary, layout.cluster)


def start_node(layout: Layout, ready: cluster.Ready, report: Report) -> None:
    """Leave a Ready node, started if need be."""
    pid = node.running(layout.node)
    if pid is None:
        report.step(f"Starting the wasm node {node.name()}")
        node.start(layout.node, ready, node.name())
        return
    report.step("The node runs.")
    node.wait_ready(pid, node.name(), ready.kubeconfig, layout.node / "vkubelet.log")


def stop_all(layout: Layout, report: Report) -> bool:
    """End the node, which needs the cluster to report its pods' end, and then the cluster."""
    ended = False
    ready = cluster.running(layout.cluster)
    if ready is not None and node.running(layout.node) is None and node.left_containers(layout.node):
        report.step("The node was killed and left containers: starting it once more to end them")
        node.start(layout.node, ready, node.name())
    if node.running(layout.node) is not None:
        report.step("Ending the node and its containers")
        ended = node.stop(layout.node)
    if cluster.stop(layout.cluster):
        report.step("Ended the cluster")
        ended = True
    return ended


def _running(layout: Layout) -> cluster.Ready:
    ready = cluster.running(layout.cluster)
    if ready is None:
        raise DevError("the cluster does not run: start it with `vkubelet dev up`")
    return ready


def _run_by_hand(layout: Layout, ready: cluster.Ready) -> list[str]:
    return node.options(layout.node, ready, node.name())


def _how_to_go_on(layout: Layout) -> str:
    programs = Path(sys.executable).parent
    activate = programs / "activate"
    known = str(programs) in os.environ.get("PATH", "").split(os.pathsep)
    lines = [f"source {activate}"] if activate.exists() and not known else []
    lines += [
        f"export KUBECONFIG={layout.kubeconfig}",
        "kubectl get nodes,pods                   (or: vkubelet dev kubectl get nodes,pods)",
        "vkubelet dev sample deployment           three replicas; also: job, trap, missing",
        "vkubelet dev push app.wasm app:v1        your own module",
        "vkubelet dev status | down | reset",
    ]
    return "\nGo on with:\n" + "\n".join(f"  {line}" for line in lines)
