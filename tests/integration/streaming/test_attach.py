"""kubectl attach and run against a real node, over WebSockets and over SPDY."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest
from streaming import Talk
from terminal import Terminal

pytestmark = pytest.mark.integration


def say(client: subprocess.Popen[bytes], line: str) -> None:
    assert client.stdin is not None
    client.stdin.write(f"{line}\n".encode())
    client.stdin.flush()


def until(client: subprocess.Popen[bytes], text: str) -> None:
    assert client.stdout is not None
    for line in client.stdout:
        if text in line.decode():
            return
    raise AssertionError(f"{text!r} did not appear; {client.communicate()[1]!r}")


def test_input_reaches_the_container_and_its_output_comes_back(talk: Talk) -> None:
    for word in ("one", "two"):  # whoever goes takes no input away from who comes after
        with talk.start("attach", "-i", talk.pod, "-c", "hearing") as client:
            say(client, word)
            until(client, f"heard {word}")
            client.kill()
    assert "heard one" in talk.logs("hearing", until="heard two")


def test_two_clients_see_the_same(talk: Talk) -> None:
    with (
        talk.start("attach", "-i", talk.pod, "-c", "hearing") as speaker,
        talk.start("attach", talk.pod, "-c", "hearing") as listener,
    ):
        heard = threading.Event()

        def speak() -> None:
            # The listener hears what is said from its joining on, which nothing announces.
            while not heard.wait(0.1):
                say(speaker, "together")

        speaking = threading.Thread(target=speak)
        speaking.start()
        try:
            until(listener, "heard together")
            until(speaker, "heard together")
        finally:
            heard.set()
            speaking.join()
            speaker.kill()
            listener.kill()


def test_input_that_is_taken_once_ends_with_its_first_client(talk: Talk) -> None:
    with talk.start("attach", "-i", talk.pod, "-c", "once") as client:
        say(client, "last words")
        assert client.stdin is not None
        client.stdin.close()
        until(client, "heard the end")
        client.kill()
    assert "heard last words" in talk.logs("once", until="heard the end")


def test_output_alone_can_be_watched(talk: Talk) -> None:
    words = ("print", "first", "sleep", "5", "print", "second")
    with talk.another_pod("talkative", *words) as pod, talk.start("attach", pod) as client:
        until(client, "second")
        assert client.wait(timeout=60) == 0


def test_a_terminal_is_joined(talk: Talk) -> None:
    with Terminal(talk.command("attach", "-it", talk.pod, "-c", "terminal"), talk.environment) as terminal:
        terminal.send("hello\r")
        terminal.expect("heard hello")
        terminal.resize(50, 120)
        terminal.send("again\r")
        terminal.expect("heard again")
        terminal.send("\x04")
        terminal.expect("heard the end")
        assert terminal.wait() == 0
    path = "{.status.containerStatuses[?(@.name=='terminal')].state.terminated.exitCode}"
    talk.kubectl("wait", f"pod/{talk.pod}", f"--for=jsonpath={path}=3", "--timeout=60s")


def test_run_with_a_terminal_of_ones_own(talk: Talk) -> None:
    overrides = {"spec": {"nodeName": talk.node, "tolerations": [{"operator": "Exists"}]}}
    options = [f"--image={talk.image}", "--restart=Never", f"--overrides={json.dumps(overrides)}"]
    name = f"runner-{talk.mode}"
    command = talk.command(
        "run", "-it", "--rm", name, *options, "--", "print", "listening", "hear", "exit", "0"
    )
    with Terminal(command, talk.environment) as terminal:
        terminal.send("hello\r")
        terminal.expect("heard hello")
        terminal.send("\x04")
        terminal.expect(f'pod "{name}" deleted')
        assert terminal.wait() == 0


@pytest.mark.parametrize("container", ["ended", "nobody"])
def test_there_must_be_something_to_attach_to(talk: Talk, container: str) -> None:
    done = talk.run("attach", talk.pod, "-c", container)
    assert done.returncode == 1
    assert b"container" in done.stderr
