"""`spec.autoscaling`: what it comes to, whether it works, and what was decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sundog_operator.api.types import LLMDeploymentSpec
from sundog_operator.core import names
from sundog_operator.core.comparison import quantity
from sundog_operator.core.load import Metric
from sundog_operator.core.names import Manifest, ObjectKey
from sundog_operator.core.observed import Observed
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.view import condition

HPA: Final = "HorizontalPodAutoscaler"
SCALED_OBJECT: Final = "ScaledObject"
METRICS: Final[Mapping[str, Metric]] = {
    "OngoingRequests": Metric.ONGOING_REQUESTS,
    "WaitingRequests": Metric.WAITING_REQUESTS,
    "KVCacheUtilization": Metric.KV_CACHE_UTILIZATION,
    "TokensPerSecond": Metric.TOKENS_PER_SECOND,
}
IDLE_SECONDS: Final = 900
TARGET: Final = (Metric.ONGOING_REQUESTS, "32")
BEHAVIOR: Final[Mapping[str, Any]] = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 60}],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 600,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
    },
}
DECISIONS: Final = 10
NOTICED_SECONDS: Final = 10.0
"""Between a HorizontalPodAutoscaler's write and a pass that has seen it, on a busy machine."""
_CONTROLLER_MANAGER: Final = "kube-controller-manager"
_SUNDOG: Final = "Sundog"
_UNNOTED: Final = "scale subresource"
_MANAGERS: Final = {
    _CONTROLLER_MANAGER: HPA,
    "keda-operator": "KEDA",
    names.SCALE_FIELD_MANAGER: _SUNDOG,
}
"""Who writes replicas, by field manager."""


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """What is to scale, with all defaults."""

    kind: Literal["HPA", "KEDA", "External"]
    min_replicas: int
    max_replicas: int
    idle_seconds: int | None
    """None: the last replica stays."""
    metrics: tuple[tuple[Metric, str], ...]
    """What is measured, and how much of it each replica should have, as a Kubernetes quantity."""
    behavior: Mapping[str, Any]


def autoscaler(spec: LLMDeploymentSpec) -> Autoscaler | None:
    """Decide what is to scale; None: nobody but a person."""
    wanted = spec.autoscaling
    if wanted is None:
        return None
    least = 1 if wanted.min_replicas is None else wanted.min_replicas
    return Autoscaler(
        kind=wanted.class_,
        min_replicas=least,
        max_replicas=wanted.max_replicas or 0,
        idle_seconds=None if least else wanted.idle_seconds or IDLE_SECONDS,
        metrics=tuple((METRICS[each.type], each.average_value) for each in wanted.metrics or ()) or (TARGET,),
        behavior={**BEHAVIOR, **(wanted.behavior or {})},
    )


def made_by_us(resolved: Resolved) -> ObjectKey | None:
    """Which object scales, of those that Sundog makes."""
    wanted = autoscaler(resolved.spec)
    if wanted is None or wanted.kind == "External" or resolved.spec.suspend:
        return None
    return ObjectKey(HPA if wanted.kind == "HPA" else SCALED_OBJECT, resolved.name)


def unmet(resolved: Resolved, observed: Observed) -> tuple[str, str] | None:
    """Say, as reason and message, why our scaler is not to be made; None: it is, or none is wanted."""
    ours = made_by_us(resolved)
    if ours is None:
        return None
    if name := _another(ours, observed):
        message = (
            f"HorizontalPodAutoscaler {name} scales this LLMDeployment already, and two would undo each other's work: "
            "delete it, or set spec.autoscaling.class to External"
        )
        return "AnotherAutoscaler", message
    if ours.kind == SCALED_OBJECT and not observed.keda:
        message = (
            "the cluster did not know ScaledObjects when the operator started: install KEDA and restart the operator, "
            "or set spec.autoscaling.class to HPA"
        )
        return "KEDANotFound", message
    if ours.kind == SCALED_OBJECT and not resolved.config.metrics_service:
        message = (
            "KEDA would ask the operator's metrics Service, which is switched off: set metrics.service.enabled in the "
            "chart's values"
        )
        return "MetricsServiceMissing", message
    return None


def _another(ours: ObjectKey, observed: Observed) -> str | None:
    """Name a scaler of someone else; KEDA's own, made for our ScaledObject, is none."""
    for manifest in observed.other_autoscalers:
        owners = manifest["metadata"].get("ownerReferences") or ()
        if ours.kind != SCALED_OBJECT or all(owner.get("kind") != SCALED_OBJECT for owner in owners):
            return str(manifest["metadata"]["name"])
    return None


