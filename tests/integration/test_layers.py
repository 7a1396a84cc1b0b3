"""Images with files on the real cluster: what runs, what it sees, and what is not shared."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from guests import build_guest, push_layers, put_blob, put_manifest
from namespaces import Namespace
from tars import PACKERS, TAR, archive, directory, hard, member, symbolic

from oci.layers.compression import Compression
from oci.manifest import MANIFEST

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def image(cluster: Any) -> str:
    """Three layers, of each compression: modules, data, a file that the second takes away again."""
    actor, files = build_guest("actor").read_bytes(), build_guest("files").read_bytes()
    return push_layers(
        cluster.registry,
        "layers/app",
        (
            f"{TAR}+gzip",
            [
                directory("etc/"),
                member("app.wasm", actor, mode=0o755),
                member("usr/bin/files", files, mode=0o755),
                member("etc/app.conf", b"configured"),
                member("data/gone", b"gone"),
                member("data/kept", b"kept"),
            ],
        ),
        (
            f"{TAR}+zstd",
            [member("data/.wh.gone"), member("data/added", b"added"), hard("data/same", "data/kept")],
        ),
        (TAR, [symbolic("link", "data/kept"), member("script", b"#!/bin/sh\n")]),
        Entrypoint=["/app.wasm"],
        Cmd=["print", "by default", "read", "/etc/app.conf"],
        Env=["PATH=/usr/bin", "FROM_IMAGE=yes"],
        WorkingDir="/data",
    )


def ran(space: Namespace, name: str, image: str, *args: str, **more: Any) -> str:
    """What a pod prints that runs to its end."""
    space.pod(name, image, *args, restartPolicy="Never", **more)
    space.wait(f"pod/{name}", "jsonpath={.status.phase}=Succeeded")
    return space.kubectl("logs", name)


def test_what_an_image_says_is_run(space: Namespace, image: str) -> None:
    shown = ran(space, "default", image)
    assert shown.splitlines() == ["by default", "/etc/app.conf: configured"]
    shown = ran(
        space, "args", image, "env", "FROM_IMAGE", "env", "PWD", "read", "/data/added", "read", "/data/gone"
    )
    assert shown.splitlines()[:2] == ["FROM_IMAGE=yes", "PWD=/data"]
    assert "/data/added: added" in shown
    assert "cannot read /data/gone: No such file or directory" in shown
    shown = ran(space, "link", image, "read", "/link", "read", "/data/same", "read", "/etc/hosts")
    assert shown.startswith("/link: kept\n/data/same: kept\n/etc/hosts: # Kubernetes-managed hosts file")


def test_a_command_names_another_module_of_the_image(space: Namespace, image: str) -> None:
    shown = ran(space, "other", image, container={"command": ["files", "list", "/data", "read", "/link"]})
    assert {"/data has added", "/data has kept", "/data has same", "/link: kept"} <= set(shown.splitlines())
    assert "/data has gone" not in shown
    for name, command, words in (
        ("script", "/script", "/script is a script for /bin/sh, no WebAssembly"),
        (
            "nothing",
            "nothing",
            "exec: 'nothing': no such file in the image's $PATH; its modules are /app.wasm",
        ),
    ):
        space.pod(name, image, container={"command": [command]})
        assert words in space.wait_reason(name, "RunContainerError")["message"]


def roots(node: Any) -> set[Path]:
    """Those of all containers that have one: other tests' pods may be about to go."""
    return set((node.directory / "root/rootfs").glob("*/*"))


