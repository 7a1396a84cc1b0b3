"""`vkubelet play`: a file's pods in the foreground, with no cluster, on pipes and on a real terminal."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from guests import build_guest, push_bytes, push_guest
from terminal import Terminal
from waiting import eventually

pytestmark = pytest.mark.integration

COMMAND = (sys.executable, "-m", "vkubelet.cli", "play")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with guests in it; what plays leave would be below it too."""
    for name in ("actor", "terminal", "terminal_modes", "trap"):
        shutil.copy(build_guest(name), tmp_path / f"{name}.wasm")
    (tmp_path / "tmp").mkdir()
    return tmp_path


@pytest.fixture
def nothing_left(place: Path) -> Any:
    yield
    assert list((place / "tmp").iterdir()) == []
    mine = str(place / "tmp")
    processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    assert not [entry for entry in processes if mine in command_line(entry)]


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place / "tmp")}


def pod(place: Path, *containers: str, spec: str = "restartPolicy: Never", name: str = "pod") -> str:
    """Write a pod's manifest; each container is the inside of a flow mapping. Returns the file's name."""
    listed = "\n".join(f"  - {{{text}}}" for text in containers)
    head = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n"
    (place / f"{name}.yaml").write_text(f"{head}  {spec}\n  containers:\n{listed}\n")
    return f"{name}.yaml"


def play(place: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=place,
        env=environment(place),
        timeout=90,
        check=False,
    )


def start(place: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=place,
        env=environment(place),
    )


@pytest.mark.usefixtures("nothing_left")
def test_a_local_module_runs_and_its_exit_code_is_ours(place: Path) -> None:
    words = "args: [print, hello, error, oops, print, again, exit, '3']"
    done = play(place, pod(place, f"name: main, image: ./actor.wasm, {words}"))
    assert (done.returncode, done.stdout, done.stderr) == (3, "hello\nagain\n", "oops\n")
    # From elsewhere, by the manifest's place; and through standard input, by ours.
    other = subprocess.run(
        [*COMMAND, str(place / "pod.yaml")], cwd="/", env=environment(place), capture_output=True, timeout=90,
        check=False,
    )  # fmt: skip
    assert (other.returncode, other.stdout) == (3, b"hello\nagain\n")
    again = play(place, "-", stdin=(place / "pod.yaml").read_text())
    assert (again.returncode, again.stdout) == (3, "hello\nagain\n")


@pytest.mark.usefixtures("nothing_left")
def test_config_maps_secrets_workloads_and_several_containers(place: Path) -> None:
    (place / "all.yaml").write_text("""
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {GREETING: hello}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {password: sesame}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: work}
spec:
  completions: 3
  template:
    spec:
      restartPolicy: Never
      initContainers:
      - {name: first, image: ./actor.wasm, args: [print, first]}
      containers:
      - name: one
        image: file:actor.wasm
        envFrom: [{configMapRef: {name: settings}}]
        args: [env, GREETING, read, /hidden/password]
        volumeMounts: [{name: hidden, mountPath: /hidden}]
      - {name: two, image: ./actor.wasm, args: [error, careful, exit, '5']}
      volumes: [{name: hidden, secret: {secretName: hidden}}]
""")
    done = play(place, "all.yaml")
    assert done.returncode == 5
    lines = done.stdout.splitlines()
    assert lines[0] == "[first] first"
    assert lines[1:] == ["[one] GREETING=hello", "[one] /hidden/password: sesame"]
    assert done.stderr.splitlines() == [
        "vkubelet play: Service web is left out: there is no cluster",
        "vkubelet play: Job work: one pod is run, whatever spec.completions says",
        "[two] careful",
    ]


