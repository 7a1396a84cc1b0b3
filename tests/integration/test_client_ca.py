"""Whom a node of a cluster believes: a client CA of its own, exchanged while it serves."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from exchanging import by_renaming, by_swapping_the_link
from waiting import eventually

pytestmark = pytest.mark.integration


class Client:
    """Somebody with a certificate who keeps asking on one connection."""

    def __init__(self, port: int, authority: Authority) -> None:
        context = ssl._create_unverified_context()  # noqa: S323  the node's certificate is not the question
        context.load_cert_chain(*authority.issue("somebody"))
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)

    def answer(self) -> int | None:
        """None when the connection is ended or refused."""
        try:
            self._connection.request("GET", "/healthz")
            response = self._connection.getresponse()
            response.read()
        except OSError:
            self._connection.close()
            return None
        return response.status


@pytest.mark.parametrize("exchange", [by_renaming, by_swapping_the_link])
def test_another_client_ca_is_believed_without_a_restart(
    cluster: Any, start_node: Callable[..., Any], tmp_path: Path, exchange: Callable[[Path, str], None]
) -> None:
    former, later = (Authority(tmp_path, name) for name in ("former", "later"))
    (tmp_path / "ca").mkdir()
    file = tmp_path / "ca" / "ca.pem"
    exchange(file, former.pem)
    name = f"believer-{exchange.__name__.replace('_', '-')}"
    start_node(name, f"--client-ca-file={file}", "--authorization-mode=AlwaysAllow")
    shown = json.loads(cluster.kubectl("get", "node", name, "--output=json"))
    port = shown["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    old, new = Client(port, former), Client(port, later)
    assert (old.answer(), new.answer()) == (200, None)
    exchange(file, later.pem)
    eventually(lambda: new.answer() == 200, "the new CA's client let in")
    assert [old.answer(), old.answer()] == [None, None], "neither on its connection nor on another"
    by_renaming(file, "no certificate")

    def told() -> str:
        chosen = f"involvedObject.name={name},reason=InvalidClientCA"
        return str(cluster.kubectl("get", "events", "-A", f"--field-selector={chosen}", "--output=name"))

    eventually(told, "an event of the node")
    assert new.answer() == 200
