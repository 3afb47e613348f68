"""What is wrong with a revision, and whether it is to be taken back for it.

A revision is withdrawn when one that has served can take its place and it cannot: a replica that is not ready in time,
replicas that end again and again after they served, or an error that no waiting cures. The verdict is written down
(`history`), and nothing is tried again until another revision is asked for.
"""

from __future__ import annotations

from typing import Final

from sundog_operator.core import names
from sundog_operator.core.deadline import is_head_overdue, is_overdue
from sundog_operator.core.history import Withdrawal
from sundog_operator.core.names import Manifest
from sundog_operator.core.observed import Observed, ServeState
from sundog_operator.core.problems import Problem, pod_problem, serve_problem, workload_problem
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.view import RevisionView, View, fallback_of, is_part, is_ready, ready_since

ROLLED_BACK: Final = "RolledBack"
"""Reason of Ready=False: the revision that is asked for was withdrawn."""
RESTARTS: Final = 2
"""Of one container: a first one may be the node's fault, or that of a head that lost its state."""


def problem(resolved: Resolved, observed: Observed, seen: View, revision: RevisionView) -> Problem | None:
    """Give what is wrong with a revision and the routers; None: nothing is."""
    heads = [pod for pod in observed.pods if is_part(pod, names.HEAD, revision=revision.hash)]
    routers = [pod for pod in observed.pods if is_part(pod, names.ROUTER)]
    unready = [pod for pod in revision.pods if not is_ready(pod)]
    found = (
        pod_problem(pod for pod in heads if not is_ready(pod))
        or pod_problem(unready)
        or pod_problem(pod for pod in routers if not is_ready(pod))
        or workload_problem(revision.head)
        or workload_problem(revision.worker)
        or workload_problem(seen.router)
    )
    if not found and isinstance(revision.serve, ServeState) and revision.ready < seen.desired:
        found = serve_problem(revision.serve)
    waits_for_head = not unready and not revision.is_complete(seen.desired)
    if is_overdue(resolved, observed, revision) or (waits_for_head and is_head_overdue(resolved, observed, revision)):
        seconds = resolved.spec.rollout.progress_deadline_seconds
        cause = f": {found.message}" if found else "; see the log of its pod"
        message = f"a replica was not ready within spec.rollout.progressDeadlineSeconds ({seconds} s){cause}"
        return Problem(found.reason if found else "ProgressDeadlineExceeded", message, curable_by_waiting=False)
    return found


def verdict(resolved: Resolved, observed: Observed, seen: View) -> Withdrawal | None:
    """Give why the current revision is to be taken back now; None: it is not, or it has been."""
    current = seen.current
    if seen.withdrawn or not current.exists or resolved.spec.rollout.paused:
        return None
    fallback = fallback_of(current.hash, seen.in_charge, seen.history)
    if fallback is None:
        return None
    if seen.in_charge == current.hash:
        # It has been whole; only replicas that end are held against it, and only while it is new.
        cause = crashes(current) if _is_new(resolved, observed, current) else None
    else:
        serves = any(each.hash == fallback and each.ready for each in seen.leaving)
        if not serves and not (fallback in seen.history and seen.history[fallback].served):
            return None
        found = crashes(current) or problem(resolved, observed, seen, current)
        cause = None if found is None or found.curable_by_waiting else found
    return Withdrawal(resolved.generation, cause.reason, cause.message) if cause else None


def crashes(revision: RevisionView) -> Problem | None:
    """Tell of a container that ended again and again; the engine's own words where Serve has them."""
    worst = max(revision.pods, key=_restarts, default=None)
    if worst is None or _restarts(worst) < RESTARTS:
        return None
    name, count = worst["metadata"]["name"], _restarts(worst)
    told = pod_problem([worst]) or (serve_problem(revision.serve) if isinstance(revision.serve, ServeState) else None)
    ends = [each.get("lastState", {}).get("terminated") or {} for each in _containers(worst)]
    ended: Manifest = next(filter(None, ends), {})
    words = f"{ended.get('reason', 'Error')}, exit code {ended.get('exitCode', 'unknown')}"
    cause = f": {told.message}" if told else f"; see kubectl logs --previous {name}"
    message = f"the container of pod {name} was restarted {count} times (at last: {words}){cause}"
    return Problem(told.reason if told else "ContainerCrashed", message, curable_by_waiting=False)


def _is_new(resolved: Resolved, observed: Observed, revision: RevisionView) -> bool:
    deadline = resolved.spec.rollout.progress_deadline_seconds
    return revision.worker is not None and observed.unix_seconds - ready_since(revision.worker) < deadline


def _restarts(pod: Manifest) -> int:
    return max((int(each.get("restartCount", 0)) for each in _containers(pod)), default=0)


def _containers(pod: Manifest) -> list[Manifest]:
    return list(pod.get("status", {}).get("containerStatuses", []))
