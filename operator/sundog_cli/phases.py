"""How far a pod is on its way up or down: values in, values out; the time is a parameter.

A replica that loads its model does not say how far it is. What is known is how long the other replicas took, so the
time left is an estimate by those, and is said only where there is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sundog_operator.core import names
from sundog_operator.core.names import Manifest
from sundog_operator.core.problems import pod_problem
from sundog_operator.core.view import condition, is_ready, told_to_end_at, was_up

LOADING: Final = "loads the model"


@dataclass(frozen=True, slots=True)
class Phase:
    """Where a pod stands."""

    pod: str
    node: str
    phase: str
    """`waits for a node`, `pulls its image`, `loads the model`, `ready`, `drains`, …"""
    seconds: float
    """Since it is so."""
    ready: bool = False
    progress: float | None = None
    """From 0 to 1, by how long others took."""
    remaining_seconds: float | None = None
    reason: str = ""
    """Of what keeps it from running; empty where nothing does."""
    message: str = ""


def phases(pods: Iterable[Manifest], *, component: str, usual: float | None, now: float) -> list[Phase]:
    """Say where the pods of one component stand, by name.

    Args:
        pods: of the component.
        component: head, worker or router.
        usual: seconds that a replica took to load; None: none has yet.
        now: seconds since 1970.
    """
    listed = sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
    return [_phase(pod, component=component, usual=usual, now=now) for pod in listed]


def usual_load_seconds(pods: Iterable[Manifest]) -> float | None:
    """How long the replicas that are ready took to load; of several the shortest, for Ready may have changed since."""
    return min((taken for pod in pods if (taken := _load_seconds(pod)) is not None), default=None)


def _load_seconds(pod: Manifest) -> float | None:
    """How long a pod that is ready took from the start of its container; None: it is not, or that is not known."""
    started = _started(pod)
    since = condition(pod, "Ready").get("lastTransitionTime")
    if not is_ready(pod) or started is None or since is None:
        return None
    return max(seconds_of(since) - started, 1.0)


def _phase(pod: Manifest, *, component: str, usual: float | None, now: float) -> Phase:
    metadata = pod["metadata"]
    name, node = str(metadata["name"]), str(pod.get("spec", {}).get("nodeName", ""))
    if metadata.get("deletionTimestamp"):
        return Phase(name, node, "drains" if was_up(pod) else "ends", seconds=max(now - told_to_end_at(pod), 0.0))
    started = _started(pod)
    since = started if started is not None else seconds_of(metadata["creationTimestamp"])
    if is_ready(pod):
        goes = names.POD_DELETION_COST_ANNOTATION in metadata.get("annotations", {})
        told = condition(pod, "Ready").get("lastTransitionTime")
        since = seconds_of(told) if told else since
        return Phase(name, node, "is to go" if goes else "ready", seconds=max(now - since, 0.0), ready=True)
    phase = Phase(name, node, _word(pod, component, started=started), seconds=max(now - since, 0.0))
    if problem := pod_problem([pod]):
        return replace(phase, phase="cannot run", reason=problem.reason, message=problem.message)
    if phase.phase == LOADING and usual is not None:
        left = max(usual - phase.seconds, 0.0)
        return replace(phase, progress=min(phase.seconds / usual, 0.99), remaining_seconds=left)
    return phase


def _word(pod: Manifest, component: str, *, started: float | None) -> str:
    if condition(pod, "PodScheduled").get("status") != "True":
        return "waits for a node"
    if started is None:
        return "pulls its image"
    if was_up(pod):
        return "does not answer"
    return LOADING if component == names.WORKER else "starts"


def _started(pod: Manifest) -> float | None:
    """When the first container began to run; None: none does."""
    for status in pod.get("status", {}).get("containerStatuses", []):
        if began := status.get("state", {}).get("running", {}).get("startedAt"):
            return seconds_of(began)
        if "running" in status.get("state", {}):
            return seconds_of(pod["metadata"]["creationTimestamp"])
    return None


def seconds_of(time: str) -> float:
    """Read a time as the API server writes it."""
    return datetime.fromisoformat(time).timestamp()


def duration(seconds: float) -> str:
    """Write a duration as `kubectl` does: its two largest units at most."""
    whole = max(int(seconds), 0)  # the clock of a cluster may be ahead
    for size, unit, small, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size}{unit}" + (f"{rest}{smaller}" if rest and whole < 10 * size else "")
    return f"{whole}s"
