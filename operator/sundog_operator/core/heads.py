"""Which heads a pass has to ask. In a steady state none: an idle deployment costs Ray not one request."""

from __future__ import annotations

from sundog_operator.core.adapters import is_under_way
from sundog_operator.core.judgement import ROLLED_BACK
from sundog_operator.core.observed import Observed
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.view import View, condition, view


def heads_to_ask(resolved: Resolved, observed: Observed) -> frozenset[str]:
    """Hashes of the revisions whose head's answer this pass needs.

    A head whose pod is not ready is not asked: its readiness is watched, so the pass comes again by itself.
    """
    seen = view(resolved, observed)
    revisions = [each for each in seen.leaving if each.head_is_ready]
    if seen.goal.head_is_ready and not _is_settled(resolved, observed, seen):
        revisions.append(seen.goal)
    return frozenset(revision.hash for revision in revisions)


def _is_settled(resolved: Resolved, observed: Observed, seen: View) -> bool:
    """Whether this very spec was seen Ready, or rolled back, before, and the pods still say so."""
    status, ready = observed.resource.get("status", {}), condition(observed.resource, "Ready")
    goal = seen.goal
    return (
        status.get("observedGeneration") == resolved.generation
        and (ready.get("status") == "True" or (seen.withdrawn is not None and ready.get("reason") == ROLLED_BACK))
        and not is_under_way(resolved, observed)
        and goal.worker_replicas == len(goal.pods) == goal.ready == seen.desired
    )
