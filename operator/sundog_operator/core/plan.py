"""Desired against observed → the writes of this pass, each with its reason.

Rules that hold in every state:
- a worker pod goes only when Serve has no replica on it, and Serve takes a replica away only by draining it;
- a new revision is whole and Ready before the old one is touched;
- over an unchanged world the plan is empty.
"""

from __future__ import annotations

from sundog_operator.core import names
from sundog_operator.core.adapters import seconds_to_look_again
from sundog_operator.core.autoscaling import HPA, SCALED_OBJECT, autoscaler, made_by_us, unmet
from sundog_operator.core.builders import deployment as shared
from sundog_operator.core.builders import revision as builders
from sundog_operator.core.builders import router
from sundog_operator.core.builders.autoscaler import horizontal_pod_autoscaler, scaled_object
from sundog_operator.core.comparison import applied_hash, is_applied, with_applied_hash
from sundog_operator.core.deadline import seconds_to_deadline
from sundog_operator.core.names import Manifest, ObjectKey, key_of
from sundog_operator.core.observed import Observed, ServeState
from sundog_operator.core.problems import serve_problem
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.serve_config import attempt_of, is_deployed, serve_config
from sundog_operator.core.view import RevisionView, View, is_part, view
from sundog_operator.core.writes import Apply, Create, Delete, Plan, PutServe, Scale, ScaleServe, Write
from sundog_operator.core.zero import (
    HOLDING_LOOK_AGAIN_SECONDS,
    LEAST_LOOK_AGAIN_SECONDS,
    not_holding,
    replicas_for_demand,
    seconds_to_zero,
)

# No watch tells what Serve does. While replicas drain or a head does not answer, look again soon; while they load,
# which takes minutes and whose end the pods tell, rarely.
DRAINING_LOOK_AGAIN_SECONDS = 1.0
LOADING_LOOK_AGAIN_SECONDS = 5.0
# From one PUT to the next, when Serve has given up: a model that is being copied, a hub that is away.
RETRY_SECONDS = 30.0
VICTIM_COST = "-1000"


def make_plan(resolved: Resolved, observed: Observed) -> Plan:
    """Decide what to write now."""
    seen = view(resolved, observed)
    writes = [
        *_shared(resolved, observed, in_charge=seen.in_charge),
        *_revision(resolved, observed, seen.current),
        *_serve(resolved, observed, seen.current),
        *_removals(resolved, observed, seen),
        *_autoscaling(resolved, observed, seen),
    ]
    return Plan(tuple(writes), _look_again(resolved, observed, seen))


