"""What guests find in their environment: every source against the real API server."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
import yaml
from guests import push_guest
from namespaces import Namespace, encoded, pod_spec
from waiting import eventually

from vkubelet.api.client import ApiClient
from vkubelet.api.references import ObjectReferences, ReferenceForbiddenError
from vkubelet.pods.text import quantity

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def show(cluster: Any) -> str:
    """Prints its arguments and environment."""
    return push_guest(cluster.registry, "show")


def printed(space: Namespace, pod: str) -> dict[str, str]:
    """The environment that the pod's guest printed before it ended."""
    space.wait(f"pod/{pod}", "jsonpath={.status.phase}=Succeeded")
    lines = space.kubectl("logs", pod).splitlines()
    pairs = [line.removeprefix("env ").partition("=") for line in lines if line.startswith("env ")]
    return {name: value for name, _, value in pairs}


def ref(kind: str, name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"valueFrom": {f"{kind}KeyRef": {"name": name, "key": key, **more}}}


def field(path: str) -> dict[str, Any]:
    return {"valueFrom": {"fieldRef": {"fieldPath": path}}}


def resource(name: str, **more: Any) -> dict[str, Any]:
    return {"valueFrom": {"resourceFieldRef": {"resource": name, **more}}}


def variables(**named: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, **(value if isinstance(value, dict) else {"value": value})}
        for name, value in named.items()
    ]


def test_every_source_of_a_variable_reaches_the_guest(space: Namespace, show: str, node: Any) -> None:
    space.make("ConfigMap", "settings", data={"color": "blue", "a.b-c": "odd", "HOST": "map"})
    space.make("Secret", "key", data={"password": encoded("hunter2")})
    env = variables(
        HOST="db",
        URL="http://$(HOST):$(color)/$(LATER)$$(HOST)",
        LATER="x",
        COLOR=ref("configMap", "settings", "color"),
        PASSWORD=ref("secret", "key", "password"),
        NO_KEY=ref("configMap", "settings", "none", optional=True),
        NO_OBJECT=ref("secret", "none", "none", optional=True),
        POD=field("metadata.name"),
        NAMESPACE=field("metadata.namespace"),
        UID=field("metadata.uid"),
        LABEL=field("metadata.labels['app']"),
        NOTE=field("metadata.annotations['note']"),
        NODE=field("spec.nodeName"),
        ACCOUNT=field("spec.serviceAccountName"),
        HOST_IP=field("status.hostIP"),
        HOST_IPS=field("status.hostIPs"),
        POD_IP=field("status.podIP"),
        POD_IPS=field("status.podIPs"),
        CPU=resource("limits.cpu", divisor="1m"),
        CORES=resource("limits.cpu"),
        MEMORY=resource("requests.memory", divisor="1Mi"),
        STORAGE=resource("limits.ephemeral-storage"),
    )
    container = {
        "args": ["$(HOST)", "$(MISSING)", "$$(HOST)"],
        "env": env,
        "envFrom": [
            {"configMapRef": {"name": "settings"}},
            {"prefix": "S_", "secretRef": {"name": "key"}},
            {"configMapRef": {"name": "none", "optional": True}},
        ],
        "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"memory": "32Mi"}},
    }
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "all", "labels": {"app": "web"}, "annotations": {"note": "true"}},
        "spec": pod_spec(show, container=container, restartPolicy="Never"),
    }
    space.kubectl("create", "--filename", "-", input=yaml.safe_dump(document))
    found = printed(space, "all")
    pod = space.get("pod/all")
    address = pod["status"]["hostIP"]
    allocatable = space.get(f"node/{node.name}")["status"]["allocatable"]
    expected = {
        "color": "blue",
        "a.b-c": "odd",
        "S_password": "hunter2",
        "HOST": "db",
        "URL": "http://db:blue/$(LATER)$(HOST)",
        "LATER": "x",
        "COLOR": "blue",
        "PASSWORD": "hunter2",
        "POD": "all",
        "NAMESPACE": space.name,
        "UID": pod["metadata"]["uid"],
        "LABEL": "web",
        "NOTE": "true",
        "NODE": node.name,
        "ACCOUNT": "default",
        "HOST_IP": address,
        "HOST_IPS": address,
        "POD_IP": address,
        "POD_IPS": address,
        "CPU": "1500",
        "CORES": "2",
        "MEMORY": "32",
        "HOSTNAME": "all",
    }
    assert expected.items() <= found.items()
    assert {"NO_KEY", "NO_OBJECT"}.isdisjoint(found)
    assert quantity(found["STORAGE"]) == quantity(allocatable["ephemeral-storage"])
    arguments = [line for line in space.kubectl("logs", "all").splitlines() if line.startswith("arg ")]
    assert arguments[1:] == ["arg db", "arg $(MISSING)", "arg $(HOST)"]
    assert "hunter2" not in node.log.read_text()


