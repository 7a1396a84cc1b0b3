"""Pictures of the terminal for the README: real sessions with a dev cluster's pods, drawn as SVG.

`make pictures` makes them anew. Each session is typed as a person would, and stops when what it waits for
does not appear: a picture of something that does not work cannot be made.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text
from terminal import Terminal

from vkubelet.dev import kubectl
from vkubelet.dev.cluster import running
from vkubelet.dev.layout import Layout, default_cache, default_root

DIRECTORY = Path(__file__).parents[1] / "docs" / "pictures"
COLUMNS = 96
PROMPT = r"[^\n]*\$ $"
"""Of the shell that kubectl is typed into, and nothing behind it."""


@dataclass(frozen=True)
class Step:
    """Type a line, then wait for what must appear."""

    line: str
    appears: str


@dataclass(frozen=True)
class Picture:
    """What a person types in a shell of their own, and how many lines the terminal has."""

    name: str
    title: str
    rows: int
    steps: Sequence[Step]


PICTURES = (
    Picture(
        "shell",
        "kubectl exec: a shell beside a wasm container",
        22,
        (
            Step("kubectl exec -it hello -- sh", "/ # "),
            Step("ps", "/ # "),
            Step("echo 'wasm all the way down' > /note; ls -l /", "/ # "),
            Step("for word in $(cat /note); do echo $word; done | sort | head -n 3", "/ # "),
            Step("sha256sum /note | cut -c 1-16; uname -a", "/ # "),
            Step("exit 7", rf"exit code 7\r\n{PROMPT}"),
            Step("kubectl cp hello:/note note && cat note", "wasm all the way down"),
        ),
    ),
    Picture(
        "debug",
        "kubectl debug: an ephemeral container that sees its target's files",
        20,
        (
            Step("kubectl debug -it hello --image=vkubelet.local/toolbox --target=hello", "press.* enter"),
            Step("", r"\n/ # "),
            Step("cat /proc/1/root/note", r"down\r?\n/ # "),
            Step("ps", r"toolbox\r?\n/ # "),
            Step("exit", PROMPT),
        ),
    ),
    Picture(
        "attach",
        "kubectl attach: a pod that is a terminal",
        17,
        (
            Step(
                "kubectl apply -f terminal.yaml && kubectl wait --for=condition=Ready pod/terminal",
                f"met\r\n{PROMPT}",
            ),
            Step("kubectl attach -it terminal", "press.* enter"),
            Step("", r"\n/ # "),
            Step("echo $((6*7)) > /answer", r"\n/ # "),
            Step("cat /answer", r"42\r?\n/ # "),
            Step("exit", PROMPT),
            Step("kubectl get pod terminal", "Completed"),
        ),
    ),
)

TERMINAL_POD = """
apiVersion: v1
kind: Pod
metadata: {name: terminal}
spec:
  restartPolicy: Never
  nodeSelector: {kubernetes.io/arch: wasm32-wasi}
  tolerations: [{operator: Exists}]
  containers:
    - {name: shell, image: vkubelet.local/toolbox, stdin: true, tty: true}
"""


def play(picture: Picture, environment: dict[str, str], directory: Path) -> pyte.Screen:
    """Type the steps into a shell; the screen as it is in the end."""
    command = ["bash", "--noprofile", "--norc", "-i"]
    with Terminal(
        command, {**environment, "PS1": "$ ", "HOME": str(directory)}, rows=picture.rows, columns=COLUMNS
    ) as terminal:
        terminal.expect(PROMPT)
        terminal.send(f"cd {directory}; clear\r")
        terminal.expect(rf"clear\r\n{PROMPT}")
        begin = len(terminal.seen)
        for step in picture.steps:
            terminal.send(f"{step.line}\r")
            terminal.expect(step.appears)
        terminal.settle()
        screen = pyte.Screen(COLUMNS, picture.rows)
        stream = pyte.ByteStream(screen)
        stream.feed(b"$ " + terminal.seen[begin:])
    return screen


def draw(screen: pyte.Screen, title: str, target: Path) -> None:
    """The screen as SVG."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True)
    for row in range(screen.lines):
        line = Text()
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            colour = None if cell.fg == "default" else cell.fg
            line.append(cell.data, Style(color=colour, bold=cell.bold, reverse=cell.reverse))
        line.rstrip()
        console.print(line)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A picture that is looked at asks nobody for anything: no fonts from elsewhere.
    target.write_text(re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=title), flags=re.DOTALL))


def main() -> None:
    """Draw all pictures with the dev cluster, whose pod `hello` runs."""
    layout = Layout(Path(os.environ.get("VKUBELET_DEV_DIR") or default_root()), default_cache())
    ready = running(layout.cluster)
    if ready is None:
        sys.exit("the dev cluster does not run: `make run` starts it")
    scratch = layout.root / "pictures"
    scratch.mkdir(exist_ok=True)
    (scratch / "terminal.yaml").write_text(TERMINAL_POD)
    environment = dict(kubectl.environment(ready.kubeconfig))
    environment["PATH"] = f"{Path(kubectl.binary()).parent}:{environment['PATH']}"
    kubectl.run(ready.kubeconfig, ["delete", "pod", "terminal", "--ignore-not-found"])
    for picture in PICTURES:
        draw(play(picture, environment, scratch), picture.title, DIRECTORY / f"{picture.name}.svg")


if __name__ == "__main__":
    main()
