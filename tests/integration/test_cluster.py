"""The dev cluster itself: it is the real control plane, and it comes and goes without loss."""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import signal
import socket
import ssl
import stat
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from vkubelet.dev import process
from vkubelet.dev.layout import DevError


def test_all_parts_are_healthy(cluster, cluster_program):
    assert cluster.kubectl("get", "--raw=/readyz") == "ok"
    trusting = ssl.create_default_context(cafile=str(cluster.ready.ca))
    ports = json.loads((cluster.directory / "ports.json").read_text())
    for part, path in (("controllerManager", "healthz"), ("scheduler", "readyz")):
        with urllib.request.urlopen(
            f"https://127.0.0.1:{ports[part]}/{path}", context=trusting, timeout=10
        ) as answer:
            assert answer.read() == b"ok"
    with urllib.request.urlopen(f"http://{cluster.registry}/v2/", timeout=10) as answer:
        assert answer.status == 200


def test_it_is_the_version_that_go_mod_names(cluster):
    module = Path(__file__).parents[2] / "deploy" / "devcluster" / "go.mod"
    wanted = re.search(r"k8s\.io/kubernetes (v\S+)", module.read_text())
    assert wanted is not None
    answer = json.loads(cluster.kubectl("version", "--output=json"))
    assert answer["serverVersion"]["gitVersion"] == wanted[1]


def test_secrets_are_their_owners_only(cluster):
    secret = [*cluster.directory.glob("*.kubeconfig"), *(cluster.directory / "pki").iterdir()]
    assert len(secret) > 20
    open_to_others = [file for file in secret if stat.S_IMODE(file.stat().st_mode) & 0o077]
    assert open_to_others == []


def test_the_store_refuses_who_has_no_certificate_of_its_own(cluster):
    ports = json.loads((cluster.directory / "ports.json").read_text())
    trusting = ssl.create_default_context(cafile=str(cluster.directory / "pki" / "etcd-ca.crt"))
    with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(f"https://127.0.0.1:{ports['etcd']}/version", context=trusting, timeout=10)


MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def http(method: str, url: str, body: bytes | None = None, kind: str = "application/octet-stream") -> tuple:
    headers = {"Content-Type": kind, "Accept": f"{MANIFEST}, */*"}
    request = urllib.request.Request(url, data=body, method=method, headers=headers)  # noqa: S310  as below
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  the registry's URL
        return answer.headers, answer.read()


def push_artifact(registry: str, name: str, module: bytes) -> bytes:
    """Push a CNCF wasm artifact by the distribution protocol alone; returns its manifest."""

    def blob(content: bytes, media_type: str) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        headers, _ = http("POST", f"http://{registry}/v2/{name}/blobs/uploads/", b"")
        http("PUT", f"{headers['Location']}&digest={digest}", content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(b"{}", "application/vnd.wasm.config.v0+json"),
        "layers": [blob(module, "application/wasm")],
    }
    text = json.dumps(manifest).encode()
    http("PUT", f"http://{registry}/v2/{name}/manifests/v1", text, MANIFEST)
    return text


def test_the_registry_takes_and_gives_wasm_artifacts(cluster):
    module = b"\0asm\1\0\0\0" + uuid.uuid4().bytes
    manifest = push_artifact(cluster.registry, "team/app", module)
    headers, pulled = http("GET", f"http://{cluster.registry}/v2/team/app/manifests/v1")
    assert pulled == manifest
    assert headers["Docker-Content-Digest"] == f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    digest = json.loads(manifest)["layers"][0]["digest"]
    assert http("GET", f"http://{cluster.registry}/v2/team/app/blobs/{digest}")[1] == module
    with pytest.raises(urllib.error.HTTPError, match="404"):
        http("GET", f"http://{cluster.registry}/v2/team/app/manifests/v2")


