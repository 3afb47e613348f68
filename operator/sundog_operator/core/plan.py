"""Desired against observed → the writes of this pass, each with its reason.

Rules that hold in every state:
- a worker pod goes only when Serve has no replica on it, and Serve takes a replica away only by draining it;
- an old revision's head stays until the new revision is whole;
- over an unchanged world the plan is empty.
"""

from __future__ import annotations

from sundog_operator.core import names, workloads
from sundog_operator.core.adapters import seconds_to_look_again
from sundog_operator.core.autoscaling import HPA, SCALED_OBJECT, autoscaler, made_by_us, unmet
from sundog_operator.core.builders import deployment as shared
from sundog_operator.core.builders import revision as builders
from sundog_operator.core.builders import router
from sundog_operator.core.builders.autoscaler import horizontal_pod_autoscaler, scaled_object
from sundog_operator.core.comparison import applied_hash, is_applied, with_applied_hash
from sundog_operator.core.deadline import seconds_to_available, seconds_to_deadline, seconds_to_slow_end
from sundog_operator.core.history import Entry, Withdrawal, changed
from sundog_operator.core.history import manifest as entry_manifest
from sundog_operator.core.judgement import verdict
from sundog_operator.core.names import Manifest, ObjectKey, key_of
from sundog_operator.core.observed import Observed, ServeState
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.view import RevisionView, View, is_part, view
from sundog_operator.core.writes import Apply, Create, Delete, Plan, Scale, ScaleServe, Write
from sundog_operator.core.zero import (
    LEAST_LOOK_AGAIN_SECONDS,
    ROUTERS_LOOK_AGAIN_SECONDS,
    refusal,
    replicas_for_demand,
    seconds_to_zero,
)

# No watch tells what Serve does. While replicas drain or a head does not answer, look again soon; while they load,
# which takes minutes and whose end the pods tell, rarely.
DRAINING_LOOK_AGAIN_SECONDS = 1.0
LOADING_LOOK_AGAIN_SECONDS = 5.0
# Where every pod is as it should be: what is waited for comes at any moment.
SETTLING_LOOK_AGAIN_SECONDS = 1.0


def make_plan(resolved: Resolved, observed: Observed) -> Plan:
    """Decide what to write now."""
    seen = view(resolved, observed)
    withdrawal = verdict(resolved, observed, seen)
    remembered = _history(resolved, seen, withdrawal)
    if withdrawal:
        # Nothing else is done in this pass: the next one sees another goal.
        return Plan(tuple(remembered), LEAST_LOOK_AGAIN_SECONDS)
    writes = [
        *_shared(resolved, observed, in_charge=seen.in_charge),
        *remembered,
        *_revisions(resolved, observed, seen),
        *_removals(resolved, observed, seen),
        *_autoscaling(resolved, observed, seen),
    ]
    return Plan(tuple(writes), _look_again(resolved, observed, seen))


def _history(resolved: Resolved, seen: View, withdrawal: Withdrawal | None) -> list[Write]:
    """Remember the revision that is asked for and what became of it, and forget the oldest."""
    if seen.holds_still:
        return []
    newest = max((entry.number for entry in seen.history.values()), default=0)
    writes: list[Write] = []
    if resolved.revision not in seen.history:
        writes.append(Apply(entry_manifest(resolved, number=newest + 1), "it is asked for"))
    for entry in seen.history.values():
        is_asked_for = entry.hash == resolved.revision
        number = newest + 1 if is_asked_for and entry.number < newest else entry.number
        served = entry.served or (seen.desired > 0 and seen.is_complete(entry.hash))
        withdrawn = (withdrawal or entry.withdrawn) if is_asked_for else None
        if (number, served, withdrawn) != (entry.number, entry.served, entry.withdrawn):
            manifest = changed(resolved, entry, number=number, served=served, withdrawn=withdrawn)
            writes.append(Apply(manifest, _fate(entry, number=number, served=served, withdrawn=withdrawn)))
    needed = {resolved.revision, seen.in_charge, *(each.hash for each in seen.revisions)}
    kept = resolved.spec.rollout.revision_history_limit
    others = [entry for entry in seen.history.values() if entry.hash not in needed]
    writes += [Delete(entry.key, entry.uid, "it is too old", irreversible=False) for entry in others[kept:]]
    return writes