@pytest.mark.usefixtures("nothing_left")
def test_standard_input_reaches_the_container_that_wants_it(place: Path) -> None:
    file = pod(place, "name: main, image: ./actor.wasm, stdin: true, args: [hear]")
    done = play(place, file, stdin="a\nb\n")
    assert (done.returncode, done.stdout) == (0, "heard a\nheard b\nheard the end\n")
    with (place / "input").open("w") as text:
        text.write("from a file\n")
    with (place / "input").open() as text:
        done = subprocess.run(
            [*COMMAND, file], stdin=text, cwd=place, env=environment(place), capture_output=True, text=True,
            timeout=90, check=False,
        )  # fmt: skip
    assert done.stdout == "heard from a file\nheard the end\n"


@pytest.mark.usefixtures("nothing_left")
def test_a_volume_of_a_driver_is_refused(place: Path) -> None:
    container = "name: main, image: ./actor.wasm, volumeMounts: [{name: v, mountPath: /v}]"
    done = play(place, pod(place, container, spec="volumes: [{name: v, csi: {driver: d.example.com}}]"))
    assert done.returncode == 125
    (line,) = done.stderr.splitlines()
    assert line.endswith(
        'MountVolume.NewMounter initialization failed for volume "v" : kubernetes.io/csi: '
        "failed to get a kubernetes client: this node runs without an API server"
    )


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("container", "cause"),
    [
        ("image: ./missing.wasm", "image {place}/missing.wasm: No such file or directory"),
        ("image: ./pod.yaml", "pod.yaml is neither a core WebAssembly module nor a component"),
        ("image: '127.0.0.1:9/x:v1'", "ErrImagePull: registry 127.0.0.1:9, repository x, reference v1"),
        ("image: ./actor.wasm, envFrom: [{configMapRef: {name: gone}}]", 'configmap "gone" not found'),
        ("image: ./actor.wasm, comand: [x]", 'pod.yaml: Pod pod: unknown field "spec.containers[0].comand"'),
        ("image: ''", "pod.yaml: Pod default/pod: invalid pod: spec.containers[0].image: Required value"),
        ("image: ./actor.wasm, securityContext: {privileged: true}", "has no privileges to be given"),
        ("image: ./actor.wasm, volumeMounts: [{name: v, mountPath: /v}]", "FailedMount"),
    ],
)
def test_what_cannot_run_ends_with_125_and_one_line_that_says_why(
    place: Path, container: str, cause: str
) -> None:
    volume = "volumes: [{name: v, secret: {secretName: gone}}]"
    done = play(place, pod(place, f"name: main, {container}", spec=f"{volume}\n  restartPolicy: Never"))
    assert done.returncode == 125
    (line,) = done.stderr.splitlines()
    assert line.startswith("vkubelet play: ")
    assert cause.format(place=place) in line


@pytest.mark.usefixtures("nothing_left")
def test_what_is_no_manifest_is_told(place: Path) -> None:
    done = play(place, "actor.wasm")
    assert (done.returncode, done.stdout) == (125, "")
    assert "actor.wasm: is a WebAssembly module: name it in a pod's manifest" in done.stderr
    done = play(place, "missing.yaml")
    assert (done.returncode, done.stderr) == (125, "vkubelet play: missing.yaml: No such file or directory\n")


@pytest.mark.usefixtures("nothing_left")
def test_a_terminal_that_goes_takes_the_play_along(place: Path, in_place: Callable[..., Terminal]) -> None:
    words = "args: [print, up, lines, '100000', sleep, '1000']"
    with in_place(pod(place, f"name: main, image: ./actor.wasm, {words}")) as terminal:
        terminal.expect("up")
        terminal.hang_up()
        assert terminal.wait_silent() != 0


@pytest.mark.usefixtures("nothing_left")
def test_a_trap_and_a_restart_policy_mean_what_they_mean_on_a_node(place: Path) -> None:
    done = play(place, pod(place, "name: main, image: ./trap.wasm"))
    assert done.returncode == 134
    assert "wasm trap" in done.stderr
    file = pod(place, "name: main, image: ./actor.wasm, args: [print, again]", spec="restartPolicy: Always")
    running = start(place, file)
    assert running.stdout is not None
    assert [running.stdout.readline() for _ in range(2)] == ["again\n"] * 2
    assert running.stderr is not None
    # Before, the second may not have ended, and ten seconds later there is a third: it would be killed, and
    # its exit code ours.
    assert any("Back-off restarting failed container main" in line for line in running.stderr)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode == 0


