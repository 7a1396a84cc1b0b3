"""The fields of containers, and of what is in them.

It exists as data. It must not know how a field is applied.
"""

from __future__ import annotations

from vkubelet.pods.fields.base import Fields, Where, applied, refused, works
from vkubelet.pods.fields.security import TABLES as SECURITY


def _host_port(value: int, where: Where) -> str | None:
    if not value or where.pod.spec.host_network:
        return None
    return "guests have a network only with spec.hostNetwork: true; set that, or remove the host port"


def _mode(value: str, _: Where) -> str | None:
    return None if value == "Plaintext" else f"{value} is not supported; use Plaintext"


def _protocol(value: str, _: Where) -> str | None:
    return None if value == "HTTP1" else f"{value} is not supported; use HTTP1"


def _propagation(value: str, _: Where) -> str | None:
    if value == "None":
        return None
    return f"a guest sees directories, no mounts, so {value} cannot be kept; use None"


CONTAINER: Fields = {
    "args": works(),
    "command": works("its first word names the module when there is a choice, and is the guest's argument 0"),
    "env": works(),
    "envFrom": works(),
    "image": works("a wasm artifact, or an image from scratch with a wasm entry point"),
    "imagePullPolicy": works(),
    "lifecycle": works(),
    "livenessProbe": works(),
    "name": works(),
    "ports": applied("they inform; guests share the node's network, and only with hostNetwork"),
    "readinessProbe": works(),
    "resizePolicy": works(),
    "resources": works(
        "the guest finds its limits where Linux has them, in /sys/fs/cgroup; of devices it gets what their "
        "plugin names: variables, directories and regular files, but no file of a device and no CDI device"
    ),
    "restartPolicy": works(),
    "restartPolicyRules": works(),
    "securityContext": works(),
    "startupProbe": works(),
    "stdin": works(),
    "stdinOnce": works(),
    "targetContainerName": works("of ephemeral containers: whose files are at /proc/1/root"),
    "terminationMessagePath": works(),
    "terminationMessagePolicy": works(),
    "tty": works(),
    "volumeDevices": refused("a wasm guest cannot use block devices; use volumeMounts"),
    "volumeMounts": works(),
    "workingDir": applied("the guest's PWD: WASI has no working directory"),
}

PROBE: Fields = {
    "exec": works("the command runs as an instance beside the container, in its files"),
    "failureThreshold": works(),
    "grpc": works(),
    "httpGet": works(),
    "initialDelaySeconds": works(),
    "periodSeconds": works(),
    "successThreshold": works(),
    "tcpSocket": works(),
    "terminationGracePeriodSeconds": works(),
    "timeoutSeconds": works(),
}

RESOURCES: Fields = {
    "claims": refused("dynamic resource allocation is not supported; remove the claims"),
    "limits": applied(
        "memory bounds the guest's linear memory, and a control group its process where the node has one; "
        "cpu is a control group's, where there is one; ephemeral-storage is watched: excess evicts the pod"
    ),
    "requests": works("cpu is a control group's weight, where the node has one"),
}

TABLES: dict[str, Fields] = {
    "Container": CONTAINER,
    **SECURITY,
    "ResourceRequirements": RESOURCES,
    "ContainerResizePolicy": {"resourceName": works(), "restartPolicy": works()},
    "ContainerPort": {
        "containerPort": works(),
        "hostIP": works(),
        "hostPort": works("with hostNetwork", but=_host_port),
        "name": works(),
        "protocol": works(),
    },
    "EnvVar": {
        "name": works(),
        "value": works("references to other variables are expanded"),
        "valueFrom": works(),
    },
    "EnvVarSource": {
        "configMapKeyRef": works(),
        "fieldRef": works(),
        "fileKeyRef": works(),
        "resourceFieldRef": works(),
        "secretKeyRef": works(),
    },
    "ObjectFieldSelector": {"apiVersion": works(), "fieldPath": works()},
    "ResourceFieldSelector": {"containerName": works(), "divisor": works(), "resource": works()},
    "ConfigMapKeySelector": {"key": works(), "name": works(), "optional": works()},
    "SecretKeySelector": {"key": works(), "name": works(), "optional": works()},
    "FileKeySelector": {"key": works(), "optional": works(), "path": works(), "volumeName": works()},
    "ConfigMapEnvSource": {"name": works(), "optional": works()},
    "SecretEnvSource": {"name": works(), "optional": works()},
    "EnvFromSource": {"configMapRef": works(), "prefix": works(), "secretRef": works()},
    "Lifecycle": {
        "postStart": works(),
        "preStop": works(),
        "stopSignal": applied(
            "a guest gets no signal; one whose pod is annotated for it finds the file /.vkubelet/stop, and "
            "one with stdin reads its end"
        ),
    },
    "LifecycleHandler": {
        "exec": works(),
        "httpGet": works(),
        "sleep": works(),
        "tcpSocket": applied("does nothing, as with a kubelet"),
    },
    "Probe": PROBE,
    "ExecAction": {"command": works()},
    "SleepAction": {"seconds": works()},
    "HTTPHeader": {"name": works(), "value": works()},
    "HTTPGetAction": {
        "host": works(),
        "httpHeaders": works(),
        "path": works(),
        "port": works(),
        "protocol": works("HTTP1; others are alpha", but=_protocol),
        "scheme": works(),
    },
    "TCPSocketAction": {"host": works(), "port": works()},
    "GRPCAction": {
        "mode": works("Plaintext; others are alpha", but=_mode),
        "port": works(),
        "service": works(),
    },
    "ContainerRestartRule": {"action": works("Restart"), "exitCodes": works()},
    "ContainerRestartRuleOnExitCodes": {"operator": works(), "values": works()},
    "VolumeMount": {
        "bindMountOptions": refused("a guest sees directories, no mounts: they have no options; remove them"),
        "mountPath": works(),
        "mountPropagation": works("None", but=_propagation),
        "name": works(),
        "readOnly": works(),
        "recursiveReadOnly": works("what is read-only is so with all below it"),
        "subPath": works(
            "of single files too, which are then copies of that moment unless they can be linked"
        ),
        "subPathExpr": works(),
    },
}
