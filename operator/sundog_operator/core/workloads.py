"""What the objects and the head of one revision must be told, so that it has what the rollout's step gives it."""

from __future__ import annotations

from sundog_operator.core import names
from sundog_operator.core.autoscaling import has_untold_victims
from sundog_operator.core.builders import revision as builders
from sundog_operator.core.comparison import applied_hash, is_applied, with_applied_hash
from sundog_operator.core.names import Manifest, ObjectKey
from sundog_operator.core.observed import Observed, ServeState
from sundog_operator.core.problems import serve_problem
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.rollout import Step
from sundog_operator.core.serve_config import attempt_of, is_deployed, serve_config
from sundog_operator.core.view import RevisionView
from sundog_operator.core.writes import Apply, PutServe, ScaleServe, Write

# From one PUT to the next, when Serve has given up: a model that is being copied, a hub that is away.
RETRY_SECONDS = 30.0
VICTIM_COST = "-1000"


def objects(resolved: Resolved, observed: Observed, revision: RevisionView, step: Step) -> list[Write]:
    """Objects of a revision that is to have replicas, or is in charge; the worker count included."""
    writes: list[Write] = []
    claim_key = ObjectKey("PersistentVolumeClaim", names.revision_head(resolved.name, revision.hash))
    if revision.head is None:
        state_on_claim = observed.default_storage_class or bool(resolved.spec.ray.head.storage.storage_class_name)
    else:
        state_on_claim = _uses_claim(revision.head)
    if state_on_claim and claim_key not in observed.children:
        # A claim's spec can't be changed: it is applied once.
        writes.append(Apply(with_applied_hash(builders.head_claim(resolved, revision.hash)), "it does not exist"))
    head = builders.head_deployment(resolved, revision.hash, state_on_claim=state_on_claim)
    writes += _apply_workload(head, revision.head)
    writes += _marks(resolved, revision, step)
    pods = _pods(resolved, observed, revision, step)
    worker = builders.worker_deployment(resolved, revision.hash, replicas=pods)
    writes += _apply_workload(worker, revision.worker, why=step.why)
    return writes


def counted(resolved: Resolved, observed: Observed, revision: RevisionView, step: Step) -> list[Write]:
    """The worker count of a revision of which it is not remembered what formed it: all else is left as it is."""
    if revision.worker is None:
        return []
    writes = _marks(resolved, revision, step)
    pods = _pods(resolved, observed, revision, step)
    found = revision.worker
    metadata = {key: found["metadata"][key] for key in ("name", "namespace", "labels", "ownerReferences")}
    kept = {key: found["spec"][key] for key in ("strategy", "revisionHistoryLimit", "selector", "template")}
    manifest = {
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "metadata": metadata,
        "spec": {**kept, "replicas": pods},
    }
    return [*writes, *_apply_workload(manifest, found, why=step.why)]


def _uses_claim(head: Manifest) -> bool:
    return any("persistentVolumeClaim" in volume for volume in head["spec"]["template"]["spec"].get("volumes", []))


def _apply_workload(manifest: Manifest, found: Manifest | None, *, why: str = "") -> list[Write]:
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
        return [Apply(manifest, _told(before, after, why), irreversible=after < before)]
    return [Apply(manifest, "it was changed by someone else")]


def _told(before: int, after: int, why: str) -> str:
    return f"replicas {before} → {after}" + (f", and not more: {why}" if why else "")


def _marks(resolved: Resolved, revision: RevisionView, step: Step) -> list[Write]:
    """Mark the pods that go first, and unmark those that stay."""
    victims = _victims(revision, step)
    stays = step.pods >= len(revision.pods)
    writes: list[Write] = [
        Apply(_pod_patch(resolved, pod, cost=VICTIM_COST), "Serve has drained it: it goes first")
        for pod in victims
        if not _has_cost(pod)
    ]
    writes += [
        Apply(_pod_patch(resolved, pod, cost=None), "it is needed after all")
        for pod in revision.pods
        if _has_cost(pod) and stays
    ]
    return writes


def _pods(resolved: Resolved, observed: Observed, revision: RevisionView, step: Step) -> int:
    """How many pods the Deployment is to ask for: it is lowered once its victims are marked and told in the status."""
    if step.pods < revision.worker_replicas and (
        _is_unmarked(revision, step) or has_untold_victims(resolved, observed)
    ):
        return revision.worker_replicas
    return step.pods


def _victims(revision: RevisionView, step: Step) -> tuple[Manifest, ...]:
    empty = sorted(revision.pods_without_replica, key=lambda pod: (not _has_cost(pod), pod["metadata"]["name"]))
    return tuple(empty[: step.victims])


def _is_unmarked(revision: RevisionView, step: Step) -> bool:
    """Whether the mark of a pod that goes has not been seen yet."""
    return not all(_has_cost(pod) for pod in _victims(revision, step))


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


def serve(observed: Observed, revision: RevisionView, step: Step, *, is_goal: bool) -> list[Write]:
    """What the head of a revision must be told."""
    if not isinstance(revision.serve, ServeState):
        return []
    target, state, resolved = step.replicas, revision.serve, revision.resolved
    attempt = attempt_of(state.deployed_config)
    # An old revision is told again only what its head has forgotten: how another release says it restarts replicas.
    forgotten = state.deployed_config is None and target > 0
    if resolved and (
        forgotten or (is_goal and not is_deployed(serve_config(resolved, replicas=target), state.deployed_config))
    ):
        # A PUT sets the count back: while replicas are being drained it must not start them again, nor drain more.
        count = state.target_replicas if state.target_replicas is not None else target
        config = serve_config(resolved, replicas=count, attempt=attempt)
        return [PutServe(revision.hash, config, "the application is to change")]
    if resolved and is_goal and _is_to_be_retried(observed, state):
        config = serve_config(resolved, replicas=target, attempt=attempt + 1)
        return [PutServe(revision.hash, config, "to try a failed start again")]
    if state.target_replicas is None or state.target_replicas == target:
        return []
    reason = _told(state.target_replicas, target, step.why)
    return [ScaleServe(revision.hash, target, reason, irreversible=target < state.target_replicas)]


def _is_to_be_retried(observed: Observed, state: ServeState) -> bool:
    """Whether Serve has given up (after three tries) what something outside the spec may have cured since."""
    if state.application_status != "DEPLOY_FAILED":
        return False
    problem = serve_problem(state)
    waited = observed.unix_seconds - state.deployed_unix_seconds
    return (problem is None or problem.curable_by_waiting) and waited >= RETRY_SECONDS
