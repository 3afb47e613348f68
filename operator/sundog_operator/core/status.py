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
from sundog_operator.core.deadline import slow_ends
from sundog_operator.core.errors import InvalidSpec
from sundog_operator.core.history import Withdrawal
from sundog_operator.core.judgement import ROLLED_BACK, problem
from sundog_operator.core.observed import HeadUnreachable, Observed
from sundog_operator.core.problems import Problem, pod_problem
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.view import RevisionView, View, condition, refuses, view, was_up
from sundog_operator.core.zero import not_holding, refusal

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
    return {
        "observedGeneration": generation,
        "replicas": sum(len(revision.pods) for revision in seen.revisions),
        "readyReplicas": sum(revision.ready for revision in seen.revisions),
        "updatedReplicas": len(seen.current.pods),
        "selector": f"{names.NAME_LABEL}={resolved.name},{names.COMPONENT_LABEL}={names.WORKER}",
        "url": resolved.url,
        "engine": {"name": resolved.spec.engine.name},
        "revisions": _revisions(resolved, seen),
        **adapters_status(resolved, observed),
        "scaling": decisions(resolved, observed),
        "conditions": _conditions(_state(resolved, observed, seen, failure), observed, generation),
    }


def _revisions(resolved: Resolved, seen: View) -> list[dict[str, Any]]:
    live = {revision.hash: revision for revision in (seen.current, *seen.revisions)}
    hashes = [*(revision for revision in live if revision not in seen.history), *seen.history]
    return [
        {
            "name": names.revision(resolved.name, revision),
            "hash": revision,
            "replicas": len(live[revision].pods) if revision in live else 0,
            "ready": live[revision].ready if revision in live else 0,
            "current": revision == seen.current.hash,
            "state": _state_of(seen, revision, live.get(revision)),
        }
        for revision in hashes
    ]


def _state_of(seen: View, revision: str, found: RevisionView | None) -> str:
    if revision == seen.current.hash and seen.withdrawn:
        return "Withdrawn"
    if found is None or (not found.exists and found is not seen.goal):
        return "Kept"
    if found is seen.goal or seen.steps[revision].replicas:
        return "Serving" if found.ready or revision == seen.in_charge else "Starting"
    return "Draining"


_Wanted = dict[str, tuple[str, str, str]]


def _state(resolved: Resolved, observed: Observed, seen: View, failure: str | None) -> _Wanted:
    wanted: _Wanted = {"Available": _available(resolved, observed, seen), "Scheduled": _scheduled(seen)}
    if autoscaling := active(resolved, observed):
        wanted["AutoscalingActive"] = autoscaling
    if adapters := adapters_ready(resolved, observed):
        wanted[CONDITION] = adapters
    if seen.withdrawn and not failure:
        told = _rolled_back(seen, seen.withdrawn)
        return {**wanted, "Ready": ("False", *told), "Stalled": ("True", *told)}
    found = Problem("ApplyFailed", failure) if failure else problem(resolved, observed, seen, seen.goal)
    if found is None and _is_whole(resolved, observed, seen):
        count = seen.desired
        if resolved.spec.suspend:
            ready = ("True", "Suspended", "all replicas are drained, and requests are answered with 503")
        elif count == 0:
            ready = ("True", "ScaledToZero", "no replica is asked for; requests are held until one is")
        else:
            ready = ("True", "AllReplicasReady", f"{count} of {count} replicas answer")
        return {"Ready": ready, **wanted}
    reason, message = (found.reason, found.message) if found else _progress(resolved, observed, seen)
    wanted = {"Ready": ("False", reason, message), **wanted}
    if found and not found.curable_by_waiting:
        return {**wanted, "Stalled": ("True", reason, message)}
    return {**wanted, "Reconciling": ("True", reason, message)}


def _rolled_back(seen: View, withdrawn: Withdrawal) -> tuple[str, str]:
    why = f"revision {seen.current.hash} was withdrawn ({withdrawn.reason}: {withdrawn.message})"
    return ROLLED_BACK, f"{why}; revision {seen.goal.hash} is kept until the spec changes"


