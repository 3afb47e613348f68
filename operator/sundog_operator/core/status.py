"""The status: computed from what was observed, never from what was done; kstatus-exact.

`Ready` is always there. `Reconciling` and `Stalled` are there only while they hold, and then `Ready` is not True
(https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sundog_operator.core import names
from sundog_operator.core.adapters import CONDITION, adapters_ready, adapters_status
from sundog_operator.core.autoscaling import active, decisions
from sundog_operator.core.deadline import is_overdue
from sundog_operator.core.errors import InvalidSpec
from sundog_operator.core.observed import HeadUnreachable, Observed, ServeState
from sundog_operator.core.problems import Problem, pod_problem, serve_problem, workload_problem
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.view import View, condition, is_part, is_ready, view
from sundog_operator.core.zero import not_holding

MAX_MESSAGE = 1024


def status(resolved: Resolved | InvalidSpec, observed: Observed, failure: str | None = None) -> dict[str, Any]:
    """Compute the whole status.

    Args:
        resolved: what the spec came to, or why nothing could be made of it.
        observed: the world before this pass's writes.
        failure: what the API server or a head said to a write of this pass that it refused.
    """
    generation = int(observed.resource["metadata"].get("generation", 0))
    if isinstance(resolved, InvalidSpec):
        before = {key: value for key, value in observed.resource.get("status", {}).items() if key != "conditions"}
        wanted = {"Ready": ("False", "InvalidSpec", str(resolved)), "Stalled": ("True", "InvalidSpec", str(resolved))}
        return {**before, "observedGeneration": generation, "conditions": _conditions(wanted, observed, generation)}
    seen = view(resolved, observed)
    revisions = [seen.current, *seen.others]
    return {
        "observedGeneration": generation,
        "replicas": sum(len(revision.pods) for revision in revisions),
        "readyReplicas": sum(revision.ready for revision in revisions),
        "updatedReplicas": len(seen.current.pods),
        "selector": f"{names.NAME_LABEL}={resolved.name},{names.COMPONENT_LABEL}={names.WORKER}",
        "url": resolved.url,
        "engine": {"name": resolved.spec.engine.name},
        "revisions": [
            {
                "name": f"{resolved.name}-{revision.hash}",
                "hash": revision.hash,
                "replicas": len(revision.pods),
                "ready": revision.ready,
                "current": revision is seen.current,
            }
            for revision in revisions
        ],
        **adapters_status(resolved, observed),
        "scaling": decisions(resolved, observed),
        "conditions": _conditions(_state(resolved, observed, seen, failure), observed, generation),
    }


_Wanted = dict[str, tuple[str, str, str]]


def _state(resolved: Resolved, observed: Observed, seen: View, failure: str | None) -> _Wanted:
    wanted: _Wanted = {"Available": _available(resolved, observed, seen), "Scheduled": _scheduled(seen)}
    if autoscaling := active(resolved, observed):
        wanted["AutoscalingActive"] = autoscaling
    if adapters := adapters_ready(resolved, observed):
        wanted[CONDITION] = adapters
    problem = _problem(resolved, observed, seen, failure)
    if problem is None and _is_whole(resolved, observed, seen):
        count = resolved.spec.replicas
        if count == 0:
            ready = ("True", "ScaledToZero", "no replica is asked for; requests are held until one is")
        else:
            ready = ("True", "AllReplicasReady", f"{count} of {count} replicas answer")
        return {"Ready": ready, **wanted}
    reason, message = (problem.reason, problem.message) if problem else _progress(resolved, observed, seen)
    wanted = {"Ready": ("False", reason, message), **wanted}
    if problem and not problem.curable_by_waiting:
        return {**wanted, "Stalled": ("True", reason, message)}
    return {**wanted, "Reconciling": ("True", reason, message)}


def _is_whole(resolved: Resolved, observed: Observed, seen: View) -> bool:
    target = resolved.spec.replicas
    return (
        not seen.others
        and seen.current.worker_replicas == len(seen.current.pods) == target
        and seen.current.is_complete(target)
        and _ready_routers(seen) >= resolved.spec.router.replicas
        and (target > 0 or not_holding(observed) is None)
    )


def _problem(resolved: Resolved, observed: Observed, seen: View, failure: str | None) -> Problem | None:
    if failure:
        return Problem("ApplyFailed", failure)
    current = seen.current
    heads = [pod for pod in observed.pods if is_part(pod, names.HEAD, revision=current.hash)]
    routers = [pod for pod in observed.pods if is_part(pod, names.ROUTER)]
    unready = [pod for pod in current.pods if not is_ready(pod)]
    found = (
        pod_problem(pod for pod in heads if not is_ready(pod))
        or pod_problem(unready)
        or pod_problem(pod for pod in routers if not is_ready(pod))
        or workload_problem(current.head)
        or workload_problem(current.worker)
        or workload_problem(seen.router)
    )
    if not found and isinstance(current.serve, ServeState) and current.ready < resolved.spec.replicas:
        found = serve_problem(current.serve)
    if is_overdue(resolved, observed, current):
        seconds = resolved.spec.rollout.progress_deadline_seconds
        cause = f": {found.message}" if found else "; see the log of its pod"
        message = f"a replica was not ready within spec.rollout.progressDeadlineSeconds ({seconds} s){cause}"
        return Problem(found.reason if found else "ProgressDeadlineExceeded", message, curable_by_waiting=False)
    return found


def _progress(resolved: Resolved, observed: Observed, seen: View) -> tuple[str, str]:
    """What is being waited for, when nothing is wrong: the first step that is not done."""
    current, target, routers = seen.current, resolved.spec.replicas, resolved.spec.router.replicas
    surplus = max(current.worker_replicas, len(current.pods)) - target
    not_held = not_holding(observed) if target == 0 else None
    unreachable = current.serve if isinstance(current.serve, HeadUnreachable) else None
    steps = (
        (not current.is_complete(target) and not current.head_is_ready, "HeadStarting", "the Ray head is starting"),
        (
            not current.is_complete(target) and unreachable is not None,
            "HeadUnreachable",
            unreachable.reason if unreachable else "",
        ),
        (
            current.ready < target,
            "ReplicasStarting",
            f"{current.ready} of {target} replicas answer; the others are loading the model",
        ),
        (
            surplus > 0,
            "ReplicasDraining",
            f"{surplus} of {target + surplus} replicas finish their requests before they go",
        ),
        (
            bool(seen.others),
            "OldRevisionDraining",
            "replicas of the old revision finish their requests before they go",
        ),
        (
            _ready_routers(seen) < routers,
            "RouterStarting",
            f"{_ready_routers(seen)} of {routers} routers are ready",
        ),
        (not_held is not None, "RouterStarting", f"requests would not be held yet: {not_held}"),
        (True, "Reconciling", "objects are being brought up to date"),
    )
    return next((reason, message) for holds, reason, message in steps if holds)


def _available(resolved: Resolved, observed: Observed, seen: View) -> tuple[str, str, str]:
    if not _ready_routers(seen):
        return "False", "NoRouterReady", "no router is ready"
    answering = [revision for revision in (seen.current, *seen.others) if revision.ready]
    if answering:
        which = ", ".join(f"{revision.ready} of revision {revision.hash}" for revision in answering)
        return (
            "True",
            "ReplicasAnswer",
            f"requests are answered by {which}" if len(answering) > 1 else "requests are answered",
        )
    if resolved.spec.replicas == 0 and seen.current.head_is_ready and not_holding(observed) is None:
        return "True", "RequestsHeld", "requests are held until there is a replica"
    return "False", "NoReplicaReady", "no replica answers"


def _scheduled(seen: View) -> tuple[str, str, str]:
    problem = pod_problem(pod for pod in seen.current.pods if condition(pod, "PodScheduled").get("status") == "False")
    if problem:
        return "False", problem.reason, problem.message
    return "True", "PodsScheduled", "every replica has a node"


def _ready_routers(seen: View) -> int:
    return int((seen.router or {}).get("status", {}).get("readyReplicas", 0))


def _conditions(wanted: _Wanted, observed: Observed, generation: int) -> list[dict[str, Any]]:
    """Keep the time of a condition whose status did not change; no heartbeat, so that nothing changes by itself."""
    now = datetime.fromtimestamp(observed.unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    result = []
    for kind, (state, reason, message) in sorted(wanted.items()):
        before = condition(observed.resource, kind)
        result.append(
            {
                "type": kind,
                "status": state,
                "reason": reason,
                "message": message[:MAX_MESSAGE],
                "observedGeneration": generation,
                "lastTransitionTime": before["lastTransitionTime"] if before.get("status") == state else now,
            }
        )
    return result
