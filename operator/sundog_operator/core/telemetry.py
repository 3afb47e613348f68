"""What Prometheus is told of one LLMDeployment beside its load: what is wanted, what there is, what is promised."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sundog_operator.core.names import Manifest, ObjectKey

# The bounds of vLLM's histograms (vllm/v1/metrics/buckets.py, 0.32). How many requests kept a promise can be counted at
# a bound only.
BOUNDS: Final[Mapping[str, tuple[float, ...]]] = {
    "time_to_first_token": (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0),
        *(80.0, 160.0, 640.0, 2560.0),
    ),
    "inter_token_latency": (
        *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
    ),
}
_FIELDS: Final = {
    "time_to_first_token": "timeToFirstTokenMilliseconds",
    "inter_token_latency": "interTokenMilliseconds",
}
PERCENT: Final = 95


@dataclass(frozen=True, slots=True)
class Objective:
    """One promise of `spec.slo`."""

    name: str
    """`time_to_first_token` or `inter_token_latency`."""
    seconds: float
    bound: str
    """The first bound of the histogram that is not below it, as the label `le` has it."""
    share: float
    """Of the requests (of the tokens) that must keep it, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One LLMDeployment."""

    namespace: str
    name: str
    desired_replicas: int
    ready_replicas: int
    max_replicas: int | None
    """None: no autoscaling."""
    revisions: int
    """With replicas: more than one during a rollout."""
    conditions: tuple[tuple[str, str, str], ...]
    """Type, status and reason."""
    objectives: tuple[Objective, ...]
    last_scaling: tuple[str, float] | None
    """Who changed the number of replicas last, and when, in Unix seconds."""
    head_state_is_volatile: bool
    """Whether a head keeps its state in its pod: a head that is lost restarts its replicas."""


def telemetry(resource: Manifest, children: Collection[ObjectKey]) -> Telemetry:
    """Read it from the resource, and from which objects belong to it."""
    spec, status, metadata = resource["spec"], resource.get("status") or {}, resource["metadata"]
    scaling = status.get("scaling") or ()
    heads = {key.name for key in children if key.kind == "Deployment" and key.name.endswith("-head")}
    claims = {key.name for key in children if key.kind == "PersistentVolumeClaim"}
    return Telemetry(
        namespace=metadata["namespace"],
        name=metadata["name"],
        desired_replicas=int(spec.get("replicas", 1)),
        ready_replicas=int(status.get("readyReplicas", 0)),
        max_replicas=(spec.get("autoscaling") or {}).get("maxReplicas"),
        revisions=sum(1 for each in status.get("revisions") or () if each["replicas"]),
        conditions=tuple((each["type"], each["status"], each["reason"]) for each in status.get("conditions") or ()),
        objectives=_objectives(spec.get("slo") or {}),
        last_scaling=(scaling[-1]["who"], datetime.fromisoformat(scaling[-1]["time"]).timestamp()) if scaling else None,
        head_state_is_volatile=not heads <= claims,
    )


def _objectives(slo: Manifest) -> tuple[Objective, ...]:
    share = slo.get("percent", PERCENT) / 100
    return tuple(
        Objective(name, slo[field] / 1000, _bound(BOUNDS[name], slo[field] / 1000), share)
        for name, field in _FIELDS.items()
        if field in slo
    )


def _bound(bounds: tuple[float, ...], seconds: float) -> str:
    at = bisect_left(bounds, seconds)
    return str(bounds[at]) if at < len(bounds) else "+Inf"