def _is_whole(resolved: Resolved, observed: Observed, seen: View) -> bool:
    target, goal = seen.desired, seen.goal
    if resolved.spec.suspend and seen.router and not refuses(seen.router, resolved):
        return False
    return (
        not seen.leaving
        and goal.worker_replicas == len(goal.pods) == target
        and goal.is_complete(target)
        and _ready_routers(seen) >= resolved.spec.router.replicas
        and (resolved.spec.suspend or refusal(observed, desired=seen.desired) is None)
    )


def _progress(resolved: Resolved, observed: Observed, seen: View) -> tuple[str, str]:
    """What is being waited for, when nothing is wrong: the first step that is not done."""
    goal, target, routers = seen.goal, seen.desired, resolved.spec.router.replicas
    surplus = max(goal.worker_replicas, len(goal.pods)) - target
    refused = None if resolved.spec.suspend else refusal(observed, desired=seen.desired)
    unreachable = goal.serve if isinstance(goal.serve, HeadUnreachable) else None
    steps = (
        (resolved.spec.suspend and target > 0, "Suspending", "the routers are being told to refuse requests"),
        (bool(seen.leaving) and seen.paused, "Paused", f"the rollout is paused: {_counts(observed, seen)}"),
        (bool(seen.leaving) and target > 0, "RollingOut", _counts(observed, seen)),
        (not goal.is_complete(target) and not goal.head_is_ready, "HeadStarting", "the Ray head is starting"),
        (
            not goal.is_complete(target) and unreachable is not None,
            "HeadUnreachable",
            unreachable.reason if unreachable else "",
        ),
        (
            goal.available < target,
            "ReplicasStarting",
            _still_starting(resolved, seen),
        ),
        (
            surplus > 0,
            "ReplicasDraining",
            f"{surplus} of {target + surplus} replicas finish their requests before they go",
        ),
        (
            bool(seen.leaving),
            "OldRevisionDraining",
            "replicas of the old revision finish their requests before they go",
        ),
        (
            _ready_routers(seen) < routers,
            "RouterStarting",
            f"{_ready_routers(seen)} of {routers} routers are ready",
        ),
        (refused is not None, "RouterStarting", f"requests would be refused yet: {refused}"),
        (True, "Reconciling", "objects are being brought up to date"),
    )
    return next((reason, message) for holds, reason, message in steps if holds)


def _still_starting(resolved: Resolved, seen: View) -> str:
    answer = f"{seen.goal.ready} of {seen.desired} replicas answer"
    if seen.goal.ready < seen.desired:
        return f"{answer}; the others are loading the model"
    return f"{answer}; they must do so for spec.rollout.minReadySeconds ({resolved.spec.rollout.min_ready_seconds} s)"


def _counts(observed: Observed, seen: View) -> str:
    """Where a rollout stands: what changes only with a step, and not with each probe that fails on a busy node."""
    of_the_old = sum(seen.steps[each.hash].replicas for each in seen.leaving)
    new = min(sum(was_up(pod) for pod in seen.goal.pods), seen.desired)
    told = f"{new} of {seen.desired} replicas are of revision {seen.goal.hash}, {of_the_old} of the old"
    silent = [each.serve.reason for each in seen.leaving if isinstance(each.serve, HeadUnreachable)]
    if silent:
        return f"{told}; it cannot be drained: {silent[0]}"
    if slow := slow_ends(observed, seen.revisions):
        pod = slow[0]["metadata"]
        return f"{told}; pod {pod['name']} ends, with its requests, by {pod['deletionTimestamp']} at the latest"
    return told


def _available(resolved: Resolved, observed: Observed, seen: View) -> tuple[str, str, str]:
    if not _ready_routers(seen):
        return "False", "NoRouterReady", "no router is ready"
    answering = [revision for revision in seen.revisions if revision.answering]
    if answering:
        which = ", ".join(f"{revision.answering} of revision {revision.hash}" for revision in answering)
        return (
            "True",
            "ReplicasAnswer",
            f"requests are answered by {which}" if len(answering) > 1 else "requests are answered",
        )
    if resolved.spec.suspend:
        return "False", "Suspended", "requests are answered with 503"
    if seen.desired == 0 and seen.goal.head_is_ready and not_holding(observed) is None:
        return "True", "RequestsHeld", "requests are held until there is a replica"
    return "False", "NoReplicaReady", "no replica answers"


def _scheduled(seen: View) -> tuple[str, str, str]:
    problem = pod_problem(pod for pod in seen.goal.pods if condition(pod, "PodScheduled").get("status") == "False")
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