def _shared(resolved: Resolved, observed: Observed, *, in_charge: str) -> list[Write]:
    current = resolved.revision
    manifests = [
        shared.service_account(resolved),
        router.config_map(resolved),
        *shared.network_policies(resolved),
        *shared.disruption_budgets(resolved),
        shared.client_service(resolved),
        shared.replicas_service(resolved),
        shared.head_service(resolved, in_charge=in_charge),
        router.deployment(resolved),
        builders.head_service(resolved, current),
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


def _revision(resolved: Resolved, observed: Observed, current: RevisionView) -> list[Write]:
    """Objects of the current revision, the worker count included."""
    writes: list[Write] = []
    claim_key = ObjectKey("PersistentVolumeClaim", names.revision_head(resolved.name, current.hash))
    if current.head is None:
        state_on_claim = observed.default_storage_class or bool(resolved.spec.ray.head.storage.storage_class_name)
    else:
        state_on_claim = _uses_claim(current.head)
    if state_on_claim and claim_key not in observed.children:
        # A claim's spec can't be changed: it is applied once.
        writes.append(Apply(with_applied_hash(builders.head_claim(resolved, current.hash)), "it does not exist"))
    head = builders.head_deployment(resolved, current.hash, state_on_claim=state_on_claim)
    writes += _apply_workload(head, current.head)
    replicas, victims = _worker_replicas(resolved, current)
    writes += [
        Apply(_pod_patch(resolved, pod, cost=VICTIM_COST), "Serve has drained it: it goes first")
        for pod in victims
        if not _has_cost(pod)
    ]
    if victims and not all(_has_cost(pod) for pod in victims):
        replicas = current.worker_replicas  # lowered once the marks have been seen
    writes += [
        Apply(_pod_patch(resolved, pod, cost=None), "it is needed after all")
        for pod in current.pods
        if _has_cost(pod) and replicas >= len(current.pods)
    ]
    worker = builders.worker_deployment(resolved, current.hash, replicas=replicas)
    writes += _apply_workload(worker, current.worker)
    return writes


def _uses_claim(head: Manifest) -> bool:
    return any("persistentVolumeClaim" in volume for volume in head["spec"]["template"]["spec"].get("volumes", []))


def _apply_workload(manifest: Manifest, found: Manifest | None) -> list[Write]:
    """Apply a Deployment of a revision; its pods must not restart because an upgraded operator renders them otherwise.

    The hash is taken over the pod template only. Where it is still the one that was applied, a template that differs
    was edited by someone and is set back; where it is another, the template stays as it is.
    """
    template = manifest["spec"]["template"]
    wanted_hash = applied_hash(with_applied_hash({"metadata": {}, "template": template}))
    if found is not None and applied_hash(found) not in {None, wanted_hash}:
        manifest = {**manifest, "spec": {**manifest["spec"], "template": found["spec"]["template"]}}
        wanted_hash = applied_hash(found)
    annotations = {names.APPLIED_HASH_ANNOTATION: wanted_hash}
    manifest = {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}
    if found is None:
        return [Apply(manifest, "it does not exist")]
    if is_applied(manifest, found):
        return []
    before, after = int(found["spec"].get("replicas", 1)), int(manifest["spec"]["replicas"])
    if before != after:
        reason = f"replicas {before} → {after}"
        return [Apply(manifest, reason, irreversible=after < before)]
    return [Apply(manifest, "it was changed by someone else")]


def _worker_replicas(resolved: Resolved, current: RevisionView) -> tuple[int, tuple[Manifest, ...]]:
    """How many worker pods to ask for now, and which pods are to go."""
    target, asked = resolved.spec.replicas, current.worker_replicas
    if current.worker is None or target >= asked:
        return target, ()
    if not current.may_have_requests and not isinstance(current.serve, ServeState):
        return target, ()  # no replica was ever up
    if not isinstance(current.serve, ServeState):
        return asked, ()  # only the head can tell which pods are empty
    if current.serve.target_replicas is not None and current.serve.target_replicas > target:
        return asked, ()  # Serve is lowered first
    missing = max(asked - len(current.pods), 0)  # pods that were never made, or are ending already
    empty = sorted(current.pods_without_replica, key=lambda pod: (not _has_cost(pod), pod["metadata"]["name"]))
    victims = tuple(empty[: max(asked - target - missing, 0)])
    return max(asked - missing - len(victims), target), victims


def _has_cost(pod: Manifest) -> bool:
    return names.POD_DELETION_COST_ANNOTATION in pod["metadata"].get("annotations", {})


def _pod_patch(resolved: Resolved, pod: Manifest, *, cost: str | None) -> Manifest:
    metadata: Manifest = {
        "name": pod["metadata"]["name"],
        "namespace": resolved.namespace,
        "uid": pod["metadata"]["uid"],
    }
    if cost is not None:
        metadata["annotations"] = {names.POD_DELETION_COST_ANNOTATION: cost}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def _serve(resolved: Resolved, observed: Observed, current: RevisionView) -> list[Write]:
    """What the head of the current revision must be told."""
    if not isinstance(current.serve, ServeState):
        return []
    target = resolved.spec.replicas
    state = current.serve
    attempt = attempt_of(state.deployed_config)
    if not is_deployed(serve_config(resolved, replicas=target), state.deployed_config):
        # A PUT sets the count back: while replicas are being drained it must not start them again, nor drain more.
        count = state.target_replicas if state.target_replicas is not None else target
        config = serve_config(resolved, replicas=count, attempt=attempt)
        return [PutServe(current.hash, config, "the application is to change")]
    if _is_to_be_retried(observed, state):
        config = serve_config(resolved, replicas=target, attempt=attempt + 1)
        return [PutServe(current.hash, config, "to try a failed start again")]
    if state.target_replicas is None or state.target_replicas == target:
        return []
    reason = f"replicas {state.target_replicas} → {target}"
    return [ScaleServe(current.hash, target, reason, irreversible=target < state.target_replicas)]


def _is_to_be_retried(observed: Observed, state: ServeState) -> bool:
    """Whether Serve has given up (after three tries) what something outside the spec may have cured since."""
    if state.application_status != "DEPLOY_FAILED":
        return False
    problem = serve_problem(state)
    waited = observed.unix_seconds - state.deployed_unix_seconds
    return (problem is None or problem.curable_by_waiting) and waited >= RETRY_SECONDS


def _removals(resolved: Resolved, observed: Observed, seen: View) -> list[Write]:
    """Take other revisions away: what never served at once, what serves only when the current one is whole."""
    writes: list[Write] = []
    if seen.current.is_complete(resolved.spec.replicas) and seen.in_charge != resolved.revision:
        manifest = with_applied_hash(shared.head_service(resolved, in_charge=resolved.revision))
        return [Apply(manifest, f"revision {resolved.revision} is ready and takes over")]
    for other in seen.others:
        if other.hash == seen.in_charge:
            continue  # kept until the current one is whole
        if not other.may_have_requests:
            writes += _delete_revision(resolved, observed, other)
        elif isinstance(other.serve, ServeState) and other.serve.target_replicas:
            writes.append(ScaleServe(other.hash, 0, "another revision has taken over", irreversible=True))
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
    current = seen.current
    asked = [revision for revision in (current, *seen.others) if revision.serve is not None]
    waits = [seconds for seconds in [seconds_to_deadline(resolved, observed, current)] if seconds is not None]
    if any(_is_draining(resolved, revision, is_current=revision is current) for revision in asked):
        waits.append(DRAINING_LOOK_AGAIN_SECONDS)
    elif current.serve is not None and not _is_settled(resolved, current):
        waits.append(LOADING_LOOK_AGAIN_SECONDS)
    if (seconds := seconds_to_look_again(resolved, observed)) is not None:
        waits.append(seconds)
    if resolved.spec.replicas == 0 and observed.routers and not_holding(observed):
        waits.append(HOLDING_LOOK_AGAIN_SECONDS)
    if (left := seconds_to_zero(resolved, observed, seen)) is not None:
        waits.append(max(left, LEAST_LOOK_AGAIN_SECONDS))
    return min(waits, default=None)


def _is_draining(resolved: Resolved, revision: RevisionView, *, is_current: bool) -> bool:
    target = resolved.spec.replicas if is_current else 0
    return revision.worker_replicas > target


def _is_settled(resolved: Resolved, current: RevisionView) -> bool:
    target = resolved.spec.replicas
    return (
        current.ready == len(current.pods) == current.worker_replicas == target
        and isinstance(current.serve, ServeState)
        and current.serve.target_replicas == target
    )
