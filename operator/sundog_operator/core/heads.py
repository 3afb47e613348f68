"""Which heads a pass has to ask. In a steady state none: an idle deployment costs Ray not one request."""

from __future__ import annotations

from sundog_operator.core.adapters import is_under_way
from sundog_operator.core.observed import Observed
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.view import RevisionView, condition, view


def heads_to_ask(resolved: Resolved, observed: Observed) -> frozenset[str]:
    """Hashes of the revisions whose head's answer this pass needs.

    A head whose pod is not ready is not asked: its readiness is watched, so the pass comes again by itself.
    """
    seen = view(resolved, observed)
    revisions = [other for other in seen.others if other.head_is_ready]
    if seen.current.head_is_ready and not _is_settled(resolved, observed, seen.current):
        revisions.append(seen.current)
    return frozenset(revision.hash for revision in revisions)


def _is_settled(resolved: Resolved, observed: Observed, current: RevisionView) -> bool:
    """Whether this very spec was seen Ready before, and the pods still say so."""
    status = observed.resource.get("status", {})
    return (
        status.get("observedGeneration") == resolved.generation
        and condition(observed.resource, "Ready").get("status") == "True"
        and not is_under_way(resolved, observed)
        and current.worker_replicas == len(current.pods) == current.ready == resolved.spec.replicas
    )
