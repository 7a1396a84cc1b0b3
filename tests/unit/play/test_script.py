"""What a file written for a cluster means to `vkubelet play`."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.play.script import Script, image_name, script
from vkubelet.pods.manifests.errors import ManifestError
from vkubelet.pods.manifests.text import documents

HERE = Path("/here")
SPEC = "spec: {containers: [{name: main, image: 'a/b:v1'}]}"
POD = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: one}}\n{SPEC}\n"


def read(text: str) -> Script:
    numbers = itertools.count()
    return script(documents(text.encode(), "f.yaml"), "f.yaml", HERE, "play", lambda: f"u{next(numbers)}")


def test_a_pod_is_placed_on_this_node():
    (made,) = read(POD).pods
    pod = made.pod
    assert (pod.key, pod.metadata.uid, pod.spec.node_name) == ("default/one", "u0", "play")
    assert pod.spec.dns_policy == "Default"
    assert pod.spec.restart_policy == "Always"


@pytest.mark.parametrize("kind", ["Deployment", "Job", "StatefulSet", "DaemonSet", "ReplicaSet"])
def test_a_workload_is_one_pod_of_its_template(kind):
    policy = "OnFailure" if kind == "Job" else "Always"
    text = f"""
apiVersion: apps/v1
kind: {kind}
metadata: {{name: web, namespace: shop}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{restartPolicy: {policy}, containers: [{{name: main, image: 'a/b:v1'}}]}}
"""
    found = read(text)
    (made,) = found.pods
    assert made.pod.key == "shop/web-pod"
    assert made.pod.metadata.labels == {"app": "web"}
    assert made.pod.spec.restart_policy == policy
    assert found.notes == (f"{kind} shop/web: one pod is run, whatever spec.replicas says",)


def test_objects_of_the_file_are_there_for_its_pods():
    text = f"""{POD}---
apiVersion: v1
kind: ConfigMap
metadata: {{name: c, namespace: shop}}
data: {{a: b}}
binaryData: {{c: AAE=}}
---
apiVersion: v1
kind: Secret
metadata: {{name: s}}
data: {{a: b3RoZXI=, b: b2xk}}
stringData: {{b: new}}
"""
    objects = read(text).objects
    config_map, secret = objects["configmaps", "shop", "c"], objects["secrets", "default", "s"]
    assert (config_map.data, config_map.binary_data) == ({"a": "b"}, {"c": b"\0\1"})
    assert secret.data == {"a": b"other", "b": b"new"}


def test_what_only_a_cluster_has_is_left_out_and_named():
    text = f"{POD}---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n---\na: 1\n"
    assert read(text).notes == (
        "Service web is left out: there is no cluster",
        "a document without a kind is left out: there is no cluster",
    )


def test_a_list_is_what_is_in_it():
    item = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": {"containers": []}}
    item["spec"]["containers"] = [{"name": "main", "image": "a"}]
    text = msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": [item]}).decode()
    assert [made.pod.key for made in read(text).pods] == ["default/one"]


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("./hello.wasm", "/here/hello.wasm"),
        ("../x/Hello_World.wasm", "/here/../x/Hello_World.wasm"),
        ("/srv/hello.wasm", "/srv/hello.wasm"),
        ("file:hello.wasm", "/here/hello.wasm"),
        ("file:///srv/hello.wasm", "/srv/hello.wasm"),
    ],
)
def test_an_image_may_be_a_file(image, file):
    found = read(POD.replace("a/b:v1", image))
    container = found.pods[0].pod.spec.containers[0]
    assert found.files == {container.image: Path(file)}
    assert container.image == image_name(Path(file))
    assert container.image.startswith("file.vkubelet.local/hello")
    assert container.image_pull_policy == "IfNotPresent"


def test_files_of_one_name_are_told_apart():
    assert image_name(Path("/a/x.wasm")) != image_name(Path("/b/x.wasm"))
    assert image_name(Path("/a/---.wasm")).startswith("file.vkubelet.local/module:")


def test_input_ends_with_ours():
    container = read(POD.replace("name: main", "name: main, stdin: true")).pods[0].pod.spec.containers[0]
    assert (container.stdin, container.stdin_once) == (True, True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "names no pod to run"),
        ("kind: Service\n", "names no pod to run"),
        (POD + "---\n" + POD, "Pod default/one: the file names default/one twice"),
        (POD.replace("image:", "imagee: 1, image:"), 'Pod one: unknown field "spec.containers[0].imagee"'),
        (POD.replace("name: one", "labels: {}"), "Pod: metadata.name: Required value"),
        (POD.replace(SPEC, "spec: 3"), "Pod default/one: spec: expected object, got integer"),
        (f"{POD}---\nkind: ConfigMap\ndata: {{}}\n", "ConfigMap: object missing required field metadata"),
        (f"{POD}---\nkind: ConfigMap\nmetadata: {{}}\n", "ConfigMap: metadata.name: Required value"),
        (
            f"{POD}---\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{a: 1}}\n",
            "ConfigMap c: data[...]: expected string, got integer",
        ),
        (
            f"{POD}---\nkind: ConfigMap\nmetadata: {{name: c}}\ndat: {{}}\n",
            'ConfigMap c: unknown field "dat"',
        ),
        (
            f"{POD}---\nkind: Secret\nmetadata: {{name: s}}\ndata: {{a: '?'}}\n",
            "Secret s: data[...]: invalid base64",
        ),
        (
            f"{POD}---\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{'a b': x}}\n",
            'Secret s: data[a b]: Invalid value: "a b"',
        ),
        (
            f"{POD}---\nkind: Secret\nmetadata: {{name: s}}\nstringData: [a]\n",
            "Secret s: stringData: expected strings",
        ),
        (
            f"{POD}---\nkind: Secret\nmetadata: {{name: s}}\n---\nkind: Secret\nmetadata: {{name: s}}\n",
            "Secret s: the file names it twice",
        ),
        ("kind: Deployment\nmetadata: {name: web}\nspec: {}\n", "web: spec.template: Required value"),
        ("kind: Deployment\nspec: {template: {}}\n", "Deployment: metadata.name: Required value"),
        ("kind: List\nitems: {a: b}\n", "List: items: expected objects"),
    ],
)
def test_what_is_wrong_names_file_object_and_field(text, problem):
    with pytest.raises(ManifestError) as error:
        read(text)
    assert str(error.value).startswith("f.yaml: ")
    assert problem in str(error.value)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.sampled_from(["a", "./x.wasm", "Pod", "Secret", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "metadata", "name", "spec", "template", "items", "data", "stringData"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)
KINDS = st.sampled_from(["Pod", "Deployment", "ConfigMap", "Secret", "List", "Service", None, 3])


@given(st.lists(st.tuples(KINDS, ANY, ANY, ANY), max_size=4))
def test_any_documents_give_a_script_or_an_error_that_names_the_file(parts):
    text = b"\n---\n".join(
        msgspec.json.encode({"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": spec, "data": data})
        for kind, meta, spec, data in parts
    )
    try:
        read(text.decode())
    except ManifestError as error:
        named = str(error)
    else:
        return
    assert named.startswith("f.yaml: ")
