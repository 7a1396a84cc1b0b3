"""What an API server checks of a pod's volumes and of the places where containers mount them; pure.

It exists because a pod that never meets an API server must fail as clearly as one that does. The rules are
those of Kubernetes' pkg/apis/core/validation, for the kinds that a node of today serves. It must not know how
a volume is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from vkubelet.api.containers import Container, VolumeMount
from vkubelet.api.volumes import (
    DownwardAPIVolumeFile,
    KeyToPath,
    ProjectedVolumeSource,
    Volume,
    VolumeProjection,
)
from vkubelet.pods.manifests.problems import Problems

_HOST_PATH_TYPES = (
    "",
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
)
_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")


def check_volumes(found: Problems, volumes: Iterable[Volume], path: str) -> dict[str, Volume]:
    """Check spec.volumes; returns those that containers may mount, by name."""
    known: dict[str, Volume] = {}
    for index, volume in enumerate(volumes):
        at = f"{path}[{index}]"
        before = len(found.found)
        _check_source(found, volume, at)
        if not volume.name:
            found.required(f"{at}.name")
        else:
            found.label(f"{at}.name", volume.name)
        if volume.name in known:
            found.duplicate(f"{at}.name", volume.name)
        elif len(found.found) == before:
            known[volume.name] = volume
    return known


def check_mounts(found: Problems, container: Container, volumes: Mapping[str, Volume], path: str) -> None:
    """Check a container's volumeMounts and volumeDevices."""
    places: set[str] = set()
    devices = {device.name: device.device_path for device in container.volume_devices or ()}
    for index, mount in enumerate(container.volume_mounts or ()):
        at = f"{path}.volumeMounts[{index}]"
        if not mount.name:
            found.required(f"{at}.name")
        if mount.name not in volumes:
            found.missing(f"{at}.name", mount.name)
        if not mount.mount_path:
            found.required(f"{at}.mountPath")
        if mount.mount_path in places:
            found.invalid(f"{at}.mountPath", mount.mount_path, "must be unique")
        places.add(mount.mount_path)
        if mount.name in devices:
            found.invalid(f"{at}.name", mount.name, "must not already exist in volumeDevices")
        if mount.mount_path in devices.values():
            text = "must not already exist as a path in volumeDevices"
            found.invalid(f"{at}.mountPath", mount.mount_path, text)
        _check_mount(found, container, mount, at, f"{path}.volumeMounts")
    for index, device in enumerate(container.volume_devices or ()):
        at = f"{path}.volumeDevices[{index}]"
        if not device.name:
            found.required(f"{at}.name")
        elif device.name not in volumes:
            found.missing(f"{at}.name", device.name)
        if not device.device_path:
            found.required(f"{at}.devicePath")
        else:
            found.no_back_steps(f"{at}.devicePath", device.device_path)


def _check_mount(found: Problems, container: Container, mount: VolumeMount, at: str, field: str) -> None:
    """`field` is where the API reports some of this: without the mount's index."""
    if mount.sub_path:
        found.descending(f"{field}.subPath", mount.sub_path)
    if mount.sub_path_expr:
        if mount.sub_path:
            text = "subPathExpr and subPath are mutually exclusive"
            found.invalid(f"{at}.subPathExpr", mount.sub_path_expr, text)
        found.descending(f"{field}.subPathExpr", mount.sub_path_expr)
    if mount.mount_propagation is not None:
        found.word(f"{field}.mountPropagation", mount.mount_propagation, _PROPAGATIONS)
        context = container.security_context
        if mount.mount_propagation == "Bidirectional" and not (context is not None and context.privileged):
            text = "Bidirectional mount propagation is available only to privileged containers"
            found.forbidden(f"{field}.mountPropagation", text)
    recursive = mount.recursive_read_only
    if recursive is None:
        return
    found.word(f"{field}.recursiveReadOnly", recursive, ("Disabled", "Enabled", "IfPossible"))
    if recursive in ("Enabled", "IfPossible"):
        if not mount.read_only:
            text = "may only be specified when readOnly is true"
            found.forbidden(f"{field}.recursiveReadOnly", text)
        if mount.mount_propagation not in (None, "None"):
            text = "may only be specified when mountPropagation is None or not specified"
            found.forbidden(f"{field}.recursiveReadOnly", text)


