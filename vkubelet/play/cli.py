"""The command `vkubelet play`: words to options, an outcome to an exit code.

It exists apart because what it composes is imported only when it is asked for. It must decide nothing.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from vkubelet import startup

if TYPE_CHECKING:
    from vkubelet.play.player import Outcome


_INTERRUPTED = 130
"""The exit code of a program that Ctrl-C has ended."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--insecure-registries",
    multiple=True,
    metavar="HOST[:PORT]",
    help="Registries that are asked over plain HTTP; repeated or separated by commas.",
)
@click.option(
    "--log-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the containers' logs there, in the kubelet's layout.",
)
@click.option(
    "--root-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep images and compiled code there for the next time; without it nothing is kept.",
)
@click.option("--verbose", "-v", is_flag=True, help="Tell all that happens to the pods, not only what fails.")
def play(
    file: Path,
    insecure_registries: tuple[str, ...],
    log_dir: Path | None,
    root_dir: Path | None,
    *,
    verbose: bool,
) -> None:
    """Run the pods of FILE (- for standard input) in the foreground, with no cluster, and end with them.

    FILE is YAML or JSON: Pods, workloads (Deployment, Job, ...), which are run once by their pod template,
    and the ConfigMaps and Secrets that they name. An image may be a file: `image: ./hello.wasm`, found from
    where FILE is. Logs come on the terminal; a container with `stdin` or `tty` has the terminal itself.
    Ctrl-C ends the pods, twice at once. The exit code is that of the first container which fails, else 0;
    it is 125 when the pods could not be run.
    """
    from vkubelet.play.player import CANNOT, Outcome
    from vkubelet.play.stage import PLAY_ERRORS, Options
    from vkubelet.play.stage import play as perform

    logging.basicConfig(level=logging.WARNING, format="vkubelet play: %(message)s", stream=sys.stderr)
    registries = tuple(part for text in insecure_registries for part in text.split(",") if part)
    script = None if str(file) == "-" else file
    try:
        data = sys.stdin.buffer.read() if script is None else script.read_bytes()
    except OSError as error:
        _end(Outcome(CANNOT), [f"{file}: {error.strerror or error}"])
    causes: list[str] = []
    outcome = Outcome(CANNOT)
    try:
        outcome = startup.run(perform(Options(script, registries, log_dir, root_dir, verbose), data))
    except* PLAY_ERRORS as group:
        causes = [str(error) for error in startup.leaves(group)]
    except* KeyboardInterrupt:
        outcome = Outcome(_INTERRUPTED)  # before there was anything to end
    _end(outcome, causes)


def _end(outcome: Outcome, causes: list[str]) -> NoReturn:
    for cause in dict.fromkeys([*causes, outcome.cause]):
        if cause:
            click.echo(f"vkubelet play: {cause}", err=True)
    sys.exit(outcome.code)
