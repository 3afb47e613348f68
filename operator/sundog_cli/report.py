"""What `status` tells of an LLMDeployment: values in, values out; the time is a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sundog_cli.cures import STEPS, cure
from sundog_cli.phases import Phase, phases, seconds_of, usual_load_seconds
from sundog_cli.snapshot import Snapshot
from sundog_operator.core import names
from sundog_operator.core.autoscaling import sentence
from sundog_operator.core.names import Manifest
from sundog_operator.core.view import condition, is_part


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision and its pods."""

    hash: str
    current: bool
    in_charge: bool
    """Whether its head holds requests: it is kept until the current one is whole."""
    ready: int
    replicas: int
    state: str
    """In a word or two, for people."""
    created: str
    head: tuple[Phase, ...]
    workers: tuple[Phase, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """A change of the number of replicas."""

    time: str
    sentence: str
    victims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """One LLMDeployment."""

    namespace: str
    name: str
    model: str
    url: str
    wanted: int
    replicas: int
    ready_replicas: int
    ready: str
    """Status of the condition: True, False, Unknown."""
    reason: str
    message: str
    since: str
    """When the condition took this value."""
    cure: str
    """What to do; empty where nothing is to be done."""
    stalled: bool
    autoscaling: str
    """Reason and message of AutoscalingActive; empty where no autoscaling is set."""
    revisions: tuple[Revision, ...]
    routers: tuple[Phase, ...]
    decisions: tuple[Decision, ...]
    """The newest first."""
    unread: tuple[str, ...]

    @property
    def is_well(self) -> bool:
        """Whether nobody has to do anything: it is ready, or on its way."""
        return self.ready == "True" or self.reason in STEPS

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)


def report(snapshot: Snapshot, *, now: float) -> Report:
    """Put together what is known of an LLMDeployment."""
    resource = snapshot.resource
    status, spec = resource.get("status", {}), resource["spec"]
    ready = condition(resource, "Ready") or _not_visited(resource, now=now)
    autoscaling = condition(resource, "AutoscalingActive")
    reason = str(ready.get("reason", ""))
    outdated = status.get("observedGeneration", -1) != resource["metadata"].get("generation", 0)
    if outdated and condition(resource, "Ready"):
        ready = {**ready, "message": f"{ready.get('message', '')} (said of the spec before the last change)"}
    well = ready.get("status") == "True"
    return Report(
        namespace=snapshot.namespace,
        name=snapshot.name,
        model=spec["model"]["uri"],
        url=status.get("url", ""),
        wanted=int(spec.get("replicas", 1)),
        replicas=int(status.get("replicas", 0)),
        ready_replicas=int(status.get("readyReplicas", 0)),
        ready=str(ready.get("status", "Unknown")),
        reason=reason,
        message=str(ready.get("message", "")),
        since=str(ready.get("lastTransitionTime", "")),
        cure="" if well else cure(reason, name=snapshot.name),
        stalled=condition(resource, "Stalled").get("status") == "True",
        autoscaling=f"{autoscaling['reason']}: {autoscaling['message']}" if autoscaling else "",
        revisions=tuple(_revisions(snapshot, status, now=now)),
        routers=tuple(_phases(snapshot, names.ROUTER, revision=None, now=now)),
        decisions=tuple(_decision(each) for each in reversed(status.get("scaling", []))),
        unread=snapshot.unread,
    )


NOT_VISITED = "NotVisited"
VISIT_SECONDS = 30.0


def _not_visited(resource: Manifest, *, now: float) -> Manifest:
    """Say it where no operator has written a status yet."""
    age = now - seconds_of(resource["metadata"]["creationTimestamp"])
    message = "no operator has looked at it yet"
    if age > VISIT_SECONDS:
        message += f" in {int(age)} s: is one running, and does it watch this namespace?"
    return {"status": "Unknown", "reason": NOT_VISITED, "message": message}


def _revisions(snapshot: Snapshot, status: Mapping[str, Any], *, now: float) -> list[Revision]:
    in_charge = revision_in_charge(snapshot)
    found = []
    for told in status.get("revisions", []):
        revision = str(told["hash"])
        current = bool(told.get("current"))
        ready, replicas = int(told.get("ready", 0)), int(told.get("replicas", 0))
        workers = tuple(_phases(snapshot, names.WORKER, revision=revision, now=now))
        found.append(
            Revision(
                hash=revision,
                current=current,
                in_charge=revision == in_charge,
                ready=ready,
                replicas=replicas,
                state=_NOT_LIVE.get(told.get("state", ""))
                or _state(current=current, in_charge=revision == in_charge, alone=len(status["revisions"]) == 1),
                created=_created(snapshot, revision),
                head=tuple(_phases(snapshot, names.HEAD, revision=revision, now=now)),
                workers=workers,
            )
        )
    return found


def revision_in_charge(snapshot: Snapshot) -> str:
    """Hash of the revision whose head holds requests; empty where that is not known."""
    for service in snapshot.services:
        if service["metadata"]["name"] == names.head_service(snapshot.name):
            return str(service["spec"].get("selector", {}).get(names.REVISION_LABEL, ""))
    return ""


TAKEN_BACK: Final = "taken back"
KEPT: Final = "kept for spec.rollout.revision"
_NOT_LIVE: Final = {"Withdrawn": TAKEN_BACK, "Kept": KEPT}
"""What the operator says of a revision that has no part in serving."""


def _state(*, current: bool, in_charge: bool, alone: bool) -> str:
    if current:
        return "current" if in_charge or alone else "on its way in"
    return "serves until the current one is whole" if in_charge else "finishes its requests"


def _created(snapshot: Snapshot, revision: str) -> str:
    for deployment in snapshot.deployments:
        if deployment["metadata"]["name"] == names.revision_worker(snapshot.name, revision):
            return str(deployment["metadata"]["creationTimestamp"])
    return ""


def _phases(snapshot: Snapshot, component: str, *, revision: str | None, now: float) -> list[Phase]:
    pods = [pod for pod in snapshot.pods if is_part(pod, component, revision=revision)]
    workers = [pod for pod in snapshot.pods if is_part(pod, names.WORKER)]
    return phases(pods, component=component, usual=usual_load_seconds(workers), now=now)


def _decision(told: Mapping[str, Any]) -> Decision:
    return Decision(time=told["time"], sentence=sentence(told), victims=tuple(told.get("victims", ())))


def moment(now: float) -> str:
    """Write a time as the API server does."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
