"""What a node's credentials are worth: is the API server there, who does it take us for, what may we do?

It exists because a node that may not do one of a dozen things runs for hours before somebody misses it. The
questions are those that `kubectl auth can-i` asks; nothing is changed by them. Judging them is pure.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError, KubeconfigError
from vkubelet.config import Config
from vkubelet.doctor.verdict import Verdict, missing, ok, warning

_DEADLINE = 30.0
"""Seconds for all questions together."""
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_SELF = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Something that a node does. `purpose` says what does not work without; not `vital` if the rest does."""

    verb: str
    resource: str
    purpose: str
    group: str = ""
    subresource: str = ""
    name: str = ""
    namespace: str = ""
    own_pods: bool = False
    vital: bool = True

    @property
    def text(self) -> str:
        """As `kubectl auth can-i` takes it."""
        group = f".{self.group}" if self.group else ""
        return f"{self.verb} {self.resource}{group}{f'/{self.subresource}' if self.subresource else ''}"


def wanted(config: Config) -> tuple[Wanted, ...]:
    """What a node of this configuration does. Objects that pods name are its once it has such pods."""
    node = config.node_name
    lease = functools.partial(Wanted, group="coordination.k8s.io", namespace="kube-node-lease")
    found = [
        Wanted("create", "nodes", "the node cannot register"),
        Wanted("get", "nodes", "the node cannot register", name=node),
        Wanted("patch", "nodes", "the node cannot say how it is", subresource="status", name=node),
        lease("get", "leases", "the node is taken for dead", name=node),
        lease("create", "leases", "the node is taken for dead"),
        lease("update", "leases", "the node is taken for dead", name=node),
        Wanted("list", "pods", "the node learns of no pod", own_pods=True),
        Wanted("watch", "pods", "the node learns of no pod", own_pods=True),
        Wanted("patch", "pods", "nobody learns how pods are", subresource="status"),
        Wanted("delete", "pods", "deleted pods stay"),
        Wanted("list", "services", "pods get no variables of services", vital=False),
        Wanted("create", "events", "nobody is told what happens", vital=False),
        Wanted("patch", "events", "nobody is told what happens", vital=False),
        Wanted("list", "csidrivers", "no volumes of storage drivers", group="storage.k8s.io", vital=False),
    ]
    if config.static_pod_path:
        found.append(Wanted("create", "pods", "static pods are not shown", vital=False))
    if config.authentication_token_webhook:
        purpose = "callers of the node's API with tokens are refused"
        found.append(Wanted("create", "tokenreviews", purpose, group="authentication.k8s.io", vital=False))
    if config.authorization_mode == "Webhook":
        purpose = "callers of the node's API are refused: no logs, no exec, no metrics"
        found.append(
            Wanted("create", "subjectaccessreviews", purpose, group="authorization.k8s.io", vital=False)
        )
    if not config.tls_cert_file:
        purpose = "the node's API has a certificate that nobody believes"
        group = "certificates.k8s.io"
        found.append(Wanted("create", "certificatesigningrequests", purpose, group=group, vital=False))
    return tuple(found)


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What was found. With `trouble` there is no more; `allowed` has what could be asked."""

    kubeconfig: str
    server: str = ""
    version: str = ""
    trouble: str = ""
    user: str = ""
    groups: Sequence[str] = ()
    allowed: Mapping[Wanted, bool] = dataclasses.field(default_factory=dict)


def judge(facts: ClusterFacts, node: str, *, bootstrap: bool) -> Iterator[Verdict]:
    """All checks of the cluster. With `bootstrap` the credentials are those that ask for a certificate."""
    if facts.trouble:
        advice = f"look at the kubeconfig {facts.kubeconfig}, and whether the server answers from here"
        yield missing("api server", facts.trouble, advice)
        return
    yield ok("api server", f"{facts.server}, {facts.version}")
    who = f"{facts.user or 'unknown'} of {', '.join(facts.groups) or 'no group'}"
    if bootstrap:
        yield ok("identity", f"{who}: the node will ask for a certificate of its own with it")
    elif facts.user != f"system:node:{node}" or "system:nodes" not in facts.groups:
        advice = (
            f"a node {node!r} is system:node:{node} of system:nodes: use --bootstrap-kubeconfig, or "
            "--node-name for the name in the certificate"
        )
        yield warning("identity", who, advice)
    else:
        yield ok("identity", who)
    refused = [one for one, allowed in facts.allowed.items() if not allowed]
    if not refused:
        yield ok("permissions", f"all {len(facts.allowed)} that a node needs")
    for one in refused:
        say = missing if one.vital else warning
        yield say("permissions", f"may not {one.text}: {one.purpose}", "bind the role system:node to it")


async def read(config: Config, kubeconfig: Path, *, bootstrap: bool) -> ClusterFacts:
    """Ask the API server that the kubeconfig names."""
    try:
        async with asyncio.timeout(_DEADLINE):
            client = await ApiClient.from_kubeconfig(kubeconfig)
            try:
                return await _asked(config, client, kubeconfig, bootstrap=bootstrap)
            finally:
                await client.close()
    except (ApiError, ApiUnavailableError, KubeconfigError) as error:
        return ClusterFacts(str(kubeconfig), trouble=str(error))
    except msgspec.DecodeError as error:
        return ClusterFacts(str(kubeconfig), trouble=f"an answer that is none of an API server: {error}")
    except TimeoutError:
        return ClusterFacts(str(kubeconfig), trouble=f"no answers within {_DEADLINE:.0f} s")


class _Version(msgspec.Struct, rename="camel"):
    git_version: str = ""


class _User(msgspec.Struct):
    username: str = ""
    groups: list[str] | None = None


class _SelfStatus(msgspec.Struct, rename="camel"):
    user_info: _User = msgspec.field(default_factory=_User)


class _SelfReview(msgspec.Struct):
    status: _SelfStatus = msgspec.field(default_factory=_SelfStatus)


class _AccessStatus(msgspec.Struct):
    allowed: bool = False


class _AccessReview(msgspec.Struct):
    status: _AccessStatus = msgspec.field(default_factory=_AccessStatus)


async def _asked(config: Config, client: ApiClient, kubeconfig: Path, *, bootstrap: bool) -> ClusterFacts:
    version = msgspec.json.decode(await client.get("/version"), type=_Version)
    document = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await client.post(_SELF, msgspec.json.encode(document))
    user = msgspec.json.decode(answer, type=_SelfReview).status.user_info
    questions = () if bootstrap else wanted(config)
    answers = await asyncio.gather(*(_allowed(client, config.node_name, one) for one in questions))
    return ClusterFacts(
        kubeconfig=str(kubeconfig),
        server=client.server,
        version=version.git_version,
        user=user.username,
        groups=tuple(user.groups or ()),
        allowed=dict(zip(questions, answers, strict=True)),
    )


async def _allowed(client: ApiClient, node: str, one: Wanted) -> bool:
    attributes: dict[str, Any] = {
        "verb": one.verb,
        "version": "v1",
        "group": one.group,
        "resource": one.resource,
        "subresource": one.subresource,
        "name": one.name,
        "namespace": one.namespace,
    }
    if one.own_pods:  # of a node the API server asks that it names itself
        requirement = {"key": "spec.nodeName", "operator": "In", "values": [node]}
        attributes["fieldSelector"] = {"requirements": [requirement]}
    document = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await client.post(_REVIEWS, msgspec.json.encode(document))
    return msgspec.json.decode(answer, type=_AccessReview).status.allowed