@pytest.fixture(scope="module")
def spare_directory(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("spare")


@pytest.fixture
def spare(cluster, spare_directory) -> Iterator:
    """A running cluster of this module's own, to be ended and started; its data is kept between tests."""
    own = type(cluster)(cluster.binary, spare_directory)
    own.start()
    yield own
    own.stop()


def pidfds(pids: Sequence[int]) -> list[int]:
    return [os.pidfd_open(pid) for pid in pids]


def all_end(descriptors: list[int]) -> None:
    """Return once all processes have ended; fail after 30 seconds."""
    for descriptor in descriptors:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(30_000), "a process did not end"
        os.close(descriptor)


def components(supervisor: int) -> dict[str, int]:
    """The component processes by name."""
    children = Path(f"/proc/{supervisor}/task").glob("*/children")
    pids = [int(pid) for text in children for pid in text.read_text().split()]
    named = {Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1].decode(): pid for pid in pids}
    assert set(named) == {"kube-apiserver", "kube-controller-manager", "kube-scheduler"}
    return named


def test_a_restart_keeps_data_keys_and_ports(spare):
    spare.kubectl("create", "configmap", "kept", "--from-literal=key=value")
    manifest = push_artifact(spare.registry, "kept", b"\0asm\1\0\0\0")
    kept = [spare.kubeconfig.read_bytes(), spare.bootstrap_kubeconfig.read_bytes(), spare.registry]
    everything = pidfds([spare.ready.pid, *components(spare.ready.pid).values()])
    spare.stop()
    all_end(everything)
    assert process.lock_holder(spare.directory / "lock") is None
    assert not (spare.directory / "ready").exists()
    spare.start()
    assert [spare.kubeconfig.read_bytes(), spare.bootstrap_kubeconfig.read_bytes(), spare.registry] == kept
    assert spare.kubectl("get", "configmap", "kept", "--output=jsonpath={.data.key}") == "value"
    assert http("GET", f"http://{spare.registry}/v2/kept/manifests/v1")[1] == manifest
    spare.kubectl("delete", "configmap", "kept")


def test_ports_that_were_taken_meanwhile_are_replaced(spare):
    ports = json.loads((spare.directory / "ports.json").read_text())
    spare.stop()
    with socket.socket() as squatter, socket.socket() as other:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", ports["apiserver"]))
        squatter.listen()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", ports["registry"]))
        other.listen()
        spare.start()
        moved = json.loads((spare.directory / "ports.json").read_text())
        assert moved["apiserver"] != ports["apiserver"]
        assert moved["registry"] != ports["registry"]
        assert spare.kubectl("get", "--raw=/readyz") == "ok"
        assert http("GET", f"http://{spare.registry}/v2/")[1]


def test_a_second_cluster_on_the_same_data_refuses_and_names_the_first(spare):
    second = type(spare)(spare.binary, spare.directory)
    with pytest.raises(DevError, match=f"in use by process {spare.ready.pid}"):
        second.start()
    assert spare.kubectl("get", "--raw=/readyz") == "ok"


def test_a_killed_cluster_leaves_no_process_and_starts_again(spare):
    spare.kubectl("create", "configmap", "survivor")
    everything = pidfds([spare.ready.pid, *components(spare.ready.pid).values()])
    os.kill(spare.ready.pid, signal.SIGKILL)
    all_end(everything)
    spare.start()
    assert "survivor" in spare.kubectl("get", "configmap", "survivor")
    spare.kubectl("delete", "configmap", "survivor")


@pytest.mark.parametrize("component", ["kube-apiserver", "kube-controller-manager", "kube-scheduler"])
def test_a_component_that_ends_takes_the_cluster_with_it_and_is_named(spare, component):
    family = components(spare.ready.pid)
    everything = pidfds([spare.ready.pid, *family.values()])
    os.kill(family[component], signal.SIGKILL)
    all_end(everything)
    assert f"{component} ended" in process.tail(spare.directory / "devcluster.log", 1)


@pytest.mark.parametrize("damage", [b"", b"not a certificate"])
def test_a_damaged_certificate_is_made_anew(spare, damage):
    spare.stop()
    for name in ("apiserver.crt", "scheduler-client.key", "service-account.pub", "etcd-server.crt"):
        (spare.directory / "pki" / name).write_bytes(damage)
    (spare.directory / "ports.json").write_bytes(damage)
    spare.start()
    assert spare.kubectl("get", "--raw=/readyz") == "ok"
