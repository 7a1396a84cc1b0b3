"""A pod from its manifest: types, defaults, rules, and what no pod has."""

from __future__ import annotations

import copy

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vkubelet.pods.manifests.defaults import pull_policy
from vkubelet.pods.manifests.errors import ManifestError
from vkubelet.pods.manifests.reading import Manifest, read_pod
from vkubelet.pods.manifests.text import documents

POD = """
apiVersion: v1
kind: Pod
metadata: {name: hello, namespace: default}
spec:
  containers:
    - name: main
      image: registry.example/hello:v1
"""


def document(changes: str = "{}") -> dict:
    """The pod above with `changes`, YAML, merged over it; a list takes the place of one."""

    def merged(base, over):
        if isinstance(base, dict) and isinstance(over, dict):
            return base | {key: merged(base.get(key), value) for key, value in over.items()}
        return over

    return merged(documents(POD.encode(), "")[0], documents(changes.encode(), "")[0])


def spec(changes: str) -> dict:
    return document(f"spec: {{{changes}}}")


def container(changes: str) -> dict:
    return spec(f"containers: [{{name: main, image: 'a/b:v1', {changes}}}]")


def complaints(manifest: dict) -> list[str]:
    with pytest.raises(ManifestError) as error:
        read_pod(manifest, "hello.yaml")
    assert str(error.value).startswith("hello.yaml: ")
    return list(error.value.problems)


def test_what_a_manifest_leaves_open_is_filled_in():
    made = read_pod(
        document(
            """
            spec:
              serviceAccount: robot
              hostNetwork: true
              initContainers:
                - {name: first, image: a/b}
              containers:
                - name: main
                  image: a/b:v1
                  ports: [{containerPort: 80}]
                  resources: {limits: {cpu: 0.5, memory: 1Gi}, requests: {cpu: 1m}}
                  livenessProbe: {httpGet: {port: 80}, timeoutSeconds: 0}
                  lifecycle: {preStop: {httpGet: {port: web, path: /bye}}}
                  env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: X}]
              volumes:
                - name: nothing
                - {name: secret, secret: {secretName: s}}
                - {name: image, image: {reference: a/b}}
                - {name: here, hostPath: {path: /srv}}
                - name: all
                  projected:
                    sources:
                      - serviceAccountToken: {path: token}
                      - downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}
            """
        ),
        "hello.yaml",
    )
    found = made.document["spec"]
    assert found["restartPolicy"] == "Always"
    assert found["dnsPolicy"] == "ClusterFirst"
    assert found["schedulerName"] == "default-scheduler"
    assert found["terminationGracePeriodSeconds"] == 30
    assert found["enableServiceLinks"] is True
    assert found["securityContext"] == {}
    assert found["serviceAccountName"] == "robot"
    assert found["initContainers"][0]["imagePullPolicy"] == "Always"
    main = found["containers"][0]
    assert main["imagePullPolicy"] == "IfNotPresent"
    assert main["terminationMessagePath"] == "/dev/termination-log"
    assert main["terminationMessagePolicy"] == "File"
    assert main["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]
    assert main["resources"] == {
        "limits": {"cpu": "0.5", "memory": "1Gi"},
        "requests": {"cpu": "1m", "memory": "1Gi"},
    }
    assert main["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert main["lifecycle"] == {"preStop": {"httpGet": {"port": "web", "path": "/bye", "scheme": "HTTP"}}}
    assert main["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    nothing, secret, image, here, everything = found["volumes"]
    assert nothing["emptyDir"] == {}
    assert secret["secret"]["defaultMode"] == 0o644
    assert image["image"]["pullPolicy"] == "Always"
    assert here["hostPath"]["type"] == ""
    token, downward = everything["projected"]["sources"]
    assert token["serviceAccountToken"]["expirationSeconds"] == 3600
    assert downward["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] == "v1"
    assert made.pod.spec.termination_grace_period_seconds == 30
    assert made.unknown == ()


def test_a_manifest_is_not_changed_by_being_read():
    given_ = container("resources: {limits: {cpu: 0.5}}")
    before = copy.deepcopy(given_)
    read_pod(given_, "hello.yaml")
    assert given_ == before


def test_what_a_manifest_says_of_its_status_is_not_believed():
    made = read_pod(document("status: {phase: Succeeded}"), "hello.yaml")
    assert "status" not in made.document
    assert made.pod.status.phase == ""


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:v1", "IfNotPresent"),
        (f"a@sha256:{'0' * 64}", "IfNotPresent"),
        (f"a:latest@sha256:{'0' * 64}", "Always"),
        ("NO!", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(image, policy):
    assert pull_policy(image) == policy


PORT = "must be between 1 and 65535, inclusive"
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character"
)


@pytest.mark.parametrize(
    ("manifest", "field", "problem"),
    [
        (spec("containers: []"), "spec.containers", "Required value"),
        (spec("containers: [{name: main}]"), "spec.containers[0].image", "Required value"),
        (spec("containers: [{image: a}]"), "spec.containers[0]", "object missing required field name"),
        (spec("containers: [null]"), "spec.containers[0]", "expected object, got null"),
        (spec("containers: {}"), "spec.containers", "expected list, got object"),
        (container("command: ls"), "spec.containers[0].command", "expected list, got string"),
        (
            container("env: [{name: A, value: 1}]"),
            "spec.containers[0].env[0].value",
            "expected string, got integer",
        ),
        (container("tty: 'yes'"), "spec.containers[0].tty", "expected true or false, got string"),
        (document("metadata: {labels: {a: 1}}"), "metadata.labels[...]", "expected string, got integer"),
        (
            spec("restartPolicy: Sometimes"),
            "spec.restartPolicy",
            'Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"',
        ),
        (
            container("volumeMounts: [{name: data, mountPath: /data}]"),
            "spec.containers[0].volumeMounts[0].name",
            'Not found: "data"',
        ),
        (
            container("livenessProbe: {initialDelaySeconds: 1}"),
            "spec.containers[0].livenessProbe",
            "Required value: must specify a handler type",
        ),
        (
            container("resources: {limits: {cpu: 1}, requests: {cpu: 2}}"),
            "spec.containers[0].resources.requests",
            'Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (
            container("resources: {limits: {cpu: lots}}"),
            "spec.containers[0].resources.limits[cpu]",
            "Invalid value: \"lots\": 'lots' is no resource quantity",
        ),
        (
            container("ports: [{containerPort: 70000}]"),
            "spec.containers[0].ports[0].containerPort",
            f"Invalid value: 70000: {PORT}",
        ),
        (
            spec("volumes: [{name: a, emptyDir: {}, hostPath: {path: /}}]"),
            "spec.volumes[0].hostPath",
            "Forbidden: may not specify more than 1 volume type",
        ),
        (
            spec("initContainers: [{name: main, image: a}]"),
            "spec.initContainers[0].name",
            'Duplicate value: "main"',
        ),
        (document("metadata: {name: Hello}"), "metadata.name", f'Invalid value: "Hello": {SUBDOMAIN}'),
    ],
)
def test_each_problem_names_its_field(manifest, field, problem):
    assert complaints(manifest)[0].removeprefix("invalid pod: ") == f"{field}: {problem}"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"kind": "Service"}, "expected a Pod of apiVersion v1, found apiVersion 'v1', kind 'Service'"),
        ({"apiVersion": None}, "expected a Pod of apiVersion v1, found apiVersion None, kind 'Pod'"),
        ({"spec": None}, "spec: expected object, got null"),
        ({"metadata": 3}, "metadata: expected object, got integer"),
    ],
)
def test_what_is_no_pod_is_told_apart(change, problem):
    assert complaints(document() | change) == [problem]


