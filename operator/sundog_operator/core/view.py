"""The observed world of one LLMDeployment, seen by revision: what plan and status both reason about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sundog_operator.core import names
from sundog_operator.core.builders import router as router_builder
from sundog_operator.core.history import Entry, Withdrawal, read_history
from sundog_operator.core.names import Manifest, ObjectKey
from sundog_operator.core.observed import HeadUnreachable, Observed, ServeState
from sundog_operator.core.resolve import Resolved, at_revision
from sundog_operator.core.rollout import Limits, Members, Step, rollout

LOST_SECONDS: Final = 60.0
"""A pod that is still there so long after its grace is on a node that has gone: it holds nothing any more."""


@dataclass(frozen=True, slots=True)
class RevisionView:
    """One revision as it was observed."""

    hash: str
    resolved: Resolved | None
    """The LLMDeployment as it is with this revision; None: it is not remembered what formed it."""
    head: Manifest | None
    """Head Deployment."""
    worker: Manifest | None
    """Worker Deployment."""
    pods: tuple[Manifest, ...]
    """Worker pods that were not told to end."""
    ending: tuple[Manifest, ...]
    """Worker pods that were, and still hold a node's resources."""
    available_pods: tuple[Manifest, ...]
    """Worker pods that have been ready for `spec.rollout.minReadySeconds`."""
    serve: ServeState | HeadUnreachable | None
    """None: the head was not asked."""

    @property
    def exists(self) -> bool:
        """Whether it has a workload."""
        return self.head is not None or self.worker is not None

    @property
    def worker_replicas(self) -> int:
        """How many worker pods its Deployment asks for."""
        return int(self.worker["spec"].get("replicas", 1)) if self.worker else 0

    @property
    def ready(self) -> int:
        """How many worker pods are ready: their replicas answer."""
        return sum(is_ready(pod) for pod in self.pods)

    @property
    def answering(self) -> int:
        """How many worker pods answer, those included that have to end and wait for their successors."""
        return self.ready + sum(is_ready(pod) for pod in self.ending)

    @property
    def available(self) -> int:
        """How many worker pods have been ready for long enough."""
        return len(self.available_pods)

    @property
    def head_is_ready(self) -> bool:
        """Whether the head's pod is ready."""
        return self.head is not None and bool(self.head.get("status", {}).get("readyReplicas"))

    @property
    def application(self) -> ServeState | None:
        """What the head says of its application; None: it was not asked, is away, or has lost it with its state."""
        known = isinstance(self.serve, ServeState) and self.serve.application_status is not None
        return self.serve if known and isinstance(self.serve, ServeState) else None

    @property
    def may_have_requests(self) -> bool:
        """Whether a request may be under way on one of its replicas; a replica that is still starting has none."""
        if self.application is not None:
            return any(replica.state != "STARTING" for replica in self.application.replicas)
        return any(was_up(pod) for pod in self.pods)

    def is_complete(self, replicas: int) -> bool:
        """Whether it serves with so many replicas; with none, whether its head holds requests."""
        if replicas:
            return self.available >= replicas
        scaled = not isinstance(self.serve, ServeState) or self.serve.target_replicas == 0
        return self.head_is_ready and scaled and not isinstance(self.serve, HeadUnreachable)

    @property
    def pods_without_replica(self) -> tuple[Manifest, ...]:
        """Worker pods that may go: Serve has no replica on them. None while Serve has yet to place one."""
        if self.application is None or any(replica.node_ip is None for replica in self.application.replicas):
            return ()
        occupied = {replica.node_ip for replica in self.application.replicas}
        return tuple(pod for pod in self.pods if pod.get("status", {}).get("podIP") not in occupied)

    def members(self, *, in_charge: bool, withdrawn: bool) -> Members:
        """Count what the planner of a rollout looks at."""
        state = self.application
        replicas = state.replicas if state else ()
        # A pod is ready for some seconds more after its replica was told to drain.
        staying = {replica.node_ip for replica in replicas if replica.state not in {"STARTING", "STOPPING"}}
        answering = [pod for pod in self.available_pods if not state or pod["status"].get("podIP") in staying]
        running = sum(replica.state not in {"STARTING", "STOPPING"} for replica in replicas)
        starting = sum(replica.state == "STARTING" for replica in replicas)
        target = state.target_replicas if state else None
        # Serve was told to have fewer, and has not chosen yet which one it stops.
        going = max(running - target, 0) if target is not None else 0
        unplaced = state is None or running + starting < (target or 0)
        unplaced = unplaced or any(replica.node_ip is None for replica in replicas)
        return Members(
            revision=self.hash,
            asked=self.worker_replicas,
            pods=len(self.pods),
            ending=len(self.ending),
            target=target,
            serving=max(min(len(answering), self.worker_replicas) - going, 0),
            loading=starting,
            empty=None if unplaced else len(self.pods_without_replica),
            was_up=self.may_have_requests,
            head_ready=self.head_is_ready,
            in_charge=in_charge,
            withdrawn=withdrawn,
        )