def active(resolved: Resolved, observed: Observed) -> tuple[str, str, str] | None:
    """Give status, reason and message of AutoscalingActive; None: no autoscaling is set.

    The autoscaler's own conditions, in plain words and without what changes with each of its looks.
    """
    wanted = autoscaler(resolved.spec)
    if wanted is None:
        return None
    if resolved.spec.suspend:
        return "Unknown", "Suspended", "spec.suspend is true: the number of replicas is left as it is meanwhile"
    if wanted.kind == "External":
        return "Unknown", "External", "an autoscaler of your own is to scale; Sundog makes none"
    if obstacle := _obstacle(resolved, observed, wanted):
        return "False", *obstacle
    if resolved.spec.replicas == 0:
        return "True", "ScaledToZero", "the next request brings a replica back"
    made = observed.children.get(ObjectKey(HPA if wanted.kind == "HPA" else SCALED_OBJECT, resolved.name), {})
    return _of_hpa(made, wanted) if wanted.kind == "HPA" else _of_scaled_object(made)


def _obstacle(resolved: Resolved, observed: Observed, wanted: Autoscaler) -> tuple[str, str] | None:
    """Say, as reason and message, what keeps the autoscaler from its work, where it cannot know itself."""
    if found := unmet(resolved, observed):
        return found
    if wanted.kind == "HPA" and observed.custom_metrics_trouble:
        return "MetricsUnavailable", observed.custom_metrics_trouble
    if rival := _rival(observed):
        message = f"field manager {rival} sets spec.replicas as well: leave replicas out of what it applies"
        return "ReplicasContended", message
    if resolved.spec.replicas == 0 and wanted.idle_seconds is None:
        message = f"replicas is 0 and minReplicas {wanted.min_replicas}: autoscaling rests until replicas is set to 1"
        return "Resting", message
    return None


def _of_hpa(made: Manifest, wanted: Autoscaler) -> tuple[str, str, str]:
    scaling, able = condition(made, "ScalingActive"), condition(made, "AbleToScale")
    if not scaling:
        return "Unknown", "Starting", "the HorizontalPodAutoscaler has not looked yet"
    if able.get("status") == "False":
        return "False", str(able.get("reason")), f"replicas cannot be changed: {able.get('message')}"
    if scaling.get("status") == "False":
        message = str(scaling.get("message", "")).removeprefix("the HPA was unable to compute the replica count: ")
        return "False", "MetricsUnavailable", f"the number of replicas is held: {message}"
    limited = condition(made, "ScalingLimited")
    if limited.get("status") == "True" and limited.get("reason") == "TooManyReplicas":
        return "True", "AtMaximum", f"more than spec.autoscaling.maxReplicas ({wanted.max_replicas}) would be needed"
    return "True", "Scaling", f"between {wanted.min_replicas} and {wanted.max_replicas} replicas, as the load asks for"


def _of_scaled_object(made: Manifest) -> tuple[str, str, str]:
    ready = condition(made, "Ready")
    if not ready:
        return "Unknown", "Starting", "KEDA has not looked yet"
    if ready.get("status") != "True":
        return "False", "KEDA", f"KEDA says: {ready.get('message')}"
    return "True", "Scaling", "KEDA scales as the load asks for"


def _rival(observed: Observed) -> str | None:
    """Tell who applies a manifest with replicas in it, which undoes what the autoscaler does."""
    for entry in observed.resource["metadata"].get("managedFields", ()):
        applied = entry.get("operation") == "Apply" or entry.get("manager") == "kubectl-client-side-apply"
        if applied and entry.get("manager") not in _MANAGERS and not entry.get("subresource"):
            return str(entry["manager"])
    return None


