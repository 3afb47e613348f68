"""`spec.rollout.progressDeadlineSeconds` and `minReadySeconds`, and the end of a pod: how long what may take."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from sundog_operator.core.names import Manifest
from sundog_operator.core.observed import Observed
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.view import RevisionView, condition, is_ready, ready_since, told_to_end_at, was_up

SLOW_END_SECONDS: Final = 60.0
"""A pod without requests has ended by then; one that has not is named, for others may wait for its place."""


def seconds_to_deadline(resolved: Resolved, observed: Observed, revision: RevisionView) -> float | None:
    """Seconds until the first replica or head on its way up is overdue; None where none is that is not already."""
    lefts = (_seconds_left(resolved, observed, revision), _seconds_left_for_head(resolved, observed, revision))
    return min((left for left in lefts if left is not None and left > 0), default=None)


def is_overdue(resolved: Resolved, observed: Observed, revision: RevisionView) -> bool:
    """Whether a replica took longer to come up than it may."""
    left = _seconds_left(resolved, observed, revision)
    return left is not None and left <= 0


def is_head_overdue(resolved: Resolved, observed: Observed, revision: RevisionView) -> bool:
    """Whether a head has been away for longer than a replica may take: one that is new, or that is lost."""
    left = _seconds_left_for_head(resolved, observed, revision)
    return left is not None and left <= 0


def seconds_to_available(resolved: Resolved, observed: Observed, revision: RevisionView) -> float | None:
    """Seconds until the next replica that answers has done so for long enough; None where none is waited for."""
    least = resolved.spec.rollout.min_ready_seconds
    ages = [observed.unix_seconds - ready_since(pod) for pod in revision.pods if is_ready(pod)]
    return min((least - age for age in ages if age < least), default=None)


def slow_ends(observed: Observed, revisions: Iterable[RevisionView]) -> list[Manifest]:
    """Pods that were told to end a while ago and are still there, the first one in front."""
    ending = [pod for revision in revisions for pod in revision.ending]
    slow = [pod for pod in ending if observed.unix_seconds - told_to_end_at(pod) >= SLOW_END_SECONDS]
    return sorted(slow, key=lambda pod: (told_to_end_at(pod), pod["metadata"]["name"]))


def seconds_to_slow_end(observed: Observed, revisions: Iterable[RevisionView]) -> float | None:
    """Seconds until the next pod that ends is a slow one; None where none ends that is not already."""
    ages = [observed.unix_seconds - told_to_end_at(pod) for revision in revisions for pod in revision.ending]
    return min((SLOW_END_SECONDS - age for age in ages if age < SLOW_END_SECONDS), default=None)


def _seconds_left(resolved: Resolved, observed: Observed, revision: RevisionView) -> float | None:
    # Since it was made, or lost what it had: a replica that served and is gone has the same time to come back.
    ages = [
        observed.unix_seconds - max(ready_since(pod), _unix(_made(pod)))
        for pod in revision.pods
        if not is_ready(pod) and not was_up(pod)
    ]
    refused = condition(revision.worker or {}, "ReplicaFailure")
    if revision.worker and not ages and refused.get("status") == "True":  # a quota, an admission rule
        ages = [observed.unix_seconds - _unix(refused.get("lastTransitionTime") or _made(revision.worker))]
    return resolved.spec.rollout.progress_deadline_seconds - max(ages) if ages else None


def _seconds_left_for_head(resolved: Resolved, observed: Observed, revision: RevisionView) -> float | None:
    if revision.head is None or revision.head_is_ready:
        return None
    since = condition(revision.head, "Available").get("lastTransitionTime") or _made(revision.head)
    return _unix(since) + resolved.spec.rollout.progress_deadline_seconds - observed.unix_seconds


def _made(manifest: Manifest) -> str:
    return str(manifest["metadata"]["creationTimestamp"])


def _unix(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
