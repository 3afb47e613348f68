"""What to do about each reason that the operator gives: the next command, or the field to change.

The message of a condition says what happened and usually the cure; this says where to begin. docs/troubleshooting.md
has the same reasons with their causes, and a test keeps the two together.
"""

from __future__ import annotations

from typing import Final

_OPERATOR_LOG: Final = "kubectl logs --namespace sundog-system --selector app.kubernetes.io/name=sundog-operator"
_DESCRIBE: Final = "kubectl describe pod --selector sundog.dev/llmdeployment={name}"
_LOGS: Final = "kubectl sundog logs {name}"

STEPS: Final = frozenset(
    {
        "HeadStarting",
        "HeadUnreachable",
        "ReplicasStarting",
        "ReplicasDraining",
        "OldRevisionDraining",
        "RollingOut",
        "Paused",
        "Suspending",
        "RouterStarting",
        "Reconciling",
    }
)
"""Reasons of Ready=False for which nobody has to do anything unless they stay."""

_CURES: Final = {
    "HeadStarting": f"wait; if it stays: {_DESCRIBE}",
    "HeadUnreachable": "wait; if it stays, let a NetworkPolicy allow the operator's pods to reach the head's port 8265",
    "ReplicasStarting": f"wait while the model is loaded; to watch it: {_LOGS} -f",
    "ReplicasDraining": "wait until the last stream has ended, requestTimeoutSeconds at most",
    "OldRevisionDraining": "wait until the last stream has ended, requestTimeoutSeconds at most",
    "RollingOut": "wait; to see how far it is: kubectl sundog status {name} -w",
    "Paused": "set spec.rollout.paused to false to go on",
    "Suspending": f"wait until the routers refuse requests; if it stays: {_DESCRIBE}",
    "RouterStarting": f"wait; if it stays: {_DESCRIBE}",
    "Reconciling": f"wait some seconds; if it stays: {_OPERATOR_LOG}",
    "InsufficientGPU": "add a node with GPUs, free one, or lower spec.resources or spec.replicas; "
    "kubectl sundog doctor shows how many there are",
    "Unschedulable": "change spec.resources, spec.nodeSelector or spec.tolerations, or add a node that fits",
    "PersistentVolumeClaimNotFound": "create the claim in the same namespace, or name another in spec.model",
    "PersistentVolumeClaimNotBound": "see kubectl get pvc; name a StorageClass that exists, or make a volume",
    "ImagePullFailed": "correct spec.engine.image, or add spec.podTemplate.spec.imagePullSecrets",
    "SecretNotFound": "create the Secret in the same namespace, or name another in the spec",
    "SecretKeyNotFound": "add the key to the Secret, or name another in the spec",
    "ConfigMapNotFound": "create the ConfigMap in the same namespace, or name another in the spec",
    "ContainerConfigInvalid": "correct what spec.podTemplate adds to the container",
    "PodsRefused": "raise the ResourceQuota that is named, or change what the admission policy refuses",
    "ContainerCrashed": f"read why it ended: {_LOGS} --previous",
    "OutOfMemory": "raise spec.resources.limits.memory, or lower spec.engine.args.max-model-len",
    "ModelNotFound": "correct spec.model.uri (and spec.model.revision), or put the model there",
    "ModelUnreadable": "make the files readable in the claim: chmod -R a+rX",
    "ModelInvalid": "give a model that this engine can load, or another spec.engine.image",
    "ModelDownloadFailed": "check the way to the hub, and spec.model.tokenSecretRef for a gated model; "
    "it is tried again by itself",
    "EngineArgumentInvalid": "correct the entry of spec.engine.args that is named",
    "EngineVersionUnsupported": "choose another spec.engine.image, or leave it out",
    "EngineStartFailed": f"read the engine's own words: {_LOGS}",
    "InvalidSpec": "correct the field that is named",
    "ApplyFailed": f"it is tried again; what was refused stands in {_OPERATOR_LOG}",
    "ProgressDeadlineExceeded": f"read what it waited for: {_LOGS}; "
    "raise spec.rollout.progressDeadlineSeconds if it only needs longer",
    "RolledBack": "correct the spec, and until then the revision before serves on; where the cause lay elsewhere, "
    "delete the revision's ControllerRevision, and it is tried again",
    "Suspended": "set spec.suspend to false to serve again",
}


def cure(reason: str, *, name: str) -> str:
    """Say what to do about a reason of Ready=False."""
    known = _CURES.get(reason, "see docs/troubleshooting.md, and {describe}")
    return known.format(name=name, describe=f"kubectl describe llmdeploy {name}")


def known_reasons() -> frozenset[str]:
    """All reasons that have a cure."""
    return frozenset(_CURES)