def test_services_are_told_of_unless_the_pod_does_not_want_it(space: Namespace, show: str) -> None:
    ports = [{"name": "web-ui", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    space.make("Service", "my-db", spec={"ports": ports})
    space.make("Service", "headless", spec={"clusterIP": "None", "ports": [{"port": 1}]})
    address = space.get("service/my-db")["spec"]["clusterIP"]
    kubernetes = {"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS"}

    def told(name: str) -> dict[str, str]:
        space.pod(name, show, restartPolicy="Never")
        return printed(space, name)

    tries = iter(range(20))
    # The node learns of services by a watch, pods are not held back for it (nor are a kubelet's).
    eventually(lambda: "MY_DB_SERVICE_HOST" in told(f"links-{next(tries)}"), "the service's variables", 60)
    found = told("links")
    assert found["MY_DB_SERVICE_HOST"] == address
    assert found["MY_DB_SERVICE_PORT"] == found["MY_DB_SERVICE_PORT_WEB_UI"] == "80"
    assert found["MY_DB_PORT_53_UDP"] == f"udp://{address}:53"
    assert kubernetes <= found.keys()
    assert not any(name.startswith("HEADLESS") for name in found)
    space.pod("no-links", show, restartPolicy="Never", enableServiceLinks=False)
    found = printed(space, "no-links")
    assert kubernetes <= found.keys()
    assert not any(name.startswith("MY_DB") for name in found)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (ref("configMap", "settings", "a"), 'configmap "settings" not found'),
        (ref("secret", "key", "a"), 'secret "key" not found'),
    ],
)
def test_a_pod_waits_for_what_it_names_and_starts_by_itself(
    space: Namespace, show: str, source: dict[str, Any], message: str
) -> None:
    space.pod("waits", show, restartPolicy="Never", container={"env": variables(V=source)})
    assert space.wait_reason("waits", "CreateContainerConfigError")["message"] == message
    assert space.wait_event("waits", "Failed") == f"Error: {message}"
    assert space.status("waits")["phase"] == "Pending"
    if "secret" in message:
        space.make("Secret", "key", data={"b": encoded("1")})
        lacks = f"couldn't find key a in Secret {space.name}/key"
        change = ["patch", "secret", "key", "--patch", f'{{"data": {{"a": "{encoded("1")}"}}}}']
    else:
        space.make("ConfigMap", "settings", data={"b": "1"})
        lacks = f"couldn't find key a in ConfigMap {space.name}/settings"
        change = ["patch", "configmap", "settings", "--patch", '{"data": {"a": "1"}}']
    path = "{.status.containerStatuses[0].state.waiting.message}"
    # Long before the next try that the back-off would make.
    space.wait("pod/waits", f"jsonpath={path}={lacks}", timeout=8)
    space.kubectl(*change)
    space.wait("pod/waits", "jsonpath={.status.phase}=Succeeded", timeout=15)
    assert printed(space, "waits")["V"] == "1"


def test_a_secret_that_is_no_text_is_refused_as_a_variable(space: Namespace, show: str) -> None:
    space.make("Secret", "binary", data={"k": base64.b64encode(b"\xff\xfehidden").decode()})
    env = variables(V=ref("secret", "binary", "k"))
    space.pod("binary", show, restartPolicy="Never", container={"env": env})
    message = space.wait_reason("binary", "CreateContainerConfigError")["message"]
    assert message.startswith(f"key k of Secret {space.name}/binary is not UTF-8 text")
    assert "hidden" not in message