def test_all_problems_are_told_at_once():
    found = complaints(spec("restartPolicy: x, dnsPolicy: z, containers: [{name: A, image: ''}]"))
    assert [text.removeprefix("invalid pod: ").partition(":")[0] for text in found] == [
        "spec.containers[0].name",
        "spec.containers[0].image",
        "spec.restartPolicy",
        "spec.dnsPolicy",
    ]


@pytest.mark.parametrize(
    ("manifest", "unknown"),
    [
        (container("comand: [a]"), ["spec.containers[0].comand"]),
        (spec("volumes: [{name: a, emptyDir: {sizelimit: 1}}]"), ["spec.volumes[0].emptyDir.sizelimit"]),
        (spec("affinity: {anything: {goes: 1}}, nodeSelector: {a: b}"), []),
        (spec("topologySpreadConstraints: [{maxSkew: 1}], schedulerName: mine"), []),
        (document("metadata: {generateName: x}\nspek: 1"), ["spek"]),
        (
            container("livenessProbe: {exec: {command: [a]}, periodSecond: 1}"),
            ["spec.containers[0].livenessProbe.periodSecond"],
        ),
    ],
)
def test_fields_that_no_pod_has_are_named(manifest, unknown):
    assert list(read_pod(manifest, "hello.yaml").unknown) == unknown


FIELDS = """
name image command env value valueFrom fieldRef volumes emptyDir projected sources resources limits cpu ports
containerPort livenessProbe httpGet port containers initContainers volumeMounts mountPath lifecycle preStop
items secret downwardAPI hostPath path tolerations securityContext hostNetwork restartPolicy labels envFrom
terminationGracePeriodSeconds annotations hostAliases dnsConfig
""".split()  # noqa: SIM905  a list this long reads better so
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70000)
    | st.text(max_size=8)
    | st.sampled_from([0.5, "1Gi", "a/b:v1", "data"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=25,
)


def names_the_file(manifest: dict) -> Manifest | None:
    """The pod; None when it cannot be one and the error says in which file."""
    try:
        return read_pod(documents(msgspec.json.encode(manifest), "x")[0], "hello.yaml")
    except ManifestError as error:
        named = str(error)
    assert named.startswith("hello.yaml: ")
    return None


@settings(max_examples=400)
@given(JSON, JSON, JSON, st.sampled_from(["v1", "apps/v1", None]), st.sampled_from(["Pod", "Job", 3]))
def test_any_document_gives_a_pod_or_an_error_that_names_the_file(metadata, pod_spec, one, version, kind):
    manifest = {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": pod_spec}
    if isinstance(pod_spec, dict) and isinstance(one, dict):
        manifest["spec"] = pod_spec | {"containers": [{"name": "main", "image": "a"} | one]}
    made = names_the_file(manifest)
    if made is not None:
        assert made.pod.spec.containers
        assert msgspec.convert(yaml.safe_load(msgspec.json.encode(made.document)), type(made.pod)) == made.pod


@settings(max_examples=200)
@given(st.data())
def test_any_change_of_one_field_gives_a_pod_or_an_error_that_names_the_file(data):
    manifest = read_pod(
        container(
            "ports: [{containerPort: 1}], env: [{name: A, value: b}], livenessProbe: {tcpSocket: {port: 1}}"
        ),
        "x",
    ).document
    place = manifest
    path = []
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        path.append((place, data.draw(st.sampled_from(list(keys)))))
        place = path[-1][0][path[-1][1]]
        if data.draw(st.booleans()):
            break
    parent, key = path[-1]
    parent[key] = data.draw(JSON)
    names_the_file(manifest)