def test_each_container_writes_for_itself(space: Namespace, image: str, node: Any) -> None:
    words = [
        "write",
        "/data/kept={}",
        "write",
        "/new={}",
        "read",
        "/data/kept",
        "print",
        "done",
        "sleep",
        "600",
    ]
    others = roots(node)
    for name in ("one", "two"):
        space.pod(name, image, *[word.format(name) for word in words])
    for name in ("one", "two"):
        space.wait(f"pod/{name}", "condition=Ready")
    for name in ("one", "two"):
        shown = space.kubectl("exec", name, "--", "cat", "/data/kept", "/new", "/data/same", "/data/added")
        assert shown == f"{name}{name}{name}added"
        shown = space.kubectl("exec", name, "--", "files", "read", "/data/added")
        assert shown.strip() == "/data/added: added"
    # What the image store has is as it was, and what containers had goes with them.
    assert "/data/kept: kept" in ran(space, "three", image, "read", "/data/kept")
    assert len(roots(node) - others) >= 2
    space.kubectl("delete", "pod", "one", "two", "three", "--now")
    space.kubectl("wait", "--for=delete", "pod/one", "pod/two", "pod/three", "--timeout=60s")
    assert roots(node) <= others


def test_a_read_only_root_is_shared(space: Namespace, image: str, node: Any) -> None:
    own = {"securityContext": {"readOnlyRootFilesystem": True}}
    words = [
        "write",
        "/data/kept=x",
        "write",
        "/new=x",
        "read",
        "/data/kept",
        "print",
        "done",
        "sleep",
        "600",
    ]
    others = roots(node)
    space.pod("fixed", image, *words, container=own)
    space.wait("pod/fixed", "condition=Ready")
    shown = space.kubectl("logs", "fixed")
    assert shown.count("cannot write") == 2
    assert "/data/kept: kept" in shown
    (root,) = roots(node) - others
    (kept,) = (node.directory / "root/images/unpacked").glob("*/rootfs/data/added")
    assert (root / "data/added").stat().st_ino == kept.stat().st_ino
    space.kubectl("delete", "pod", "fixed", "--now")
    assert kept.read_text() == "added"


def test_an_image_volume_shows_the_files(space: Namespace, image: str, actor: str) -> None:
    space.pod(
        "volume",
        actor,
        *("read", "/image/data/kept", "read", "/image/link", "read", "/sub/added", "write", "/image/x=y"),
        container={
            "volumeMounts": [
                {"name": "v", "mountPath": "/image"},
                {"name": "v", "mountPath": "/sub", "subPath": "data"},
            ]
        },
        volumes=[{"name": "v", "image": {"reference": image}}],
        restartPolicy="Never",
    )
    space.wait("pod/volume", "jsonpath={.status.phase}=Succeeded")
    shown = space.kubectl("logs", "volume")
    assert "/image/data/kept: kept\n/image/link: kept\n/sub/added: added\ncannot write /image/x" in shown


def test_an_image_volume_of_files_alone(space: Namespace, cluster: Any, actor: str) -> None:
    made = push_layers(
        cluster.registry, "layers/data", (TAR, [member("model", b"weights")]), platform="linux/amd64"
    )
    shown = ran(
        space,
        "data",
        actor,
        *("read", "/v/model"),
        container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        volumes=[{"name": "v", "image": {"reference": made}}],
    )
    assert shown == "/v/model: weights\n"
    space.pod("run", made)
    message = space.wait_reason("run", "RunContainerError")["message"]
    assert "no command specified: the image names nothing to run, nor does the pod" in message


def test_users_of_the_image_own_files(space: Namespace, cluster: Any) -> None:
    if os.geteuid() != 0:
        pytest.skip("only a node that is root gives files away")
    made = push_layers(
        cluster.registry,
        "layers/owned",
        (
            TAR,
            [
                member("app.wasm", build_guest("actor").read_bytes()),
                member("mine", b"mine", uid=1000, mode=0o600),
                member("roots", b"root's", mode=0o600),
                member("groups", b"the group's", gid=50, mode=0o640),
                member("etc/passwd", b"app:x:1000:1000::/:/bin/sh\n"),
                member("etc/group", b"staff:x:50:app\n"),
            ],
        ),
        Entrypoint=["/app.wasm"],
        User="app",
    )
    shown = ran(
        space,
        "owner",
        made,
        "read",
        "/mine",
        "write",
        "/mine=written",
        "read",
        "/mine",
        "read",
        "/roots",
        "read",
        "/groups",
    )
    assert shown.splitlines()[:2] == ["/mine: mine", "/mine: written"]
    assert "cannot read /roots: Permission denied" in shown
    assert "/groups: the group's" in shown