@dataclass(frozen=True, slots=True)
class View:
    """All revisions of one LLMDeployment."""

    current: RevisionView
    """The one that the spec asks for; it may have no objects yet."""
    goal: RevisionView
    """The one that is to be at full strength: the current one, or where that was withdrawn, the one before."""
    leaving: tuple[RevisionView, ...]
    """All others that have objects, those that go first in front."""
    in_charge: str
    """Hash of the revision whose head holds requests and that is kept until the goal is whole."""
    withdrawn: Withdrawal | None
    """Why the current revision was taken back."""
    history: Mapping[str, Entry]
    """All that are remembered, by hash, the newest first."""
    desired: int
    """Replicas that there are to be now: none while suspended, once the routers refuse requests."""
    steps: Mapping[str, Step]
    """What each revision is to have now."""
    paused: bool
    """Whether no step of a rollout is to be taken; the way back is none."""
    router: Manifest | None
    """Router Deployment."""

    @property
    def revisions(self) -> tuple[RevisionView, ...]:
        """All that have objects, or are about to."""
        return (self.goal, *self.leaving)

    def is_complete(self, revision: str) -> bool:
        """Whether a revision has all replicas that are asked for."""
        return any(each.hash == revision and each.is_complete(self.desired) for each in self.revisions)

    @property
    def holds_still(self) -> bool:
        """Whether the goal is not to be begun: the rollout is paused, and something else serves."""
        return self.paused and bool(self.leaving) and not self.goal.exists


def view(resolved: Resolved, observed: Observed) -> View:
    """Sort what was observed by revision."""
    history = read_history(resolved.name, observed.children)
    hashes = {
        manifest["metadata"]["labels"].get(names.REVISION_LABEL)
        for key, manifest in observed.children.items()
        if key.kind in {"Deployment", "Service", "PersistentVolumeClaim"}
    } - {None}
    head_service = observed.children.get(ObjectKey("Service", names.head_service(resolved.name)))
    found = head_service["spec"].get("selector", {}).get(names.REVISION_LABEL) if head_service else None
    current = _revision(resolved, resolved.revision, observed, history)
    in_charge = str(found) if found in hashes else resolved.revision
    entry = history.get(resolved.revision)
    withdrawn = entry.withdrawn if entry else None
    fallback = fallback_of(resolved.revision, in_charge, history) if withdrawn else None
    goal = current if fallback is None else _revision(resolved, fallback, observed, history)
    others = [
        current if revision == current.hash else _revision(resolved, str(revision), observed, history)
        for revision in sorted(filter(None, hashes - {goal.hash}))
    ]
    leaving = tuple(sorted(others, key=lambda each: (each.hash == in_charge, each.available, each.hash)))
    router = observed.children.get(ObjectKey("Deployment", names.router(resolved.name)))
    desired = resolved.spec.replicas
    if resolved.spec.suspend and (router is None or refuses(router, resolved)):
        desired = 0
    rules = resolved.spec.rollout
    paused = rules.paused and fallback is None
    steps = rollout(
        goal.members(in_charge=goal.hash == in_charge, withdrawn=False),
        [
            each.members(in_charge=each.hash == in_charge, withdrawn=fallback is not None and each is current)
            for each in leaving
        ],
        Limits(
            desired=desired,
            surge=rules.max_surge,
            unavailable=rules.max_unavailable,
            paused=paused,
        ),
    )
    return View(
        current=current,
        goal=goal,
        leaving=leaving,
        in_charge=in_charge,
        withdrawn=withdrawn if fallback else None,
        history=history,
        desired=desired,
        steps=steps,
        paused=paused,
        router=router,
    )


