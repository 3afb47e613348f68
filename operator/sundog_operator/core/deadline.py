"""`spec.rollout.progressDeadlineSeconds`: how long a replica may take to become ready."""

from __future__ import annotations

from datetime import datetime

from sundog_operator.core.names import Manifest
from sundog_operator.core.observed import Observed
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.view import RevisionView, is_ready, was_up


def seconds_to_deadline(resolved: Resolved, observed: Observed, revision: RevisionView) -> float | None:
    """Seconds until the first replica on its way up is overdue; None where none is on its way, or one already is."""
    left = _seconds_left(resolved, observed, revision)
    return None if left is None or left <= 0 else left


def is_overdue(resolved: Resolved, observed: Observed, revision: RevisionView) -> bool:
    """Whether a replica took longer to come up than it may."""
    left = _seconds_left(resolved, observed, revision)
    return left is not None and left <= 0


def _seconds_left(resolved: Resolved, observed: Observed, revision: RevisionView) -> float | None:
    ages = [observed.unix_seconds - _created(pod) for pod in revision.pods if not is_ready(pod) and not was_up(pod)]
    if not ages and revision.worker is not None and len(revision.pods) < resolved.spec.replicas:
        ages = [observed.unix_seconds - _created(revision.worker)]  # refused pods: a quota, an admission rule
    return resolved.spec.rollout.progress_deadline_seconds - max(ages) if ages else None


def _created(manifest: Manifest) -> float:
    return datetime.fromisoformat(manifest["metadata"]["creationTimestamp"]).timestamp()