def _fate(entry: Entry, *, number: int, served: bool, withdrawn: Withdrawal | None) -> str:
    """Say what has become of a revision."""
    if withdrawn and not entry.withdrawn:
        return f"revision {entry.hash} is withdrawn: {withdrawn.message}"
    if entry.withdrawn and not withdrawn:
        return "another revision is asked for: it may be tried again"
    return "it serves" if served and number == entry.number else "it is asked for again"


def _revisions(resolved: Resolved, observed: Observed, seen: View) -> list[Write]:
    """Bring the objects and heads of all revisions one step on."""
    writes: list[Write] = []
    for revision in seen.revisions:
        step, is_goal = seen.steps[revision.hash], revision is seen.goal
        if seen.holds_still if is_goal else _is_to_go(seen, revision):
            continue
        if revision.resolved and (is_goal or step.replicas):
            writes += _apply(builders.head_service(revision.resolved, revision.hash), observed)
            writes += workloads.objects(revision.resolved, observed, revision, step)
        else:
            writes += workloads.counted(resolved, observed, revision, step)
        writes += workloads.serve(observed, revision, step, is_goal=is_goal)
    return writes


def _is_to_go(seen: View, revision: RevisionView) -> bool:
    """Whether nothing of a leaving revision is needed any more, once its replicas are drained."""
    return revision.hash != seen.in_charge and not seen.steps[revision.hash].replicas


def _shared(resolved: Resolved, observed: Observed, *, in_charge: str) -> list[Write]:
    manifests = [
        shared.service_account(resolved),
        router.config_map(resolved),
        *shared.network_policies(resolved),
        *shared.disruption_budgets(resolved),
        shared.client_service(resolved),
        shared.replicas_service(resolved),
        shared.head_service(resolved, in_charge=in_charge),
        router.deployment(resolved),
    ]
    writes: list[Write] = []
    for manifest in manifests:
        writes += _apply(manifest, observed)
    # Whether the Secret exists can't be read. The router's Deployment is applied after it, and a pod that misses it
    # says so; creating it once more is harmless.
    router_deployment = ObjectKey("Deployment", names.router(resolved.name))
    if router_deployment not in observed.children or _misses_secret(resolved, observed):
        writes.insert(0, Create(shared.token_secret(resolved), "pods need the tokens"))
    elif _token_of(observed.children[router_deployment]) != resolved.token_secret:
        writes.insert(0, Create(shared.token_secret(resolved), "the tokens changed"))
    return writes