def _check_source(found: Problems, volume: Volume, at: str) -> None:
    kinds = [
        field.encode_name
        for field in msgspec.structs.fields(Volume)
        if field.name != "name" and getattr(volume, field.name) is not None
    ]
    if not kinds:
        found.required(at, "must specify a volume type")
    for extra in kinds[1:]:
        found.forbidden(f"{at}.{extra}", "may not specify more than 1 volume type")
    if volume.empty_dir is not None and volume.empty_dir.size_limit is not None:
        found.amount(f"{at}.emptyDir.sizeLimit", volume.empty_dir.size_limit)
    if volume.host_path is not None:
        if not volume.host_path.path:
            found.required(f"{at}.hostPath.path")
        else:
            found.no_back_steps(f"{at}.hostPath.path", volume.host_path.path)
            found.word(f"{at}.hostPath.type", volume.host_path.type, _HOST_PATH_TYPES)
    if volume.config_map is not None:
        if not volume.config_map.name:
            found.required(f"{at}.configMap.name")
        found.mode(f"{at}.configMap.defaultMode", volume.config_map.default_mode)
        _check_items(found, volume.config_map.items, f"{at}.configMap.items")
    if volume.secret is not None:
        if not volume.secret.secret_name:
            found.required(f"{at}.secret.secretName")
        found.mode(f"{at}.secret.defaultMode", volume.secret.default_mode)
        _check_items(found, volume.secret.items, f"{at}.secret.items")
    if volume.downward_api is not None:
        found.mode(f"{at}.downwardAPI.defaultMode", volume.downward_api.default_mode)
        for item in volume.downward_api.items or ():
            _check_downward(found, item, f"{at}.downwardAPI")
    if volume.projected is not None:
        _check_projected(found, volume.projected, f"{at}.projected")
    claim = volume.persistent_volume_claim
    if claim is not None and not claim.claim_name:
        found.required(f"{at}.persistentVolumeClaim.claimName")
    if volume.image is not None:
        if not volume.image.reference:
            found.required(f"{at}.image.reference")
        found.word(f"{at}.image.pullPolicy", volume.image.pull_policy, ("Always", "IfNotPresent", "Never"))
    if volume.nfs is not None:
        for field, value in (("server", volume.nfs.server), ("path", volume.nfs.path)):
            if not value:
                found.required(f"{at}.nfs.{field}")
        if volume.nfs.path and not volume.nfs.path.startswith("/"):
            found.invalid(f"{at}.nfs.path", volume.nfs.path, "must be an absolute path")


def _check_items(found: Problems, items: Iterable[KeyToPath] | None, path: str) -> None:
    for index, item in enumerate(items or ()):
        at = f"{path}[{index}]"
        if not item.key:
            found.required(f"{at}.key")
        if not item.path:
            found.required(f"{at}.path")
        found.file_name(f"{at}.path", item.path)
        found.mode(f"{at}.mode", item.mode)


def _check_downward(found: Problems, item: DownwardAPIVolumeFile, at: str) -> None:
    if not item.path:
        found.required(f"{at}.path")
    found.file_name(f"{at}.path", item.path)
    if item.field_ref is not None:
        if not item.field_ref.field_path:
            found.required(f"{at}.fieldRef.fieldPath")
        if item.resource_field_ref is not None:
            text = "fieldRef and resourceFieldRef can not be specified simultaneously"
            found.invalid(at, "resource", text)
    elif item.resource_field_ref is not None:
        if not item.resource_field_ref.container_name:
            found.required(f"{at}.resourceFieldRef.containerName")
        elif not item.resource_field_ref.resource:
            found.required(f"{at}.resourceFieldRef.resource")
    else:
        found.required(at, "one of fieldRef and resourceFieldRef is required")
    found.mode(f"{at}.mode", item.mode)


def _check_projected(found: Problems, projected: ProjectedVolumeSource, at: str) -> None:
    found.mode(f"{at}.defaultMode", projected.default_mode)
    paths: set[str] = set()
    for index, source in enumerate(projected.sources or ()):
        _check_projection(found, source, f"{at}.sources[{index}]", at)
        for path in _paths(source):
            if path in paths:
                found.invalid(at, path, "conflicting duplicate paths")
            paths.add(path)


def _check_projection(found: Problems, source: VolumeProjection, at: str, volume: str) -> None:
    if sum(getattr(source, field) is not None for field in VolumeProjection.__struct_fields__) > 1:
        found.forbidden(at, "may not specify more than 1 volume type per source")
    for field, named in (("secret", source.secret), ("configMap", source.config_map)):
        if named is not None:
            if not named.name:
                found.required(f"{at}.{field}.name")
            _check_items(found, named.items, f"{at}.{field}.items")
    if source.downward_api is not None:
        for item in source.downward_api.items or ():
            _check_downward(found, item, f"{at}.downwardAPI")
    token = source.service_account_token
    if token is not None:
        where = f"{at}.serviceAccountToken.expirationSeconds"
        if token.expiration_seconds < 600:
            text = "may not specify a duration less than 10 minutes"
            found.invalid(where, token.expiration_seconds, text)
        if token.expiration_seconds > 2**32:
            text = "may not specify a duration larger than 2^32 seconds"
            found.invalid(where, token.expiration_seconds, text)
        if not token.path:
            found.required(f"{volume}.path")
        else:
            found.file_name(f"{volume}.path", token.path)


def _paths(source: VolumeProjection) -> list[str]:
    items = [
        *((source.secret.items if source.secret else None) or ()),
        *((source.config_map.items if source.config_map else None) or ()),
        *((source.downward_api.items if source.downward_api else None) or ()),
    ]
    return [item.path for item in items if item.path]
