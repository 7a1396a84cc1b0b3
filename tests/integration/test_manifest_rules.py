"""What this node says of wrong manifests, beside what the real API server says of them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from vkubelet.pods.manifests.errors import ManifestError
from vkubelet.pods.manifests.reading import read_pod
from vkubelet.pods.manifests.text import documents

pytestmark = pytest.mark.integration

# Pod specs, each of which is wrong in one way or more.
WRONG = """
containers: []
---
containers: [{name: main}]
---
containers: [{name: Main_1, image: a}]
---
containers: [{name: main, image: a}, {name: main, image: a}]
---
containers: [{name: main, image: ' a'}]
---
containers: [{name: main, image: a, imagePullPolicy: Now, terminationMessagePolicy: Never}]
---
containers: [{name: main, image: a, env: [{name: ''}, {name: A=B}]}]
---
containers:
- {name: main, image: a, env: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}
---
containers:
- {name: main, image: a, env: [{name: A, valueFrom: {}}, {name: B, valueFrom: {fieldRef: {fieldPath: x}}}]}
---
containers: [{name: main, image: a, env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.pods}}}]}]
---
containers: [{name: main, image: a, env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: 'a b'}}}]}]
---
containers: [{name: main, image: a, envFrom: [{prefix: 'A=', configMapRef: {name: c}}, {}]}]
---
containers:
- {name: main, image: a, ports: [{containerPort: 0}, {containerPort: 99999, name: A-, protocol: X}]}
---
containers:
- {name: main, image: a, ports: [{containerPort: 1, hostPort: 5}, {containerPort: 2, hostPort: 5}]}
---
hostNetwork: true
containers: [{name: main, image: a, ports: [{containerPort: 1, hostPort: 2}]}]
---
containers: [{name: main, image: a, volumeMounts: [{name: v}, {name: v, mountPath: /a, subPath: ../x}]}]
---
containers:
- {name: main, image: a, resources: {limits: {cpu: -1, x: 1}, requests: {cpu: 2, example.com/x: 1}}}
---
containers: [{name: main, image: a, resources: {limits: {memory: 1}, requests: {memory: 2}}}]
---
containers:
- {name: main, image: a, livenessProbe: {successThreshold: 2, exec: {command: []}, periodSeconds: -1}}
---
containers:
- {name: main, image: a, readinessProbe: {terminationGracePeriodSeconds: 3, httpGet: {port: 0, scheme: F}}}
---
containers: [{name: main, image: a, startupProbe: {tcpSocket: {port: a_b}, grpc: {port: 1}}}]
---
containers: [{name: main, image: a, lifecycle: {preStop: {sleep: {seconds: 99}}, postStart: {}}}]
---
containers: [{name: main, image: a, restartPolicyRules: [{action: Sit}]}]
---
containers: [{name: main, image: a, securityContext: {runAsUser: -1}}]
---
initContainers: [{name: main, image: a, livenessProbe: {tcpSocket: {port: 1}}}]
containers: [{name: main, image: a}]
---
volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}, {name: v, hostPath: {path: a/../b, type: Pipe}}]
containers: [{name: main, image: a}]
---
volumes: [{name: v, secret: {defaultMode: 4096}}, {name: A, configMap: {items: [{key: '', path: /x}]}}]
containers: [{name: main, image: a}]
---
volumes: [{name: v, projected: {sources: [{secret: {name: ''}, configMap: {name: c}}]}}]
containers: [{name: main, image: a}]
---
volumes:
- {name: v, downwardAPI: {items: [{path: ../x}, {path: '', fieldRef: {fieldPath: metadata.name}}]}}
containers: [{name: main, image: a}]
---
volumes: [{name: v, persistentVolumeClaim: {}}, {name: w, image: {pullPolicy: Now}}, {name: nfs, nfs: {}}]
containers: [{name: main, image: a}]
---
restartPolicy: Sometimes
dnsPolicy: Maybe
activeDeadlineSeconds: 0
containers: [{name: main, image: a}]
---
dnsPolicy: None
hostname: A.b
subdomain: _x
containers: [{name: main, image: a}]
---
tolerations:
- {operator: Equal}
- {key: a, operator: Exists, value: b, effect: Now}
- {key: '?', tolerationSeconds: 1}
containers: [{name: main, image: a}]
---
hostAliases: [{ip: x, hostnames: [A]}]
nodeSelector: {'a/b/c': '?'}
containers: [{name: main, image: a}]
---
securityContext: {fsGroup: -1, supplementalGroups: [-2], fsGroupChangePolicy: X}
containers: [{name: main, image: a}]
---
readinessGates: [{conditionType: '?'}]
activeDeadlineSeconds: -1
containers: [{name: main, image: a}]
""".strip().split("\n---\n")


@pytest.mark.parametrize("spec", WRONG)
def test_a_wrong_manifest_is_refused_for_the_same_fields_as_by_the_api_server(
    cluster: Any, spec: str
) -> None:
    indented = "\n  ".join(spec.splitlines())
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: wrong, namespace: default}}\nspec:\n  {indented}\n"
    answer = cluster.kubectl("create", "--dry-run=server", "--filename=-", input=text, check=False)
    theirs = set(re.findall(r"(?:\* |is invalid: |\[|, )((?:spec|metadata)[^:, ]*): ", answer))
    assert theirs, answer
    with pytest.raises(ManifestError) as refused:
        read_pod(documents(text.encode(), "wrong.yaml")[0], "wrong.yaml")
    ours = {problem.removeprefix("invalid pod: ").partition(":")[0] for problem in refused.value.problems}
    assert ours == theirs, f"{refused.value}\n{answer}"