def test_a_changed_config_map_is_seen_at_the_next_start(space: Namespace, actor: str) -> None:
    space.make("ConfigMap", "settings", data={"v": "old"})
    env = variables(V=ref("configMap", "settings", "v"))
    space.pod("again", actor, container={"args": ["env", "V", "await", "/go", "exit", "1"], "env": env})
    space.wait("pod/again", "condition=Ready")
    assert space.kubectl("logs", "again").strip() == "V=old"
    space.kubectl("patch", "configmap", "settings", "--patch", '{"data": {"v": "new"}}')
    # The command ends with its container, which may be sooner than by itself.
    space.kubectl("exec", "again", "--", "touch", "/go", check=False)
    space.wait("pod/again", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    space.wait("pod/again", "condition=Ready")
    assert space.kubectl("logs", "again").strip() == "V=new"


def test_a_file_that_an_init_container_wrote_gives_variables(space: Namespace, actor: str, show: str) -> None:
    shared = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    first = {
        "name": "first",
        "image": actor,
        "args": ["write", "/shared/made.env=# made\nLINES='one\ntwo' # it\n"],
        **shared,
    }

    def from_file(key: str, **more: Any) -> dict[str, Any]:
        return {"valueFrom": {"fileKeyRef": {"volumeName": "shared", "path": "made.env", "key": key, **more}}}

    env = variables(LINES=from_file("LINES"), NONE=from_file("NONE", optional=True))
    space.pod(
        "file",
        show,
        initContainers=[first],
        container={"env": env, **shared},
        volumes=[{"name": "shared", "emptyDir": {}}],
        restartPolicy="Never",
    )
    found = printed(space, "file")
    assert found["LINES"] == "one"  # the second one follows
    assert "\ntwo\n" in space.kubectl("logs", "file")
    assert "NONE" not in found


def test_the_name_that_a_guest_sees(space: Namespace, show: str) -> None:
    space.pod("named", show, restartPolicy="Never", hostname="db", subdomain="x", setHostnameAsFQDN=True)
    assert printed(space, "named")["HOSTNAME"] == f"db.x.{space.name}.svc.cluster.local"
    space.pod("short", show, restartPolicy="Never", hostname="db", subdomain="x")
    assert printed(space, "short")["HOSTNAME"] == "db"
    space.pod("overridden", show, restartPolicy="Never", hostnameOverride="a.b.c")
    assert printed(space, "overridden")["HOSTNAME"] == "a.b.c"


def test_a_name_that_is_too_long_holds_the_pod_back(space: Namespace, show: str) -> None:
    space.pod("long", show, hostname="h" * 60, subdomain="x", setHostnameAsFQDN=True)
    message = space.wait_event("long", "FailedCreatePodSandBox")
    assert message.startswith("Failed to create pod sandbox: failed to construct FQDN from pod hostname")
    status = space.status("long")
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"]["waiting"] == {"reason": "ContainerCreating"}


def test_the_files_that_name_a_pod(space: Namespace, actor: str) -> None:
    reads = ["hosts", "hostname", "resolv.conf"]
    space.pod(
        "files",
        actor,
        *(word for name in reads for word in ("read", f"/etc/{name}")),
        restartPolicy="Never",
        hostname="db",
        subdomain="x",
        hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a.example", "b.example"]}],
        dnsPolicy="None",
        dnsConfig={
            "nameservers": ["10.0.0.53"],
            "searches": ["own.example"],
            "options": [{"name": "ndots", "value": "2"}],
        },
    )
    space.wait("pod/files", "jsonpath={.status.phase}=Succeeded")
    text = space.kubectl("logs", "files")
    address = space.status("files")["podIP"]
    assert "/etc/hosts: # Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n" in text
    assert f"\n{address}\tdb.x.{space.name}.svc.cluster.local\tdb\n" in text
    assert "\n# Entries added by HostAliases.\n1.2.3.4\ta.example\tb.example\n" in text
    assert "/etc/hostname: db\n" in text
    assert "/etc/resolv.conf: search own.example\nnameserver 10.0.0.53\noptions ndots:2\n" in text


def test_the_node_may_read_only_what_its_pods_name(space: Namespace, node: Any) -> None:
    space.make("ConfigMap", "unrelated", data={"a": "1"})

    async def ask() -> str:
        client = await ApiClient.from_kubeconfig(node.directory / "kubeconfig")
        try:
            with pytest.raises(ReferenceForbiddenError) as raised:
                await ObjectReferences(client).get("configmaps", space.name, "unrelated")
        finally:
            await client.close()
        return str(raised.value)

    message = asyncio.run(ask())
    assert message.startswith('configmaps "unrelated" is forbidden: User "system:node:wasm-node" cannot get')
    assert "no relationship found between node 'wasm-node' and this object" in message