def _token_of(deployment: Manifest) -> str | None:
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        for variable in container.get("env", []):
            if variable["name"] == names.REPLICA_TOKEN_VARIABLE:
                return str(variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name"))
    return None


def _misses_secret(resolved: Resolved, observed: Observed) -> bool:
    return any(
        resolved.token_secret in status.get("state", {}).get("waiting", {}).get("message", "")
        for pod in observed.pods
        for status in pod.get("status", {}).get("containerStatuses", [])
    )


def _apply(manifest: Manifest, observed: Observed) -> list[Write]:
    wanted = with_applied_hash(manifest)
    found = observed.children.get(key_of(manifest))
    if found is None:
        return [Apply(wanted, "it does not exist")]
    if is_applied(wanted, found):
        return []
    reason = "it was changed by someone else" if applied_hash(found) == applied_hash(wanted) else "it is to change"
    return [Apply(wanted, reason)]


def _removals(resolved: Resolved, observed: Observed, seen: View) -> list[Write]:
    """Put the goal in charge once it is whole, and take away what has no replica any more."""
    goal = seen.goal
    if goal.is_complete(seen.desired) and seen.in_charge != goal.hash and not seen.paused:
        manifest = with_applied_hash(shared.head_service(resolved, in_charge=goal.hash))
        return [Apply(manifest, f"revision {goal.hash} is ready and takes over")]
    writes: list[Write] = []
    for other in seen.leaving:
        if not _is_to_go(seen, other):
            continue
        if other.application is not None and other.application.target_replicas:
            # Also where none has served: one that just begins to would wait on its node for a successor.
            writes.append(ScaleServe(other.hash, 0, f"revision {goal.hash} is in its place", irreversible=True))
        elif not other.may_have_requests:
            writes += _delete_revision(resolved, observed, other)
    return writes


def _delete_revision(resolved: Resolved, observed: Observed, revision: RevisionView) -> list[Write]:
    """Take the workers away, and the head when the last of their pods has gone.

    With its head a Ray node ends at once, without it only when its drain times out. And an operator that dies halfway
    must leave the head, for nobody else can tell its successor that the workers are empty.
    """
    reason = f"revision {revision.hash} has no replica any more"
    workers = ObjectKey("Deployment", names.revision_worker(resolved.name, revision.hash))
    if workers in observed.children:
        keys = [workers]
    elif any(is_part(pod, names.WORKER, revision=revision.hash) for pod in observed.pods):
        keys = []
    else:
        keys = [
            key
            for key, manifest in observed.children.items()
            if manifest["metadata"].get("labels", {}).get(names.REVISION_LABEL) == revision.hash
            and key.kind in {"Deployment", "Service", "PersistentVolumeClaim"}
            and key.name != names.head_service(resolved.name)
        ]
    found = [(key, observed.children[key]["metadata"]) for key in keys]
    return [Delete(key, metadata["uid"], reason) for key, metadata in found if not metadata.get("deletionTimestamp")]


def _autoscaling(resolved: Resolved, observed: Observed, seen: View) -> list[Write]:
    """The object that scales, and the steps to zero and from there that it leaves to the operator."""
    wanted, ours = autoscaler(resolved.spec), made_by_us(resolved)
    if wanted is None or unmet(resolved, observed):
        ours = None
    writes: list[Write] = [
        Delete(key, manifest["metadata"]["uid"], "it is not to scale any more", irreversible=False)
        for key, manifest in observed.children.items()
        if key.kind in {HPA, SCALED_OBJECT} and key != ours and not manifest["metadata"].get("deletionTimestamp")
    ]
    if wanted and ours:
        build = horizontal_pod_autoscaler if ours.kind == HPA else scaled_object
        writes += _apply(build(resolved, wanted), observed)
    if change := replicas_for_demand(resolved, observed, seen):
        replicas, reason = change
        writes.append(Scale(replicas, observed.resource["metadata"].get("resourceVersion", ""), reason))
    return writes


def _look_again(resolved: Resolved, observed: Observed, seen: View) -> float | None:
    goal = seen.goal
    asked = [revision for revision in seen.revisions if revision.serve is not None]
    waits = [seconds for seconds in [seconds_to_deadline(resolved, observed, goal)] if seconds is not None]
    if (left := seconds_to_available(resolved, observed, goal)) is not None:
        waits.append(max(left, LEAST_LOOK_AGAIN_SECONDS))
    if seen.leaving and (left := seconds_to_slow_end(observed, seen.revisions)) is not None:
        waits.append(max(left, LEAST_LOOK_AGAIN_SECONDS))
    if any(_is_draining(seen, revision) for revision in asked):
        waits.append(DRAINING_LOOK_AGAIN_SECONDS)
    elif goal.serve is not None and not _is_settled(seen):
        waits.append(LOADING_LOOK_AGAIN_SECONDS)
    elif seen.leaving and not seen.paused:
        # A pod may be ready a moment before Serve calls its replica running, or a head be slow to answer: until that is
        # told, nothing else goes.
        waits.append(SETTLING_LOOK_AGAIN_SECONDS)
    if (seconds := seconds_to_look_again(resolved, observed)) is not None:
        waits.append(seconds)
    if observed.routers and refusal(observed, desired=seen.desired):
        waits.append(ROUTERS_LOOK_AGAIN_SECONDS)
    if (left := seconds_to_zero(resolved, observed, seen)) is not None:
        waits.append(max(left, LEAST_LOOK_AGAIN_SECONDS))
    return min(waits, default=None)


def _is_draining(seen: View, revision: RevisionView) -> bool:
    return revision.worker_replicas > seen.steps[revision.hash].replicas


def _is_settled(seen: View) -> bool:
    goal, target = seen.goal, seen.desired
    return (
        goal.ready == len(goal.pods) == goal.worker_replicas == target
        and isinstance(goal.serve, ServeState)
        and goal.serve.target_replicas == target
    )
