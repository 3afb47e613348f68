"""What all children of an LLMDeployment carry."""

from __future__ import annotations

from sundog_operator.core import names
from sundog_operator.core.names import Manifest
from sundog_operator.core.resolve import Resolved

RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    "fsGroupChangePolicy": "OnRootMismatch",  # a claim full of weights is not walked at each start
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def labels(resolved: Resolved, component: str, *, revision: str | None = None) -> dict[str, str]:
    """Labels of one child, and of the pods of a workload."""
    result = {
        names.MANAGED_BY_LABEL: names.MANAGED_BY,
        "app.kubernetes.io/name": "sundog",
        "app.kubernetes.io/instance": resolved.name,
        "app.kubernetes.io/component": component,
        names.NAME_LABEL: resolved.name,
        names.COMPONENT_LABEL: component,
    }
    if revision:
        result[names.REVISION_LABEL] = revision
    return result


def selector(resolved: Resolved, component: str, *, revision: str | None = None) -> dict[str, str]:
    """Which pods are meant: as few labels as tell them apart, since a selector can never be changed."""
    result = {names.NAME_LABEL: resolved.name, names.COMPONENT_LABEL: component}
    if revision:
        result[names.REVISION_LABEL] = revision
    return result


def child(
    resolved: Resolved,
    api_version: str,
    kind: str,
    name: str,
    *,
    component: str,
    revision: str | None = None,
    body: Manifest,
) -> Manifest:
    """Build one child: owned by the LLMDeployment, so that deleting it leaves nothing behind without a finalizer."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": resolved.namespace,
            "labels": labels(resolved, component, revision=revision),
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "name": resolved.name,
                    "uid": resolved.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        **body,
    }
