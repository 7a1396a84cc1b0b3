"""What a container is called with: its arguments and environment, as a kubelet makes them; pure.

It exists to hold the rules of environment variables, of `$(VAR)` expansion and of command against args. It
must not know how the objects that variables come from are found, nor how a guest receives them.
"""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

from vkubelet.api.configuration import ConfigMap, Secret
from vkubelet.api.containers import Container, EnvFromSource, EnvVarSource, FileKeySelector, KeySelector
from vkubelet.api.objects import Pod
from vkubelet.api.references import ReferenceFailedError, ReferenceNotFoundError
from vkubelet.pods.downward import ConfigValueError, variable_field, variable_resource

Held = TypeVar("Held", ConfigMap, Secret)
FileKey: TypeAlias = tuple[str, str, str]
"""Volume, path in it, variable."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sources:
    """What the variables of one container come from: each object that it names, or why it cannot be had."""

    hostname: str
    host_ip: str
    config_maps: Mapping[str, ConfigMap | ReferenceFailedError] = dataclasses.field(default_factory=dict)
    secrets: Mapping[str, Secret | ReferenceFailedError] = dataclasses.field(default_factory=dict)
    files: Mapping[FileKey, str | ConfigValueError] = dataclasses.field(default_factory=dict, repr=False)
    """A variable that a file does not have is empty."""
    services: Mapping[str, str] = dataclasses.field(default_factory=dict)
    allocatable: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """What the node has to give, as `resources.counted` counts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Environment:
    """`variables` in order, all that the container gets; `declared` are those without the image's, which
    command, args and subPathExpr may speak of.
    """

    variables: tuple[tuple[str, str], ...] = dataclasses.field(repr=False)
    declared: Mapping[str, str] = dataclasses.field(repr=False)


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


def environment(pod: Pod, container: Container, image_env: Sequence[str], sources: Sources) -> Environment:
    """A container's environment: the image's, HOSTNAME, services', envFrom's, env's, later ones winning.

    Raises ConfigValueError for the first variable that cannot be had.
    """
    image = dict(entry.partition("=")[::2] for entry in image_env)
    own: dict[str, str] = {}
    for source in container.env_from or ():
        own.update(_all_of(pod, source, sources))
    known = ChainMap(own, dict(sources.services))
    for variable in container.env or ():
        if variable.value or variable.value_from is None:
            own[variable.name] = expand(variable.value, known)
        else:
            found = _value(pod, container, variable.value_from, sources)
            if found is not None:
                own[variable.name] = found
    declared = {**sources.services, **own}
    made = {**image, "HOSTNAME": sources.hostname, **declared}
    for name, value in made.items():
        if "\0" in name or "\0" in value:
            raise ConfigValueError(f'environment variable "{name}" contains a NUL byte')
    return Environment(tuple(made.items()), declared)


def with_terminal(env: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The environment of a guest that has a terminal: with TERM, as runtimes add it."""
    return env if any(name == "TERM" for name, _ in env) else (*env, ("TERM", "xterm"))


def arguments(
    container: Container,
    entrypoint: Sequence[str],
    cmd: Sequence[str],
    declared: Mapping[str, str],
    default_name: str | None,
) -> tuple[str, ...]:
    """The guest's arguments, argv[0] first, by Docker's rule: command replaces the image's entrypoint and
    cmd, args replaces cmd. A wasm artifact has no entrypoint: its module's name stands in as argv[0].
    """
    command = [expand(part, declared) for part in container.command or ()]
    args = [expand(part, declared) for part in container.args or ()]
    if command:
        return (*command, *args)
    head = list(entrypoint) or ([] if default_name is None else [default_name])
    return (*head, *(args or cmd))


def _all_of(pod: Pod, source: EnvFromSource, sources: Sources) -> dict[str, str]:
    """The variables that an envFrom makes: every key is one, whatever its letters (KEP-4369)."""
    config_map, secret = source.config_map_ref, source.secret_ref
    found: Mapping[str, str] = {}
    if config_map is not None:
        held = _present(sources.config_maps[config_map.name], optional=config_map.optional)
        found = (held.data if held is not None else None) or {}
    elif secret is not None:
        kept = _present(sources.secrets[secret.name], optional=secret.optional)
        raw = (kept.data if kept is not None else None) or {}
        found = {key: _text(pod, secret.name, key, value) for key, value in raw.items()}
    return {source.prefix + key: value for key, value in found.items()}


def _value(pod: Pod, container: Container, source: EnvVarSource, sources: Sources) -> str | None:
    """The value of an env entry; None when it is optional and not there."""
    if source.field_ref is not None:
        return variable_field(pod, source.field_ref, sources.host_ip)
    if source.resource_field_ref is not None:
        return variable_resource(pod, container, source.resource_field_ref, sources.allocatable)
    if source.config_map_key_ref is not None:
        return _config_map_key(pod, source.config_map_key_ref, sources)
    if source.secret_key_ref is not None:
        return _secret_key(pod, source.secret_key_ref, sources)
    if source.file_key_ref is not None:
        return _file_key(source.file_key_ref, sources)
    return ""


def _config_map_key(pod: Pod, wanted: KeySelector, sources: Sources) -> str | None:
    held = _present(sources.config_maps[wanted.name], optional=wanted.optional)
    if held is None:
        return None
    data = held.data or {}
    if wanted.key in data:
        return data[wanted.key]
    if wanted.optional:
        return None
    place = f"ConfigMap {pod.metadata.namespace}/{wanted.name}"
    raise ConfigValueError(f"couldn't find key {wanted.key} in {place}")


def _secret_key(pod: Pod, wanted: KeySelector, sources: Sources) -> str | None:
    kept = _present(sources.secrets[wanted.name], optional=wanted.optional)
    if kept is None:
        return None
    data = kept.data or {}
    if wanted.key in data:
        return _text(pod, wanted.name, wanted.key, data[wanted.key])
    if wanted.optional:
        return None
    raise ConfigValueError(f"couldn't find key {wanted.key} in Secret {pod.metadata.namespace}/{wanted.name}")


def _file_key(wanted: FileKeySelector, sources: Sources) -> str | None:
    found = sources.files[wanted.volume_name, wanted.path, wanted.key]
    if isinstance(found, ConfigValueError):
        raise found
    if found or wanted.optional:
        return found or None
    raise ConfigValueError(f'environment variable key "{wanted.key}" not found in file "{wanted.path}"')


def _present(found: Held | ReferenceFailedError, *, optional: bool) -> Held | None:
    if isinstance(found, ReferenceNotFoundError) and optional:
        return None
    if isinstance(found, ReferenceFailedError):
        raise ConfigValueError(str(found)) from found
    return found


def _text(pod: Pod, name: str, key: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        # Not "from": the error holds the secret.
        raise ConfigValueError(
            f"key {key} of Secret {pod.metadata.namespace}/{name} is not UTF-8 text, "
            "which a guest's environment variables are; mount it as a volume"
        ) from None
