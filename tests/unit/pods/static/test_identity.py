"""What makes a manifest a static pod of this node, and what it may not ask for."""

from __future__ import annotations

import pytest

from vkubelet.pods.fit import MIRROR_ANNOTATION, SOURCE_ANNOTATION, is_mirror, is_static
from vkubelet.pods.manifests.errors import ManifestError
from vkubelet.pods.manifests.text import documents
from vkubelet.pods.static.identity import HASH, SEEN, content, static_pod, warnings


def manifest(metadata: str = "name: web", spec: str = "", container: str = "") -> dict:
    text = f"""
apiVersion: v1
kind: Pod
metadata: {{{metadata}}}
spec:
  containers: [{{name: main, image: 'a/b:v1', {container}}}]
  {spec}
"""
    return documents(text.encode(), "")[0]


def made(document: dict, file: str = "/pods/web.yaml", node: str = "node-1", seen: float = 0.0):
    return static_pod(document, file, node, seen)


def test_a_static_pod_is_named_after_its_node_and_marked():
    pod = made(manifest("name: web, annotations: {mine: kept, kubernetes.io/config.mirror: x}")).pod
    assert (pod.metadata.name, pod.metadata.namespace) == ("web-node-1", "default")
    assert pod.spec.node_name == "node-1"
    assert len(pod.metadata.uid) == 32
    assert pod.metadata.annotations == {
        "mine": "kept",
        SOURCE_ANNOTATION: "file",
        HASH: pod.metadata.uid,
        SEEN: "1970-01-01T00:00:00.000000Z",
    }
    assert MIRROR_ANNOTATION not in pod.metadata.annotations
    assert is_static(pod)
    assert not is_mirror(pod)
    assert [(t.operator, t.effect) for t in pod.spec.tolerations] == [("Exists", "NoExecute")]
    assert pod.spec.restart_policy == "Always"
    assert pod.spec.termination_grace_period_seconds == 30


def test_the_uid_follows_from_content_file_and_node_alone():
    uid = made(manifest()).pod.metadata.uid
    assert made(manifest(), seen=99.0).pod.metadata.uid == uid
    others = {
        made(manifest(container="args: [x]")).pod.metadata.uid,
        made(manifest(), file="/pods/other.yaml").pod.metadata.uid,
        made(manifest(), node="node-2").pod.metadata.uid,
    }
    assert len(others | {uid}) == 4


def test_content_is_all_but_when_it_was_seen():
    assert content(made(manifest())) == content(made(manifest(), seen=99.0))
    fixed = "name: web, uid: fixed"
    before, after = made(manifest(fixed)), made(manifest(fixed, container="args: [x]"))
    assert before.pod.metadata.uid == after.pod.metadata.uid == "fixed"
    assert content(before) != content(after)


def test_a_toleration_that_is_there_is_not_added_again():
    found = made(manifest(spec="tolerations: [{operator: Exists, effect: NoExecute}]")).pod.spec.tolerations
    assert len(found) == 1


@pytest.mark.parametrize("uid", ["../x", "a/b", "..", ".", "a" * 200, 3, ["a"]])
def test_a_uid_that_is_no_name_of_a_directory_is_refused(uid):
    document = manifest()
    document["metadata"]["uid"] = uid
    with pytest.raises(ManifestError, match=r"^/pods/web.yaml: Pod web: invalid pod: metadata\.uid: Invalid"):
        made(document)


@pytest.mark.parametrize(
    ("refused", "document"),
    [
        ("serviceaccounts", manifest(spec="serviceAccountName: robot")),
        ("serviceaccounts", manifest(spec="serviceAccount: robot")),
        ("secrets", manifest(spec="imagePullSecrets: [{name: s}]")),
        ("secrets", manifest(container="envFrom: [{secretRef: {name: s}}]")),
        ("secrets", manifest(container="env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]")),
        ("secrets", manifest(spec="volumes: [{name: v, secret: {secretName: s}}]")),
        ("secrets", manifest(spec="volumes: [{name: v, projected: {sources: [{secret: {name: s}}]}}]")),
        (
            "secrets",
            manifest(spec="volumes: [{name: v, csi: {driver: d, nodePublishSecretRef: {name: s}}}]"),
        ),
        ("secrets", manifest(spec="volumes: [{name: v, cephfs: {secretRef: {name: s}}}]")),
        ("configmaps", manifest(container="envFrom: [{configMapRef: {name: c}}]")),
        (
            "configmaps",
            manifest(container="env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: k}}}]"),
        ),
        ("configmaps", manifest(spec="volumes: [{name: v, configMap: {name: c}}]")),
        ("configmaps", manifest(spec="volumes: [{name: v, projected: {sources: [{configMap: {name: c}}]}}]")),
        ("resourceclaims", manifest(spec="resourceClaims: [{name: r}]")),
        ("csidrivers (via CSI volumes)", manifest(spec="volumes: [{name: v, csi: {driver: d}}]")),
        (
            "persistentvolumeclaims",
            manifest(spec="volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]"),
        ),
        (
            "persistentvolumeclaims (via ephemeral volumes)",
            manifest(spec="volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {}}}}]"),
        ),
        (
            "clustertrustbundles",
            manifest(
                spec="volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {name: b, path: p}}]}}]"
            ),
        ),
    ],
)
def test_a_static_pod_may_name_nothing_that_only_an_api_server_has(refused, document):
    with pytest.raises(ManifestError) as error:
        made(document)
    text = f"/pods/web.yaml: Pod default/web-node-1: static pods may not reference {refused}"
    assert str(error.value) == text


def test_what_needs_no_api_server_is_taken():
    volumes = "[{name: a}, {name: b, hostPath: {path: /}}, {name: c, downwardAPI: {items: []}}]"
    assert made(manifest(spec=f"volumes: {volumes}")).pod.spec.volumes


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (manifest(metadata=""), "invalid pod: name is needed for the pod"),
        (manifest(metadata="name: 3"), "invalid pod: name is needed for the pod"),
        (manifest(metadata="name: web, annotations: [a]"), "metadata.annotations: expected object, got list"),
        (manifest() | {"metadata": None}, "invalid pod: name is needed for the pod"),
        (manifest() | {"spec": []}, "spec: expected object, got list"),
        (manifest(spec="tolerations: {}"), "spec.tolerations: expected list, got object"),
        (manifest() | {"kind": "Service"}, "expected a Pod of apiVersion v1"),
    ],
)
def test_what_is_no_pod_is_told_with_its_file(document, problem):
    with pytest.raises(ManifestError) as error:
        made(document)
    assert str(error.value).startswith("/pods/web.yaml: ")
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("spec", "warned"),
    [
        ("", []),
        ("priority: 2000001000\n  priorityClassName: system-node-critical", []),
        ("priorityClassName: system-node-critical", ["Static pod has priorityClassName and nil priority"]),
        ("priority: 5", ["Static pod has priority without priorityClassName"]),
        ("priority: 5\n  priorityClassName: mine", ["Static pod has a priority other than 2000001000"]),
        ("restartpolicy: Never", ["unknown field 'spec.restartpolicy'"]),
    ],
)
def test_what_is_doubtful_is_warned_of(spec, warned):
    found = warnings(made(manifest(spec=spec)))
    assert [text.startswith(begin) for text, begin in zip(found, warned, strict=True)] == [True] * len(warned)
