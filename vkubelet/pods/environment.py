"""What a container is called with: its arguments and environment, as a kubelet makes them; pure.

It exists to hold the rules of `$(VAR)` expansion and of command against args. It must not know how a
guest receives them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from vkubelet.api.containers import Container, EnvVar
from vkubelet.api.objects import Pod

_FIELD_KEY = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")


class ConfigValueError(ValueError):
    """A value that cannot be made; the text is the kubelet's CreateContainerConfigError message."""


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by its value; `$$` is a literal `$`; an unknown name stays as it is written.

    The rules are those of Kubernetes' third_party/forked/golang/expansion.
    """
    out: list[str] = []
    position = 0
    while True:
        dollar = text.find("$", position)
        if dollar < 0 or dollar + 1 == len(text):
            out.append(text[position:])
            return "".join(out)
        out.append(text[position:dollar])
        following = text[dollar + 1]
        position = dollar + 2
        if following == "$":
            out.append("$")
            continue
        close = text.find(")", position) if following == "(" else -1
        if close < 0:
            out.append("$" + following)
            continue
        name = text[position:close]
        out.append(values.get(name, f"$({name})"))
        position = close + 1


def field_value(pod: Pod, path: str, host_ip: str) -> str:
    """The value of a downward API `fieldRef`. Raises ConfigValueError for a path that has none here."""
    meta, spec = pod.metadata, pod.spec
    plain = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": spec.node_name,
        "spec.serviceAccountName": spec.service_account_name,
        "status.hostIP": host_ip,
        "status.hostIPs": host_ip,
        "status.podIP": host_ip,
        "status.podIPs": host_ip,
    }
    if path in plain:
        return plain[path]
    match = _FIELD_KEY.match(path)
    if match is not None:
        source = meta.labels if match[1] == "labels" else meta.annotations
        return (source or {}).get(match[2], "")
    raise ConfigValueError(f"unsupported fieldPath: {path}")


def environment(
    pod: Pod, container: Container, image_env: Sequence[str], host_ip: str
) -> tuple[tuple[str, str], ...]:
    """The environment in order: the image's, HOSTNAME, then the container's own, later ones winning."""
    values: dict[str, str] = {}
    for entry in image_env:
        name, _, value = entry.partition("=")
        values[name] = value
    values["HOSTNAME"] = pod.spec.hostname or pod.metadata.name
    own: dict[str, str] = {}
    for variable in container.env or ():
        own[variable.name] = _value(pod, variable, own, host_ip)
    return tuple((values | own).items())


def with_terminal(env: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The environment of a guest that has a terminal: with TERM, as runtimes add it."""
    return env if any(name == "TERM" for name, _ in env) else (*env, ("TERM", "xterm"))


def _value(pod: Pod, variable: EnvVar, before: Mapping[str, str], host_ip: str) -> str:
    source = variable.value_from
    if source is None:
        return expand(variable.value, before)
    if source.field_ref is not None:
        return field_value(pod, source.field_ref.field_path, host_ip)
    raise ConfigValueError(f"env {variable.name}: only value and fieldRef are supported")


def arguments(
    container: Container,
    entrypoint: Sequence[str],
    cmd: Sequence[str],
    env: Sequence[tuple[str, str]],
    default_name: str,
) -> tuple[str, ...]:
    """The guest's arguments, argv[0] first, by Docker's rule: command replaces the image's entrypoint and
    cmd, args replaces cmd. A wasm image has no entrypoint: its module's name stands in as argv[0].
    """
    values = dict(env)
    command = [expand(part, values) for part in container.command or ()]
    args = [expand(part, values) for part in container.args or ()]
    if command:
        return (*command, *args)
    head = list(entrypoint)
    tail = args or list(cmd)
    return (*(head or [default_name]), *tail)
