"""A directory of manifests, some of which are broken."""

from __future__ import annotations

import os
import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from vkubelet.pods.static.files import read_all

POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}{more}}}\n"
    "spec: {{containers: [{{name: main, image: a/b}}]}}\n"
)


def pod(name: str, more: str = "") -> str:
    return POD.format(name=name, more=more)


def test_each_file_counts_for_itself(tmp_path):
    (tmp_path / "good.yaml").write_text(pod("good"))
    (tmp_path / "any-name").write_text(
        '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "json"},\n'
        '\t"spec": {"containers": [{"name": "main", "image": "a/b"}]}}'
    )
    (tmp_path / "link.yaml").symlink_to("good2")
    (tmp_path / "good2").write_text(pod("other"))
    (tmp_path / "good2").rename(tmp_path / ".hidden")
    (tmp_path / "link.yaml").unlink()
    (tmp_path / "link.yaml").symlink_to(".hidden")
    (tmp_path / "directory").mkdir()
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "two.yaml").write_text(pod("one") + "---\n" + pod("two"))
    (tmp_path / "no-pod.yaml").write_text(pod("x").replace("image: a/b", "image: ''"))
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        found = read_all(tmp_path, "node-1", 0.0)
    names = {file.removeprefix(f"{tmp_path}/"): made.pod.key for file, made in found.pods.items()}
    assert names == {
        "good.yaml": "default/good-node-1",
        "any-name": "default/json-node-1",
        "link.yaml": "default/other-node-1",
    }
    assert found.exists
    told = {file.removeprefix(f"{tmp_path}/"): text for file, text in found.faults.items()}
    assert all(text.startswith(f"{tmp_path}/{name}") for name, text in told.items())
    assert {name: text.removeprefix(f"{tmp_path}/{name}: ") for name, text in told.items()} == {
        "broken.yaml": "line 2: while parsing a flow node, did not find expected node content",
        "empty.yaml": "expected one Pod, found 0 documents",
        "two.yaml": "expected one Pod, found 2 documents",
        "no-pod.yaml": "Pod default/x-node-1: invalid pod: spec.containers[0].image: Required value",
        "pipe": "is no file",
        "directory": "is a directory, and not looked into",
        "socket": "No such device or address",
    }


def test_of_two_files_that_name_one_pod_the_first_counts(tmp_path):
    (tmp_path / "b.yaml").write_text(pod("same"))
    (tmp_path / "a.yaml").write_text(pod("same"))
    (tmp_path / "c.yaml").write_text(pod("c", ", uid: fixed"))
    (tmp_path / "d.yaml").write_text(pod("d", ", uid: fixed"))
    found = read_all(tmp_path, "n", 0.0)
    assert [file[-6:] for file in found.pods] == ["a.yaml", "c.yaml"]
    assert found.faults == {
        f"{tmp_path}/b.yaml": f"{tmp_path}/b.yaml: pod default/same-n: {tmp_path}/a.yaml names it already",
        f"{tmp_path}/d.yaml": f"{tmp_path}/d.yaml: pod default/d-n: {tmp_path}/c.yaml names it already",
    }


def test_a_single_file_will_do_and_none_is_none(tmp_path):
    assert not read_all(tmp_path / "nothing", "n", 0.0).exists
    (tmp_path / "one.yaml").write_text(pod("one"))
    assert [made.pod.key for made in read_all(tmp_path / "one.yaml", "n", 0.0).pods.values()] == [
        "default/one-n"
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=300)
    | st.text(max_size=300).map(lambda text: text.encode())
    | st.sampled_from([pod("x").encode()[:length] for length in range(0, 90, 3)])
)
def test_no_content_of_a_file_hurts_another_pod(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("manifests")
    (directory / "good.yaml").write_text(pod("good"))
    (directory / "any.yaml").write_bytes(data)
    found = read_all(directory, "n", 0.0)
    assert f"{directory}/good.yaml" in found.pods
    assert f"{directory}/any.yaml" in found.pods | found.faults
    assert all(text.startswith(file) for file, text in found.faults.items())
