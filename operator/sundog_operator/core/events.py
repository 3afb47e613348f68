"""Events: for transitions only, each once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sundog_operator.core.adapters import CONDITION
from sundog_operator.core.autoscaling import is_told, sentence
from sundog_operator.core.view import condition


@dataclass(frozen=True, slots=True)
class Event:
    """One Kubernetes Event on the LLMDeployment."""

    type: str
    """`Normal` or `Warning`."""
    reason: str
    message: str


# Reasons of Ready=False that are ordinary steps, not problems.
_STEPS = {
    "HeadStarting",
    "ReplicasStarting",
    "ReplicasDraining",
    "OldRevisionDraining",
    "Paused",
    "RollingOut",
    "RouterStarting",
    "Suspending",
    "Reconciling",
}


def transitions(old_status: dict[str, Any], new_status: dict[str, Any]) -> tuple[Event, ...]:
    """Tell what changed between two statuses: the reason of Ready is what people follow, and who scales, and why."""
    events = [*_decision(old_status, new_status)]
    before, after = condition({"status": old_status}, "Ready"), condition({"status": new_status}, "Ready")
    if (before.get("status"), before.get("reason")) != (after.get("status"), after.get("reason")):
        kind = "Normal" if after.get("status") == "True" or after.get("reason") in _STEPS else "Warning"
        events.append(Event(kind, str(after.get("reason")), str(after.get("message"))))
    before = condition({"status": old_status}, "AutoscalingActive")
    after = condition({"status": new_status}, "AutoscalingActive")
    if after and before.get("status") != after.get("status") and "False" in {before.get("status"), after.get("status")}:
        kind = "Warning" if after.get("status") == "False" else "Normal"
        reason = "AutoscalingInactive" if after.get("status") == "False" else "AutoscalingActive"
        events.append(Event(kind, reason, str(after.get("message"))))
    before, after = condition({"status": old_status}, CONDITION), condition({"status": new_status}, CONDITION)
    if before.get("reason") != after.get("reason") and after.get("reason") in {"AdaptersLoaded", "AdapterFailed"}:
        kind = "Warning" if after["status"] == "False" else "Normal"
        events.append(Event(kind, str(after["reason"]), str(after["message"])))
    return tuple(events)


def _decision(old_status: dict[str, Any], new_status: dict[str, Any]) -> tuple[Event, ...]:
    """Tell a change of the number of replicas, once all is known of it; the first number of all is none."""
    old, new = old_status.get("scaling", []), new_status.get("scaling", [])
    if not old or not new or not is_told(new[-1]):
        return ()
    same = old[-1].get("time") == new[-1].get("time") and old[-1].get("to") == new[-1].get("to")
    if same and is_told(old[-1]):
        return ()
    reason = "ScaledUp" if new[-1]["to"] > new[-1]["from"] else "ScaledDown"
    return (Event("Normal", reason, sentence(new[-1])),)
