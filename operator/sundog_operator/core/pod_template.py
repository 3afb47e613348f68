"""`spec.podTemplate` merged into a pod template, and the rules that what comes out must keep."""

from __future__ import annotations

from typing import Any

from sundog_operator.api.environment_variables import RESERVED, RESERVED_PREFIXES
from sundog_operator.core.errors import InvalidSpec
from sundog_operator.core.names import Manifest

# As in Kubernetes' own strategic merge: by which key the elements of a list are the same.
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
# The volume types that the restricted pod security level allows.
_VOLUME_TYPES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC")
_RESERVED_FIELDS = ("serviceAccountName", "serviceAccount", "automountServiceAccountToken", "restartPolicy")
_FIELD = "spec.podTemplate"
ENGINE_CONTAINER = "engine"


def merge(base: Any, patch: Any) -> Any:
    """Merge a partial value over a whole one: maps by key, the lists of a pod by their merge keys, others replaced."""
    if not isinstance(base, dict) or not isinstance(patch, dict):
        return patch
    merged = dict(base)
    for key, value in patch.items():
        if key in _MERGE_KEYS and isinstance(merged.get(key), list) and isinstance(value, list):
            merged[key] = _merge_list(merged[key], value, by=_MERGE_KEYS[key])
        elif key == "tolerations" and isinstance(value, list):
            merged[key] = [*merged.get(key, []), *value]
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def _merge_list(base: list[Any], patch: list[Any], *, by: str) -> list[Any]:
    merged = {element[by]: element for element in base}
    for element in patch:
        if not isinstance(element, dict) or by not in element:
            raise InvalidSpec(_FIELD, f"an element of a list lacks {by!r}, by which it is merged; add it")
        merged[element[by]] = merge(merged.get(element[by], {}), element)
    return list(merged.values())


def merge_pod_template(template: Manifest, patch: Manifest) -> Manifest:
    """Merge `spec.podTemplate` into a rendered pod template and check the outcome.

    Raises:
        InvalidSpec: the result would break the *restricted* pod security level, or take over what Sundog must set.
            (https://kubernetes.io/docs/concepts/security/pod-security-standards/)
    """
    for field in _RESERVED_FIELDS:
        if field in patch.get("spec", {}):
            raise InvalidSpec(f"{_FIELD}.spec.{field}", "is set by Sundog; remove it")
    for container in patch.get("spec", {}).get("containers", []):
        if container.get("name") == ENGINE_CONTAINER:
            _check_environment(container.get("env", []))
    merged: Manifest = merge(template, {key: patch[key] for key in ("metadata", "spec") if key in patch})
    # A label of ours that is overwritten would take the pod away from its Services.
    merged["metadata"]["labels"] |= template["metadata"]["labels"]
    _check(merged["spec"])
    return merged


def _check_environment(variables: list[Manifest]) -> None:
    """The variables that `spec.engine.env` may not set must not come in by another door."""
    for name in (str(variable.get("name")) for variable in variables):
        if name in RESERVED or name.startswith(RESERVED_PREFIXES):
            cure = RESERVED.get(name, "leave it out")
            raise InvalidSpec(f"{_FIELD}.spec.containers[{ENGINE_CONTAINER}].env", f"{name} is set by Sundog: {cure}")


def _check(spec: Manifest) -> None:
    for field in _HOST_FIELDS:
        if spec.get(field):
            raise InvalidSpec(
                f"{_FIELD}.spec.{field}", "is not allowed by the restricted pod security level; remove it"
            )
    for volume in spec.get("volumes", []):
        for kind in volume.keys() - {"name"} - _VOLUME_TYPES:
            raise InvalidSpec(
                f"{_FIELD}.spec.volumes[{volume['name']}]",
                f"a volume of type {kind} is not allowed by the restricted pod security level; use a claim instead",
            )
    _check_security(spec.get("securityContext", {}), f"{_FIELD}.spec.securityContext")
    for group in ("containers", "initContainers"):
        for container in spec.get(group, []):
            path = f"{_FIELD}.spec.{group}[{container['name']}].securityContext"
            context = container.setdefault("securityContext", {})
            _check_security(context, path)
            # A container that a person adds gets what the level demands without their having to write it.
            context.setdefault("allowPrivilegeEscalation", False)
            context.setdefault("capabilities", {"drop": ["ALL"]})


def _check_security(context: Manifest, path: str) -> None:
    capabilities = context.get("capabilities", {})
    refused = {
        "privileged": bool(context.get("privileged")),
        "allowPrivilegeEscalation": bool(context.get("allowPrivilegeEscalation")),
        "runAsUser": context.get("runAsUser") == 0,
        "runAsNonRoot": context.get("runAsNonRoot") is False,
        "procMount": context.get("procMount", "Default") != "Default",
        "seLinuxOptions": bool(context.get("seLinuxOptions")),
        "seccompProfile": context.get("seccompProfile", {}).get("type") == "Unconfined",
        "capabilities.add": bool(set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}),
        "capabilities.drop": bool(capabilities) and "ALL" not in capabilities.get("drop", []),
        "sysctls": bool(context.get("sysctls")),
    }
    for field, broken in refused.items():
        if broken:
            raise InvalidSpec(f"{path}.{field}", "is not allowed by the restricted pod security level; remove it")
