"""The kubelet's CredentialProviderConfig: which plugins there are, for which images, and how they are called.

It exists so that a file that is made for a kubelet means the same here, and so that one that is wrong is told
of when the agent starts. It must not know how a plugin is run. The rules are those of
pkg/credentialprovider/plugin and k8s.io/kubelet/config/v1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import yaml

from oci.durations import seconds
from vkubelet.config import Config, ConfigError

V1 = "credentialprovider.kubelet.k8s.io/v1"
_PLUGIN_VERSIONS = (V1, f"{V1}alpha1", f"{V1}beta1")
_VERSIONS = tuple(f"kubelet.config.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
_CACHE_TYPES = ("ServiceAccount", "Token")

_LABEL = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


class _Struct(msgspec.Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    pass


class EnvVar(_Struct, frozen=True):
    """A variable that a plugin gets beside those of the agent."""

    name: str
    value: str


class TokenAttributes(_Struct, frozen=True):
    """What a plugin wants to know of the pod's service account."""

    service_account_token_audience: str = ""
    cache_type: str = ""
    require_service_account: bool | None = None
    required_service_account_annotation_keys: tuple[str, ...] = ()
    optional_service_account_annotation_keys: tuple[str, ...] = ()


class CredentialProvider(_Struct, frozen=True):
    """A plugin: the program `name`, for images that `match_images` match."""

    name: str = ""
    match_images: tuple[str, ...] = ()
    default_cache_duration: str | None = None
    api_version: str = ""
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    token_attributes: TokenAttributes | None = None

    @property
    def cache_seconds(self) -> float:
        """How long an answer holds that does not say so itself."""
        return seconds(self.default_cache_duration or "0") or 0.0


class _Document(_Struct, frozen=True):
    api_version: str
    kind: str
    providers: tuple[CredentialProvider, ...] = ()


def load(config: Config) -> tuple[CredentialProvider, ...]:
    """The plugins that the configuration names, none by default; blocks. Raises ConfigError."""
    file, programs = config.image_credential_provider_config, config.image_credential_provider_bin_dir
    if not file and not programs:
        return ()
    for option, value in (
        ("imageCredentialProviderConfig", file),
        ("imageCredentialProviderBinDir", programs),
    ):
        if not value or not Path(value).exists():
            raise ConfigError(f"{option}: {f'{value} does not exist' if value else 'is not set'}")
    providers = [provider for path in _files(Path(file)) for provider in _read(path)]
    wrong = list(problems(providers))
    for provider in providers if not wrong else ():
        program = Path(programs) / provider.name
        if not program.is_file() or not os.access(program, os.X_OK):
            wrong.append(f"providers: {provider.name}: {program} is no program that can be run")
    if wrong:
        raise ConfigError(f"imageCredentialProviderConfig {file}: {'; '.join(wrong)}")
    return tuple(providers)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(
        one for one in path.iterdir() if one.suffix in (".json", ".yaml", ".yml") and one.is_file()
    )
    if not files:
        raise ConfigError(f"imageCredentialProviderConfig {path}: no *.json, *.yaml or *.yml file is in it")
    return files


def _read(path: Path) -> tuple[CredentialProvider, ...]:
    where = f"imageCredentialProviderConfig {path}"
    try:
        document = msgspec.convert(yaml.safe_load(path.read_bytes()), _Document)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from error
    except (yaml.YAMLError, msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
    if document.kind != "CredentialProviderConfig" or document.api_version not in _VERSIONS:
        what = f"{document.api_version} {document.kind}"
        raise ConfigError(f"{where}: is a {what}, not a {_VERSIONS[0]} CredentialProviderConfig")
    return document.providers


def problems(providers: Sequence[CredentialProvider]) -> Iterator[str]:
    """What is wrong, each with its field."""
    if not providers:
        yield "providers: at least one is required"
    seen: set[str] = set()
    for number, provider in enumerate(providers):
        where = f"providers[{number}]"
        name = provider.name
        if not name or "/" in name or " " in name or name in (".", ".."):
            yield f"{where}.name: {name!r} is no name of a program: it has no '/' and no spaces"
        if name in seen:
            yield f"{where}.name: {name!r} is another provider's already"
        seen.add(name)
        if provider.api_version not in _PLUGIN_VERSIONS:
            yield f"{where}.apiVersion: {provider.api_version!r} is none of {', '.join(_PLUGIN_VERSIONS)}"
        if not provider.match_images:
            yield f"{where}.matchImages: at least one is required"
        for image in provider.match_images:
            if not _is_place(image):
                yield f"{where}.matchImages: {image!r} is no host with a path"
        if provider.default_cache_duration is None or seconds(provider.default_cache_duration) is None:
            yield f"{where}.defaultCacheDuration: is no duration like 1m30s that is not negative"
        if provider.token_attributes is not None:
            if provider.api_version != V1:
                yield f"{where}.tokenAttributes: only a plugin of {V1} can have them"
            yield from _token_problems(provider.token_attributes, f"{where}.tokenAttributes")


def _token_problems(wanted: TokenAttributes, where: str) -> Iterator[str]:
    if not wanted.service_account_token_audience:
        yield f"{where}.serviceAccountTokenAudience: is required"
    if wanted.require_service_account is None:
        yield f"{where}.requireServiceAccount: is required"
    if wanted.cache_type not in _CACHE_TYPES:
        yield f"{where}.cacheType: {wanted.cache_type!r} is none of {', '.join(_CACHE_TYPES)}"
    required, optional = (
        wanted.required_service_account_annotation_keys,
        wanted.optional_service_account_annotation_keys,
    )
    if required and wanted.require_service_account is False:
        yield f"{where}.requiredServiceAccountAnnotationKeys: requireServiceAccount must be true"
    for field, keys in (("required", required), ("optional", optional)):
        for number, key in enumerate(keys):
            if not _is_qualified(key.lower()):
                yield f"{where}.{field}ServiceAccountAnnotationKeys[{number}]: {key!r} is no annotation's key"
            if key in keys[:number]:
                yield f"{where}.{field}ServiceAccountAnnotationKeys[{number}]: {key!r} is there already"
    if both := sorted(set(required) & set(optional)):
        yield f"{where}: annotation keys cannot be both required and optional: {', '.join(both)}"


def _is_place(text: str) -> bool:
    try:
        parts = urlsplit(f"https://{text}")
        return bool(parts.netloc) and parts.port != 0 and re.search(r"\s", text) is None
    except ValueError:
        return False


def _is_qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return _LABEL.fullmatch(name) is not None and (not slash or _DOMAIN.fullmatch(prefix) is not None)