def fallback_of(current: str, in_charge: str, history: Mapping[str, Entry]) -> str | None:
    """Tell which revision to go back to: the one in charge, else the newest that has served; None: there is none."""
    if in_charge != current:
        return in_charge
    return next((entry.hash for entry in history.values() if entry.hash != current and entry.served), None)


def refuses(router: Manifest, resolved: Resolved) -> bool:
    """Whether every router has the configuration that the resource asks for: while suspended, it refuses requests."""
    wanted = router_builder.config_hash(resolved)
    annotations = router["spec"]["template"]["metadata"].get("annotations", {})
    status, replicas = router.get("status", {}), router["spec"].get("replicas", 1)
    return bool(
        annotations.get(router_builder.CONFIG_HASH_ANNOTATION) == wanted
        and status.get("observedGeneration", 0) >= router["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0) == status.get("replicas", 0) == status.get("readyReplicas", 0) == replicas
    )


def _revision(resolved: Resolved, revision: str, observed: Observed, history: Mapping[str, Entry]) -> RevisionView:
    pods = [pod for pod in observed.pods if is_part(pod, names.WORKER, revision=revision) and not _has_ended(pod)]
    staying = tuple(pod for pod in pods if not pod["metadata"].get("deletionTimestamp"))
    least = resolved.spec.rollout.min_ready_seconds
    return RevisionView(
        hash=revision,
        resolved=_resolved_at(resolved, revision, history),
        head=observed.children.get(ObjectKey("Deployment", names.revision_head(resolved.name, revision))),
        worker=observed.children.get(ObjectKey("Deployment", names.revision_worker(resolved.name, revision))),
        pods=staying,
        ending=tuple(pod for pod in pods if _ends(pod, observed.unix_seconds)),
        available_pods=tuple(
            pod for pod in staying if is_ready(pod) and observed.unix_seconds - ready_since(pod) >= least
        ),
        serve=observed.heads.get(revision),
    )


def _resolved_at(resolved: Resolved, revision: str, history: Mapping[str, Entry]) -> Resolved | None:
    if revision == resolved.revision:
        return resolved
    return at_revision(resolved, revision, history[revision].formed_by) if revision in history else None


def _has_ended(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def _ends(pod: Manifest, now: float) -> bool:
    until = pod["metadata"].get("deletionTimestamp")
    return bool(until) and now < datetime.fromisoformat(until).timestamp() + LOST_SECONDS


def ready_since(pod: Manifest) -> float:
    """When a pod's Ready condition last changed; when it was made where that is not told."""
    since = condition(pod, "Ready").get("lastTransitionTime") or pod["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(since).timestamp()


def is_part(pod: Manifest, component: str, *, revision: str | None = None) -> bool:
    """Whether a pod is of this component; with a revision, whether it is of that one."""
    labels = pod["metadata"].get("labels", {})
    right_revision = revision is None or labels.get(names.REVISION_LABEL) == revision
    return bool(labels.get(names.COMPONENT_LABEL) == component and right_revision)


def is_ready(pod: Manifest) -> bool:
    """Whether the pod's Ready condition holds."""
    return condition(pod, "Ready").get("status") == "True"


def was_up(pod: Manifest) -> bool:
    """Whether the pod's container got past its startup probe: the replica has answered."""
    return any(status.get("started") for status in pod.get("status", {}).get("containerStatuses", []))


def told_to_end_at(pod: Manifest) -> float:
    """When a pod was told to end, in Unix seconds: what stands in it is by when it is killed."""
    metadata = pod["metadata"]
    by = datetime.fromisoformat(metadata["deletionTimestamp"]).timestamp()
    return by - float(metadata.get("deletionGracePeriodSeconds") or 0)


def condition(manifest: Manifest, kind: str) -> Manifest:
    """One condition of an object's status; empty where it has none."""
    for found in manifest.get("status", {}).get("conditions", []):
        if found.get("type") == kind:
            return dict(found)
    return {}
