"""What keeps a pod or a replica from running, in a sentence for people: the cause, and what to do.

The words of Kubernetes, Ray and the engine are kept; what is added is where to look and the cure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sundog_operator.core.names import Manifest
from sundog_operator.core.observed import ServeState
from sundog_operator.core.view import condition


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is not ready."""

    reason: str
    """CamelCase, for programs."""
    message: str
    """One sentence, for people."""
    curable_by_waiting: bool = True
    """Whether something outside the spec can cure it: a node that joins, a Secret or a file that comes."""


# (reason, pattern over the scheduler's words, message); the first that matches is told.
_UNSCHEDULABLE: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (
        "PersistentVolumeClaimNotFound",
        re.compile(r'persistentvolumeclaim "(?P<name>[^"]+)" not found'),
        'PersistentVolumeClaim "{name}" does not exist in namespace "{namespace}"; create it, or name another',
    ),
    (
        "PersistentVolumeClaimNotBound",
        re.compile(
            r"(?P<words>.*(unbound immediate PersistentVolumeClaims|didn't find available persistent volumes).*)"
        ),
        "a PersistentVolumeClaim of pod {pod} is not bound: {words}; see kubectl get pvc, and check its class",
    ),
    (
        "InsufficientGPU",
        re.compile(r"(?P<words>.*Insufficient (?P<resource>[\w.-]+/gpu).*)"),
        (
            "no node has enough free {resource} for pod {pod}: {words}; add a GPU node, free one, or lower "
            "spec.resources or spec.replicas"
        ),
    ),
    (
        "Unschedulable",
        re.compile(r"(?P<words>.+)", re.DOTALL),
        "pod {pod} fits no node: {words}; add a node, or lower spec.resources",
    ),
)
_IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ErrImageInspectError"}
# Said in turns with the cause alone, at each try: the status must not change with it.
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*": \w+: ')
_CONFIG: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (
        "SecretKeyNotFound",
        re.compile(r"couldn't find key (?P<key>\S+) in Secret (?P<name>\S+)"),
        "Secret {name} has no key {key}; add it, or name another in the spec",
    ),
    (
        "SecretNotFound",
        re.compile(r'secret "(?P<name>[^"]+)" not found'),
        'Secret "{name}" does not exist in namespace "{namespace}"; create it, or name another in the spec',
    ),
    (
        "ConfigMapNotFound",
        re.compile(r'configmap "(?P<name>[^"]+)" not found'),
        'ConfigMap "{name}" does not exist in namespace "{namespace}"; create it, or name another in the spec',
    ),
    (
        "ContainerConfigInvalid",
        re.compile(r"(?P<words>.+)", re.DOTALL),
        "a container of pod {pod} cannot be made: {words}",
    ),
)
# `EngineStartError: <Reason>: <sentence>`, as sundog_serving raises it; it stands in a traceback.
_ENGINE_START = re.compile(r"EngineStartError: (?P<reason>[A-Z]\w+): (?P<sentence>[^\n]+)")
# What no waiting cures: the spec or the image has to change. The rest (a model still being copied, a hub that is away)
# is tried again.
_FINAL_ENGINE_REASONS = {"EngineArgumentInvalid", "EngineVersionUnsupported", "ModelInvalid"}
_LAST_LINE_LIMIT = 500
_ANSI_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")  # Ray colours tracebacks


def pod_problem(pods: Iterable[Manifest]) -> Problem | None:
    """The first thing that keeps one of these pods from running; None where nothing does."""
    for pod in pods:
        problem = _scheduling(pod) or _containers(pod)
        if problem:
            return problem
    return None


def workload_problem(deployment: Manifest | None) -> Problem | None:
    """Why a Deployment could not even make its pods: a quota, an admission rule."""
    failure = condition(deployment or {}, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    return Problem("PodsRefused", f"the API server refuses the pods: {failure.get('message', '')}")


def serve_problem(state: ServeState) -> Problem | None:
    """Why replicas do not start, in the engine's own words."""
    message = _ANSI_ESCAPE.sub("", state.message)
    if found := _ENGINE_START.findall(message):
        reason, sentence = found[-1]
        return Problem(reason, sentence, curable_by_waiting=reason not in _FINAL_ENGINE_REASONS)
    if state.application_status == "DEPLOY_FAILED":
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        last = lines[-1][:_LAST_LINE_LIMIT] if lines else "Ray Serve gave no reason"
        return Problem("EngineStartFailed", f"the engine did not start: {last}; see the log of the worker pod")
    return None


def _scheduling(pod: Manifest) -> Problem | None:
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") != "False":
        return None
    return _told(_UNSCHEDULABLE, scheduled.get("message", "no node was found"), pod)


def _containers(pod: Manifest) -> Problem | None:
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        waiting = container.get("state", {}).get("waiting", {})
        reason, words = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _IMAGE_REASONS:
            words = _BACK_OFF.sub("", words)
            return Problem(
                "ImagePullFailed",
                f"image {container['image']} cannot be pulled: {words or reason}; check its name and tag, and "
                "spec.podTemplate.spec.imagePullSecrets if its registry asks for a password",
            )
        if reason in {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}:
            return _told(_CONFIG, words or reason, pod)
        ended = container.get("lastState", {}).get("terminated", {})
        if ended.get("reason") == "OOMKilled":
            return Problem(
                "OutOfMemory",
                f"container {container['name']} of pod {pod['metadata']['name']} used more memory than its limit; "
                "raise limits.memory",
            )
        if reason == "CrashLoopBackOff":
            code = ended.get("exitCode")
            return Problem(
                "ContainerCrashed",
                f"container {container['name']} of pod {pod['metadata']['name']} ends with code {code} over and over; "
                f"see kubectl logs --previous {pod['metadata']['name']}",
            )
    return None


def _told(table: tuple[tuple[str, re.Pattern[str], str], ...], words: str, pod: Manifest) -> Problem | None:
    metadata = pod["metadata"]
    for reason, pattern, message in table:
        if match := pattern.search(words):
            # Kubernetes' own sentence may end with a full stop, and ours goes on.
            said = {key: value.strip().rstrip(".") for key, value in match.groupdict().items()}
            return Problem(reason, message.format(**said, pod=metadata["name"], namespace=metadata["namespace"]))
    return None
