"""kubectl exec, cp and debug against a real node, over WebSockets and over SPDY."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from streaming import Talk
from terminal import Terminal

pytestmark = pytest.mark.integration


def test_output_errors_and_exit_codes(talk: Talk) -> None:
    done = talk.exec("main", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, b"out\n")
    assert done.stderr == b"err\ncommand terminated with exit code 7\n"
    assert talk.exec("main", "true").returncode == 0


def test_the_containers_own_module_is_a_command(talk: Talk) -> None:
    done = talk.exec("main", "actor", "env", "COLOUR", "args", "exit", "4")
    assert done.returncode == 4
    assert done.stdout == b"COLOUR=green\nargv[0]=actor\nargv[1]=env\nargv[2]=COLOUR\n" + (
        b"argv[3]=args\nargv[4]=exit\nargv[5]=4\n"
    )


def test_a_trap_is_told_on_standard_error(talk: Talk) -> None:
    done = talk.exec("main", "actor", "trap")
    assert done.returncode == 134
    assert b"wasm trap: wasm `unreachable` instruction executed" in done.stderr


def test_files_are_the_containers(talk: Talk) -> None:
    assert talk.exec("main", "cat", "/greeting").stdout == b"hello from main"
    assert talk.exec("main", "sh", "-c", "echo changed > /greeting").returncode == 0
    assert talk.exec("main", "cat", "/greeting").stdout == b"changed\n"
    assert talk.exec("second", "cat", "/greeting").returncode == 1


def test_a_module_in_the_containers_files_is_a_command(talk: Talk, actor: Path, tmp_path: Path) -> None:
    assert talk.exec("main", "mkdir", "-p", "/tools").returncode == 0
    talk.kubectl("cp", "-c", "main", str(actor), f"{talk.pod}:/tools/mine.wasm")
    assert talk.exec("main", "/tools/mine.wasm", "print", "mine").stdout == b"mine\n"
    (tmp_path / "script").write_text("#!/bin/sh\n")
    talk.kubectl("cp", "-c", "main", str(tmp_path / "script"), f"{talk.pod}:/tools/script")
    refused = talk.exec("main", "/tools/script")
    assert refused.returncode == 1
    assert b'exec: "/tools/script": exec format error: it is not WebAssembly' in refused.stderr


def test_input_goes_through_unchanged_and_ends(talk: Talk) -> None:
    data = os.urandom(20_000_003)
    done = talk.exec("main", "cat", stdin=data)
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    counted = talk.exec("main", "sh", "-c", "wc -c | tr -d ' '", stdin=data)
    assert counted.stdout.strip() == b"20000003"


@pytest.mark.parametrize(
    ("container", "command", "message"),
    [
        ("nobody", ("true",), "container nobody not found in pod|container nobody is not valid for pod"),
        ("main", ("no-such-command",), 'exec: "no-such-command": executable file not found in $PATH'),
        ("main", ("/no/such",), 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("ended", ("true",), 'container not found ("ended")'),
    ],
)
def test_what_cannot_be_run_says_why(
    talk: Talk, container: str, command: tuple[str, ...], message: str
) -> None:
    done = talk.exec(container, *command)
    assert done.returncode == 1
    assert any(part in done.stderr.decode() for part in message.split("|")), done.stderr


def test_many_at_once(talk: Talk) -> None:
    running = [talk.start("exec", talk.pod, "-c", "main", "--", "actor", "print", str(n)) for n in range(20)]
    for number, one in enumerate(running):
        output, errors = one.communicate(timeout=90)
        assert (one.returncode, output) == (0, f"{number}\n".encode()), errors


def test_a_shell_on_a_terminal(talk: Talk) -> None:
    command = talk.command("exec", "-it", talk.pod, "-c", "main", "--", "sh")
    with Terminal(command, talk.environment, rows=30, columns=100) as terminal:
        terminal.expect("/ # ")
        terminal.send("echo $((6*7)); cat /greeting | wc -c\r")
        terminal.expect(r"\n42\r?\n")
        terminal.expect("/ # ")
        terminal.send("for i in 1 2 3; do echo n$i; done\r")
        terminal.expect("n1\r?\nn2\r?\nn3\r?\n")
        terminal.expect("/ # ")
        terminal.send("false\r")
        terminal.expect("/ # ")
        terminal.send("exit $?\r")
        assert terminal.wait() == 1


def test_an_interrupt_ends_the_instance(talk: Talk) -> None:
    command = talk.command(
        "exec", "-it", talk.pod, "-c", "main", "--", "actor", "print", "begun", "sleep", "600"
    )
    with Terminal(command, talk.environment) as terminal:
        terminal.expect("begun")
        terminal.send("\x03")
        assert terminal.wait() == 130
    talk.nothing_runs()


def test_a_client_that_goes_takes_its_instance_with_it(talk: Talk) -> None:
    client = talk.start("exec", talk.pod, "-c", "main", "--", "actor", "print", "begun", "sleep", "600")
    assert client.stdout is not None
    assert client.stdout.readline() == b"begun\n"
    client.kill()
    client.communicate(timeout=30)
    talk.nothing_runs()


def test_the_containers_end_ends_what_runs_beside_it(talk: Talk) -> None:
    with talk.another_pod("short-lived", "sleep", "86400") as pod:
        client = talk.start("exec", pod, "--", "actor", "print", "begun", "sleep", "600")
        assert client.stdout is not None
        assert client.stdout.readline() == b"begun\n"
        talk.kubectl("delete", "pod", pod, "--wait=false")
        _, errors = client.communicate(timeout=60)
        assert client.returncode == 137, errors
    talk.nothing_runs()


def test_copies_go_both_ways(talk: Talk, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    files = {"a.txt": b"text\n", "deep/empty": b"", "deep/er/big": os.urandom(3_000_001)}
    for name, content in files.items():
        (source / name).write_bytes(content)
    talk.kubectl("cp", "-c", "main", str(source), f"{talk.pod}:/copied")
    talk.kubectl("cp", "-c", "main", f"{talk.pod}:/copied", str(tmp_path / "back"))
    for name, content in files.items():
        assert (tmp_path / "back" / name).read_bytes() == content
    missing = talk.run("cp", "-c", "main", f"{talk.pod}:/nothing", str(tmp_path / "none"))
    assert b"tar: /nothing: Cannot stat: No such file or directory" in missing.stdout + missing.stderr
    assert not (tmp_path / "none").exists()


def test_debugging_sees_the_targets_files(talk: Talk) -> None:
    name = f"debugger-{talk.mode}"
    talk.kubectl(
        "debug", talk.pod, "--image=vkubelet.local/toolbox", "--target=main", f"--container={name}",
        "--", "sh", "-c", "cat /proc/1/root/motto; ps; sleep 86400",
    )  # fmt: skip
    path = f"{{.status.ephemeralContainerStatuses[?(@.name=='{name}')].state.running}}"
    talk.kubectl("wait", f"pod/{talk.pod}", f"--for=jsonpath={path}", "--timeout=90s")
    shown = talk.logs(name, until="main")
    assert "wasm everywhere" in shown
    assert talk.exec(name, "cat", "/proc/1/root/motto").stdout == b"wasm everywhere"


def test_ps_shows_the_pods_containers(talk: Talk) -> None:
    shown = talk.exec("main", "ps").stdout.decode()
    assert "main" in shown
    assert "second" in shown