def decisions(resolved: Resolved, observed: Observed) -> list[dict[str, Any]]:
    """Give `status.scaling`: what it was, the last one completed, and the one that was just noticed."""
    known: list[dict[str, Any]] = list(observed.resource.get("status", {}).get("scaling", []))
    replicas = resolved.spec.replicas
    before = known[-1]["to"] if known else 0
    if not known or before != replicas:
        time = datetime.fromtimestamp(observed.unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        known.append({"time": time, "from": before, "to": replicas, "who": _who(observed, replicas)})
    last = known[-1]
    if last["who"] == _UNNOTED and _is_of_hpa(resolved, observed, last):
        last = {**last, "who": HPA}
    if last["who"] == HPA and "metric" not in last:
        last = {**last, **_measured(resolved, observed, last)}
    known[-1] = last
    return _with_victims(known, observed.pods)[-DECISIONS:]


def sentence(decision: Mapping[str, Any]) -> str:
    """Tell a decision to people."""
    text = f"replicas {decision['from']} → {decision['to']} by {decision['who']}"
    if "metric" in decision:
        value, target = _plain(decision["value"]), _plain(decision["target"])
        text += f": {decision['metric']} is {value} for each replica, and should be {target}"
    return text


def _plain(amount: str) -> str:
    """Write a Kubernetes quantity as people read it: 1.5 and not 1500m."""
    number = quantity(amount)
    return amount if number is None else f"{number.normalize():f}"


def is_told(decision: Mapping[str, Any]) -> bool:
    """Whether all is known that `sentence` should say; the HorizontalPodAutoscaler tells its reason a moment later."""
    if decision["who"] == _UNNOTED:
        return bool(decision["to"] == 0)
    return decision["who"] != HPA or "metric" in decision


def _who(observed: Observed, replicas: int) -> str:
    if observed.scaled_to == replicas:
        return _SUNDOG
    entries = observed.resource["metadata"].get("managedFields", ())
    managers = [str(entry["manager"]) for entry in sorted(entries, key=lambda each: not each.get("subresource"))]
    if not managers:
        # Of a 0, and of any number that nobody owned before, the API server does not note who wrote it by the scale
        # subresource (https://github.com/kubernetes/kubernetes/issues/131892). The first number of all is a default.
        return _UNNOTED if observed.resource.get("status", {}).get("scaling") else "default"
    return _MANAGERS.get(managers[0], managers[0])


def _is_of_hpa(resolved: Resolved, observed: Observed, decision: Mapping[str, Any]) -> bool:
    """Whether our HorizontalPodAutoscaler says that it has just set this number."""
    status = observed.children.get(ObjectKey(HPA, resolved.name), {}).get("status", {})
    scaled = status.get("lastScaleTime")
    if scaled is None or status.get("desiredReplicas") != decision["to"]:
        return False
    seconds = datetime.fromisoformat(scaled).timestamp() - datetime.fromisoformat(decision["time"]).timestamp()
    return abs(seconds) <= NOTICED_SECONDS


def _measured(resolved: Resolved, observed: Observed, decision: Mapping[str, Any]) -> dict[str, str]:
    """What the HorizontalPodAutoscaler rested it on: of its metrics, the one that is furthest above its target."""
    made = observed.children.get(ObjectKey(HPA, resolved.name), {})
    status = made.get("status", {})
    if status.get("desiredReplicas") != decision["to"]:
        return {}
    targets = {
        metric["object"]["metric"]["name"]: metric["object"]["target"] for metric in made["spec"].get("metrics", ())
    }
    found = []
    for metric in status.get("currentMetrics") or ():
        current = metric.get("object", {}).get("current", {})
        name = metric.get("object", {}).get("metric", {}).get("name", "")
        field = "value" if targets.get(name, {}).get("type") == "Value" else "averageValue"
        value, target = current.get(field), targets.get(name, {}).get(field)
        ratio = (quantity(value) or 0) / (quantity(target) or 1)
        if value is not None and target is not None:
            found.append((ratio, {"metric": name, "value": str(value), "target": str(target)}))
    return max(found, key=lambda each: each[0])[1] if found else {}


def _with_victims(decisions: list[dict[str, Any]], pods: Iterable[Manifest]) -> list[dict[str, Any]]:
    """Name the pods that Serve has emptied: to the oldest decision that waits for some, for drains take their time."""
    named = {name for decision in decisions for name in decision.get("victims", ())}
    marked = sorted(
        pod["metadata"]["name"]
        for pod in pods
        if names.POD_DELETION_COST_ANNOTATION in pod["metadata"].get("annotations", {})
    )
    left = [name for name in marked if name not in named]
    result = []
    for decision in decisions:
        have = list(decision.get("victims", ()))
        more = max(decision["from"] - decision["to"] - len(have), 0)
        have, left = have + left[:more], left[more:]
        result.append({**decision, "victims": have} if have else decision)
    return result
