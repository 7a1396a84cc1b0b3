"""The fields of a pod's spec beside its containers and volumes.

It exists as data. It must not know how a field is applied.
"""

from __future__ import annotations

from vkubelet.pods.fields.base import Fields, Where, applied, refused, works
from vkubelet.pods.fields.security import POD_SECURITY_CONTEXT

_SCHEDULER = "read by the scheduler"
_CONTROLLER = "read by controllers of the cluster"


def _runtime_class(value: str, _: Where) -> str | None:
    return f"{value!r} is not configured on this node; remove it"


POD_SPEC: Fields = {
    "activeDeadlineSeconds": works(),
    "affinity": works("the required node affinity is checked by the node too"),
    "automountServiceAccountToken": works("read by the API server"),
    "containers": works(),
    "dnsConfig": applied(
        "written into the guest's /etc/resolv.conf; whether it is read is the guest's affair"
    ),
    "dnsPolicy": applied("decides what is in the guest's /etc/resolv.conf"),
    "enableServiceLinks": works(),
    "ephemeralContainers": works("they see their target's files at /proc/1/root"),
    "evictionResponders": works(_CONTROLLER),
    "hostAliases": applied("written into the guest's /etc/hosts; whether it is read is the guest's affair"),
    "hostIPC": refused("a wasm guest has no inter-process communication to share; remove it"),
    "hostNetwork": works("a guest has a network only with it: the host's, through WASI's sockets"),
    "hostPID": refused("a wasm guest cannot see the host's processes; remove it"),
    "hostUsers": applied(
        "true is what is; false is refused: a container's process has no user namespace of its own",
        but=lambda value, _: (
            None if value else "a user namespace of the pod's own is not supported; remove it"
        ),
    ),
    "hostname": applied("the guest's HOSTNAME, /etc/hostname and /etc/hosts: WASI has no call for it"),
    "hostnameOverride": applied("as hostname"),
    "imagePullSecrets": works(),
    "initContainers": works("sidecars among them"),
    "nodeName": works(),
    "nodeSelector": works("checked by the node too"),
    "os": works("linux is what the node reports; a pod for another system is refused (PodOSNotSupported)"),
    "overhead": works(),
    "preemptionPolicy": works(_SCHEDULER),
    "priority": works("in eviction, pending resizes and preemption"),
    "priorityClassName": works(),
    "readinessGates": works(),
    "resourceClaims": refused("dynamic resource allocation is not supported; remove the claims"),
    "resources": works(
        "of the whole pod: limits of each container that has none of its own, and of all of them together: "
        "a cgroup bounds those, where memory counts with what the runtime needs"
    ),
    "restartPolicy": works(),
    "runtimeClassName": applied(
        "classes that this node is not configured for are refused", but=_runtime_class
    ),
    "schedulerName": works("read by schedulers"),
    "schedulingGates": works(_SCHEDULER),
    "schedulingGroup": works(_SCHEDULER),
    "securityContext": works(),
    "serviceAccount": works("the old name of serviceAccountName"),
    "serviceAccountName": works(),
    "setHostnameAsFQDN": applied("as hostname"),
    "shareProcessNamespace": refused("a wasm guest sees no processes, nor can they be shared; remove it"),
    "subdomain": applied("as hostname"),
    "terminationGracePeriodSeconds": applied(
        "the bound of preStop and of what a guest does once told of its end: it gets no signal (stopSignal)"
    ),
    "tolerations": works("taints of the effect NoExecute are checked by the node too"),
    "topologySpreadConstraints": works(_SCHEDULER),
    "volumes": works(),
}

POD_DNS_CONFIG: Fields = {
    "nameservers": applied("written into /etc/resolv.conf"),
    "options": applied("written into /etc/resolv.conf"),
    "searches": applied("written into /etc/resolv.conf"),
}

HOST_ALIAS: Fields = {"hostnames": works(), "ip": works()}

TABLES: dict[str, Fields] = {
    "PodSpec": POD_SPEC,
    "PodSecurityContext": POD_SECURITY_CONTEXT,
    "PodDNSConfig": POD_DNS_CONFIG,
    "PodDNSConfigOption": {"name": works(), "value": works()},
    "HostAlias": HOST_ALIAS,
    "PodReadinessGate": {"conditionType": works()},
    "Toleration": {
        "effect": works(),
        "key": works(),
        "operator": works("Lt and Gt are alpha, and match nothing"),
        "tolerationSeconds": works(_CONTROLLER),
        "value": works(),
    },
}