def test_it_is_played_without_a_cluster(cluster: Any, image: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    container = {"name": "main", "image": image, "args": ["write", "/data/kept=x", "read", "/data/same"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    pod["spec"] = {"restartPolicy": "Never", "containers": [container]}
    flags = [f"--insecure-registries={cluster.registry}", f"--root-dir={kept}"]
    for _ in range(2):  # the second time there is nothing to pull or to unpack
        done = subprocess.run(
            [sys.executable, "-m", "vkubelet.cli", "play", *flags, "-"],
            input=json.dumps(pod),
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        assert "/data/same: x" in done.stdout
    (shown,) = (kept / "images/unpacked").glob("*/rootfs/data/kept")
    assert shown.read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_inspect_tells_of_files(cluster: Any, image: str, tmp_path: Path) -> None:
    def inspect(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "vkubelet.cli", "inspect", "--insecure", *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            env={**os.environ, "HOME": str(tmp_path)},
        ).stdout

    found = json.loads(inspect("--json", image))
    assert found["format"] == "image with files"
    assert found["module"]["path"] == "/app.wasm"
    digest = hashlib.sha256(build_guest("actor").read_bytes()).hexdigest()
    assert found["module"]["digest"] == f"sha256:{digest}"
    assert found["runnable"] is True
    assert "  module      /app.wasm, WASI preview 1 command, " in inspect(image)
    application = {
        "spin_lock_version": 1,
        "metadata": {"name": "hello", "version": "1.2"},
        "triggers": [
            {"id": "t", "trigger_type": "http", "trigger_config": {"component": "web", "route": "/..."}}
        ],
        "components": [{"id": "web"}],
    }
    spin = "application/vnd.fermyon.spin.application.v1+config"
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put_blob(
            cluster.registry, "layers/spin", b"{}", "application/vnd.oci.image.config.v1+json"
        ),
        "layers": [
            put_blob(
                cluster.registry,
                "layers/spin",
                build_guest("actor").read_bytes(),
                "application/vnd.wasm.content.layer.v1+wasm",
            ),
            put_blob(cluster.registry, "layers/spin", json.dumps(application).encode(), spin),
            put_blob(
                cluster.registry,
                "layers/spin",
                PACKERS[Compression.GZIP](archive([member("static/a"), member("static/b")])),
                "application/vnd.wasm.content.bundle.v1.tar+gzip",
            ),
        ],
    }
    put_manifest(cluster.registry, "layers/spin", manifest, "v1")
    shown = inspect(f"{cluster.registry}/layers/spin:v1")
    assert "format      Spin application\n" in shown
    assert (
        "  spin        hello 1.2\n              http /... web\n              2 files in archives\n" in shown
    )
    assert "runs here   no: the image is a Spin application, whose triggers are not run yet" in shown


def test_a_spin_application_is_refused(space: Namespace, cluster: Any) -> None:
    kind = "application/vnd.fermyon.spin.application.v1+config"
    wasm = "application/vnd.wasm.content.layer.v1+wasm"
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put_blob(cluster.registry, "layers/spin1", b"{}", kind),
        "layers": [put_blob(cluster.registry, "layers/spin1", build_guest("actor").read_bytes(), wasm)],
    }
    put_manifest(cluster.registry, "layers/spin1", manifest, "v1")
    space.pod("spin", f"{cluster.registry}/layers/spin1:v1")
    message = space.wait_reason("spin", "ErrImagePull")["message"]
    assert "the image is a Spin application, whose triggers are not run yet" in message
