"""Kubernetes Events of an LLMDeployment, one per transition."""

from __future__ import annotations

from datetime import UTC, datetime

from sundog_operator.core.names import MANAGED_BY, Manifest, short_hash
from sundog_operator.kube.resources import EVENT

_NOTE_CHARACTERS = 1000
"""The API server refuses notes of more than 1,024 bytes."""


def event(resource: Manifest, *, type_: str, reason: str, message: str, reporting_instance: str) -> Manifest:
    """Build the Event of a transition.

    Its name holds the resource's version, reason and message: a pass that is repeated because the operator died after
    the Event and before the status makes no second one, and the same transition at another time makes another.
    """
    metadata = resource["metadata"]
    version = f"{metadata['uid']} {metadata['resourceVersion']} {reason} {message}"
    note = (
        message
        if len(message.encode()) <= _NOTE_CHARACTERS
        else message.encode()[:_NOTE_CHARACTERS].decode(errors="ignore") + "…"
    )
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{metadata['name']}.{short_hash(version)}", "namespace": metadata["namespace"]},
        "type": type_,
        "reason": reason,
        "note": note,
        "action": "Reconcile",
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": MANAGED_BY,
        "reportingInstance": reporting_instance[:128],
        "regarding": {
            "apiVersion": resource["apiVersion"],
            "kind": resource["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
    }