@pytest.mark.usefixtures("nothing_left")
def test_the_first_signal_ends_the_pods_with_their_grace_and_the_second_at_once(place: Path) -> None:
    hook = "lifecycle: {preStop: {sleep: {seconds: 600}}}"
    file = pod(
        place,
        f"name: main, image: ./actor.wasm, args: [print, up, sleep, '1000'], {hook}",
        spec="terminationGracePeriodSeconds: 600",
    )
    running = start(place, "--verbose", file)
    assert running.stdout is not None
    assert running.stderr is not None
    assert running.stdout.readline() == "up\n"
    running.send_signal(signal.SIGINT)
    for line in running.stderr:
        if "Killing: Stopping container main" in line:
            break
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 137


def test_what_a_killed_play_left_is_ended_by_the_next_one(place: Path) -> None:
    running = start(place, pod(place, "name: main, image: ./actor.wasm, args: [print, up, sleep, '1000']"))
    assert running.stdout is not None
    assert running.stdout.readline() == "up\n"
    beside = start(
        place, pod(place, "name: main, image: ./actor.wasm, args: [print, up, sleep, '1000']", name="beside")
    )
    assert beside.stdout is not None
    assert beside.stdout.readline() == "up\n"
    running.kill()
    running.communicate(timeout=60)
    (parent,) = (place / "tmp").iterdir()
    assert len(list(parent.iterdir())) == 2
    done = play(place, pod(place, "name: main, image: ./actor.wasm, args: [print, next]", name="next"))
    assert (done.returncode, done.stdout) == (0, "next\n")
    assert "which a play that was killed has left" in done.stderr
    assert len(list(parent.iterdir())) == 1, "the one that lives is left alone"
    beside.send_signal(signal.SIGINT)
    beside.communicate(timeout=60)
    eventually(lambda: list((place / "tmp").iterdir()) == [], "nothing left")


@pytest.mark.usefixtures("nothing_left")
def test_a_reader_that_goes_ends_the_play(place: Path) -> None:
    words = "args: [lines, '100000', sleep, '1000']"
    running = start(place, pod(place, f"name: main, image: ./actor.wasm, {words}"))
    assert running.stdout is not None
    running.stdout.readline()
    running.stdout.close()
    assert running.wait(60) != 0
    assert running.stderr is not None
    running.stderr.close()


@pytest.mark.usefixtures("nothing_left")
def test_an_image_of_a_registry_and_what_is_kept_where_it_is_wanted(place: Path, cluster: Any) -> None:
    image = push_guest(cluster.registry, "actor", "play")
    file = pod(place, f"name: main, image: '{image}', args: [print, pulled]")
    flags = (f"--insecure-registries={cluster.registry}", "--log-dir=logs", "--root-dir=kept")
    done = play(place, *flags, "--verbose", file)
    assert (done.returncode, done.stdout) == (0, "pulled\n")
    assert f'Successfully pulled image "{image}"' in done.stderr
    (log,) = (place / "logs").glob("default_pod_*/main/0.log")
    assert log.read_text().endswith(" stdout F pulled\n")
    again = play(place, *flags, "--verbose", file)
    assert "already present on machine" in again.stderr
    assert len(list((place / "logs").iterdir())) == 2
    (place / "full").touch()
    full = play(place, flags[0], flags[2], "--log-dir=full/logs", file)
    assert full.returncode == 0
    assert "vkubelet play: the logs of pod pod are not kept" in full.stderr
    plain = play(place, file)
    assert plain.returncode == 125
    assert "ErrImagePull" in plain.stderr


def on_terminal(place: Path, words: Sequence[str], **size: int) -> Terminal:
    return Terminal([*COMMAND, *words], environment(place), **size)


@pytest.fixture
def in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Terminal]:
    monkeypatch.chdir(place)
    return lambda *words, **size: on_terminal(place, words, **size)


