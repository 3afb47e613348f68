"""The observed world of one LLMDeployment, seen by revision: what plan and status both reason about."""

from __future__ import annotations

from dataclasses import dataclass

from sundog_operator.core import names
from sundog_operator.core.names import Manifest, ObjectKey
from sundog_operator.core.observed import HeadUnreachable, Observed, ServeState
from sundog_operator.core.resolve import Resolved


@dataclass(frozen=True, slots=True)
class RevisionView:
    """One revision as it was observed."""

    hash: str
    head: Manifest | None
    """Head Deployment."""
    worker: Manifest | None
    """Worker Deployment."""
    pods: tuple[Manifest, ...]
    """Worker pods that were not told to end."""
    serve: ServeState | HeadUnreachable | None
    """None: the head was not asked."""

    @property
    def worker_replicas(self) -> int:
        """How many worker pods its Deployment asks for."""
        return int(self.worker["spec"].get("replicas", 1)) if self.worker else 0

    @property
    def ready(self) -> int:
        """How many worker pods are ready: their replicas answer."""
        return sum(is_ready(pod) for pod in self.pods)

    @property
    def head_is_ready(self) -> bool:
        """Whether the head's pod is ready."""
        return self.head is not None and bool(self.head.get("status", {}).get("readyReplicas"))

    @property
    def may_have_requests(self) -> bool:
        """Whether a request may be under way on one of its replicas; a replica that is still starting has none."""
        if isinstance(self.serve, ServeState):
            return any(replica.state != "STARTING" for replica in self.serve.replicas)
        return any(was_up(pod) for pod in self.pods)

    def is_complete(self, replicas: int) -> bool:
        """Whether it serves with so many replicas; with none, whether its head holds requests."""
        if replicas:
            return self.ready >= replicas
        scaled = not isinstance(self.serve, ServeState) or self.serve.target_replicas == 0
        return self.head_is_ready and scaled and not isinstance(self.serve, HeadUnreachable)

    @property
    def pods_without_replica(self) -> tuple[Manifest, ...]:
        """Worker pods that may go: Serve has no replica on them. None while Serve has yet to place one."""
        if not isinstance(self.serve, ServeState):
            return ()
        if any(replica.node_ip is None for replica in self.serve.replicas):
            return ()
        occupied = {replica.node_ip for replica in self.serve.replicas}
        return tuple(pod for pod in self.pods if pod.get("status", {}).get("podIP") not in occupied)


@dataclass(frozen=True, slots=True)
class View:
    """All revisions of one LLMDeployment."""

    current: RevisionView
    """The one that the spec asks for; it may have no objects yet."""
    others: tuple[RevisionView, ...]
    """Those on their way out, and the one in charge while the current one is on its way in."""
    in_charge: str
    """Hash of the revision whose head holds requests and that is kept until the current one is ready."""
    router: Manifest | None
    """Router Deployment."""


def view(resolved: Resolved, observed: Observed) -> View:
    """Sort what was observed by revision."""
    hashes = {
        manifest["metadata"]["labels"].get(names.REVISION_LABEL)
        for key, manifest in observed.children.items()
        if key.kind in {"Deployment", "Service", "PersistentVolumeClaim"}
    } - {None, resolved.revision}
    head_service = observed.children.get(ObjectKey("Service", names.head_service(resolved.name)))
    in_charge = head_service["spec"].get("selector", {}).get(names.REVISION_LABEL) if head_service else None
    return View(
        current=_revision(resolved.name, resolved.revision, observed),
        others=tuple(_revision(resolved.name, revision, observed) for revision in sorted(filter(None, hashes))),
        in_charge=str(in_charge) if in_charge in hashes else resolved.revision,
        router=observed.children.get(ObjectKey("Deployment", names.router(resolved.name))),
    )


def _revision(name: str, revision: str, observed: Observed) -> RevisionView:
    return RevisionView(
        hash=revision,
        head=observed.children.get(ObjectKey("Deployment", names.revision_head(name, revision))),
        worker=observed.children.get(ObjectKey("Deployment", names.revision_worker(name, revision))),
        pods=tuple(
            pod
            for pod in observed.pods
            if is_part(pod, names.WORKER, revision=revision)
            and not pod["metadata"].get("deletionTimestamp")
            and pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}
        ),
        serve=observed.heads.get(revision),
    )


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


def condition(manifest: Manifest, kind: str) -> Manifest:
    """One condition of an object's status; empty where it has none."""
    for found in manifest.get("status", {}).get("conditions", []):
        if found.get("type") == kind:
            return dict(found)
    return {}