@pytest.mark.usefixtures("nothing_left")
def test_a_pod_that_wants_a_terminal_has_ours(place: Path, in_place: Callable[..., Terminal]) -> None:
    file = pod(place, "name: main, image: ./terminal.wasm, stdin: true, tty: true")
    with in_place(file) as terminal:
        terminal.expect("terminal 1 1 1")
        terminal.send("first\r")
        terminal.expect("heard first")
        terminal.send("\x04")  # the end of input, by the guest's own terminal
        terminal.expect("bye")
        assert terminal.wait() == 3


@pytest.mark.usefixtures("nothing_left")
def test_ctrl_c_in_a_pods_terminal_is_the_pods(place: Path, in_place: Callable[..., Terminal]) -> None:
    file = pod(place, "name: main, image: ./terminal.wasm, stdin: true, tty: true")
    with in_place(file) as terminal:
        terminal.expect("terminal 1 1 1")
        terminal.send("\x03")
        assert terminal.wait() == 130
        modes = termios.tcgetattr(terminal._master)[3]
        assert modes & termios.ICANON, "the terminal is as it was"
        assert modes & termios.ECHO


@pytest.mark.usefixtures("nothing_left")
def test_the_size_of_the_terminal_is_the_pods_too(place: Path, in_place: Callable[..., Terminal]) -> None:
    file = pod(place, "name: main, image: ./terminal_modes.wasm, stdin: true, tty: true")
    with in_place(file, rows=31, columns=97) as terminal:
        terminal.expect("ready")
        terminal.send("s\r")
        terminal.expect("size: 0, 31 rows, 97 columns")
        terminal.resize(40, 100)
        # The signal is on its way: a size that is asked for too early is the former one.
        eventually(lambda: asked(terminal) == "40 rows, 100 columns", "the new size")
        terminal.send("q\r")
        assert terminal.wait() == 5


def asked(terminal: Terminal) -> str:
    terminal.send("s\r")
    return terminal.expect(r"size: 0, \d+ rows, \d+ columns").removeprefix("size: 0, ")


@pytest.mark.usefixtures("nothing_left")
def test_the_nodes_shell_is_a_pod_to_play_with(place: Path, in_place: Callable[..., Terminal]) -> None:
    words = "stdin: true, tty: true, args: [sh]"
    with in_place(pod(place, f"name: main, image: vkubelet.local/toolbox, {words}")) as terminal:
        terminal.expect("/ # ")
        terminal.send("echo $((6*7)); exit 7\r")
        terminal.expect("\r\n42\r")
        assert terminal.wait() == 7


@pytest.mark.usefixtures("nothing_left")
def test_ctrl_c_ends_a_play_on_a_terminal(place: Path, in_place: Callable[..., Terminal]) -> None:
    file = pod(place, "name: main, image: ./actor.wasm, args: [print, up, sleep, '1000']")
    with in_place(file) as terminal:
        terminal.expect("up")
        terminal.send("\x03")
        terminal.expect("ending the pods; once more ends them at once")
        assert terminal.wait() == 137


@pytest.mark.usefixtures("nothing_left")
def test_a_pull_shows_how_far_it_has_come(
    place: Path, cluster: Any, in_place: Callable[..., Terminal]
) -> None:
    module = build_guest("actor").read_bytes()
    # A custom section of some size: what follows a module's sections is no part of what it does.
    padding = os.urandom(8 * 1024 * 1024)
    body = bytes((1, 120)) + padding
    size = len(body)
    encoded = bytes((size >> shift & 0x7F) | 0x80 for shift in (0, 7, 14, 21)) + bytes((size >> 28,))
    reference = f"{cluster.registry}/padded:v1"
    push_bytes(cluster.registry, "padded", module + b"\0" + encoded + body)
    file = pod(place, f"name: main, image: '{reference}', args: [print, pulled]")
    with in_place(f"--insecure-registries={cluster.registry}", file) as terminal:
        terminal.expect(r"padded:v1 .*MB")
        terminal.expect("pulled")
        assert terminal.wait() == 0
