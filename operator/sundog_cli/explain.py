"""Why an LLMDeployment is as it is, in sentences: values in, values out; the time is a parameter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydantic import ValidationError

from sundog_cli.phases import duration, seconds_of
from sundog_cli.report import KEPT, TAKEN_BACK, Report, Revision, report
from sundog_cli.snapshot import Snapshot, last_seen
from sundog_operator.api.types import LLMDeploymentSpec
from sundog_operator.core.autoscaling import Autoscaler, autoscaler
from sundog_operator.core.names import Manifest
from sundog_operator.core.view import condition

_EVENTS: Final = 5
_DECISIONS: Final = 3


@dataclass(frozen=True, slots=True)
class Explanation:
    """Three questions, each with its sentences."""

    namespace: str
    name: str
    replicas: tuple[str, ...]
    """Why this many."""
    revision: tuple[str, ...]
    """Why this one."""
    ready: tuple[str, ...]
    """Why not ready, or that it is."""
    is_ready: bool
    unread: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)


def explain(snapshot: Snapshot, *, now: float) -> Explanation:
    """Answer the three questions."""
    told = report(snapshot, now=now)
    return Explanation(
        namespace=told.namespace,
        name=told.name,
        replicas=tuple(_replicas(snapshot, told, now=now)),
        revision=tuple(_revision(snapshot, told, now=now)),
        ready=tuple(_ready(snapshot, told, now=now)),
        is_ready=told.ready == "True",
        unread=told.unread,
    )


def _replicas(snapshot: Snapshot, told: Report, *, now: float) -> Iterator[str]:
    yield f"{told.wanted} asked for by spec.replicas; {told.replicas} there, {told.ready_replicas} of them ready."
    for decision in told.decisions[:_DECISIONS]:
        yield f"{duration(now - seconds_of(decision.time))} ago: {decision.sentence}."
    wanted = _autoscaler(snapshot.resource)
    if isinstance(wanted, str):
        yield wanted
    elif wanted is None:
        yield "spec.autoscaling is not set: nobody changes the number but you" + (
            "." if not snapshot.autoscalers else ", and the autoscaler named here."
        )
    else:
        yield _bounds(wanted)
    if told.autoscaling:
        yield f"AutoscalingActive says {told.autoscaling}."
    for made in snapshot.autoscalers:
        yield from _of_hpa(made)


def _autoscaler(resource: Manifest) -> Autoscaler | str | None:
    try:
        return autoscaler(LLMDeploymentSpec.model_validate(resource["spec"]))
    except ValidationError:
        return "The spec has fields that this kubectl-sundog does not know: install the release of the operator."


def _bounds(wanted: Autoscaler) -> str:
    targets = ", ".join(f"{metric.value} at {target} for each replica" for metric, target in wanted.metrics)
    who = {"HPA": "A HorizontalPodAutoscaler", "KEDA": "KEDA", "External": "An autoscaler of your own"}[wanted.kind]
    if wanted.kind == "External":
        return f"{who} decides (spec.autoscaling.class is External)."
    text = f"{who} decides, between {wanted.min_replicas} and {wanted.max_replicas}, to keep {targets}"
    if wanted.idle_seconds is not None:
        text += f"; the last replica goes {wanted.idle_seconds} s after the last request"
    return text + "."


def _of_hpa(made: Manifest) -> Iterator[str]:
    name, status = made["metadata"]["name"], made.get("status", {})
    text = f"HorizontalPodAutoscaler {name} wants {status.get('desiredReplicas', 'no number yet')}"
    if found := list(_measured(made)):
        text += f", for it measured {'; '.join(found)}"
    yield f"{text}."
    for kind, wrong in (("ScalingActive", "False"), ("AbleToScale", "False"), ("ScalingLimited", "True")):
        said = condition(made, kind)
        if said.get("status") == wrong:
            yield f"{name}, {kind}={wrong}: {said.get('message')}."


def _measured(made: Manifest) -> Iterator[str]:
    targets = {
        metric["object"]["metric"]["name"]: metric["object"]["target"]
        for metric in made["spec"].get("metrics", ())
        if "object" in metric
    }
    for metric in made.get("status", {}).get("currentMetrics") or ():
        measured = metric.get("object", {})
        name, current = measured.get("metric", {}).get("name", ""), measured.get("current", {})
        target = targets.get(name, {})
        field = "value" if target.get("type") == "Value" else "averageValue"
        if field in current and field in target:
            yield f"{name} {current[field]} for each replica where {target[field]} is right"


def _revision(snapshot: Snapshot, told: Report, *, now: float) -> Iterator[str]:
    if not told.revisions:
        yield "No revision has been made yet."
    for revision in told.revisions:
        age = f", made {duration(now - seconds_of(revision.created))} ago" if revision.created else ""
        which = f"Revision {revision.hash} ({revision.ready} of {revision.replicas} replicas ready{age})"
        yield f"{which} {_why(revision, alone=len(told.revisions) == 1)}"
    spec = snapshot.resource["spec"]
    engine = spec.get("engine", {})
    made_of = [f"model {told.model}"]
    if revision_of_model := spec["model"].get("revision"):
        made_of.append(f"its revision {revision_of_model}")
    made_of.append(f"engine {engine.get('name', 'vllm')}")
    made_of.append(f"image {engine['image']}" if engine.get("image") else "the operator's serving image")
    made_of += [f"{key}={value}" for key, value in sorted(engine.get("args", {}).items())]
    yield f"The spec asks for: {', '.join(made_of)}."
    yield (
        "A change of these, of resources, pod template or request timeout makes another revision; one of replicas, "
        "router or service does not."
    )


def _why(revision: Revision, *, alone: bool) -> str:
    if revision.state == TAKEN_BACK:
        return "could not serve and was taken back; it is not tried again until the spec changes."
    if revision.state == KEPT:
        return "has no pods; it is kept for spec.rollout.revision."
    if revision.current and (alone or revision.in_charge):
        return "is what the spec asks for."
    if revision.current:
        return "is what the spec asks for, and takes over when all of it is ready; until then the one before serves."
    if revision.in_charge:
        return "is of an earlier spec, and serves until another is whole."
    return "is of an earlier spec; it takes no new request and goes when its last stream has ended."


def _ready(snapshot: Snapshot, told: Report, *, now: float) -> Iterator[str]:
    since = f" for {duration(now - seconds_of(told.since))}" if told.since else ""
    if told.ready == "True":
        yield f"Ready{since} ({told.reason}): {told.message}."
        return
    yield f"Not ready{since}, {told.reason}: {told.message}."
    if told.stalled:
        yield "It will not become ready by waiting (Stalled): the spec, or what it names, has to change."
    yield f"What to do: {told.cure}."
    available = condition(snapshot.resource, "Available")
    if available:
        serves = "Requests are answered meanwhile" if available.get("status") == "True" else "No request is answered"
        yield f"{serves} ({available.get('reason')}: {available.get('message')})."
    pods = [pod for revision in told.revisions for pod in (*revision.head, *revision.workers)]
    for pod in (*pods, *told.routers):
        if not pod.ready:
            why = f", {pod.reason}: {pod.message}" if pod.reason else ""
            yield f"Pod {pod.pod} {pod.phase} for {duration(pod.seconds)}{why}."
    warnings = [event for event in snapshot.events if event.get("type") == "Warning"]
    for event in warnings[-_EVENTS:]:
        about = event.get("involvedObject", {})
        when = last_seen(event)
        ago = f"{duration(max(now - seconds_of(when), 0.0))} ago, " if when else ""
        what = f"{about.get('kind', '')} {about.get('name', '')}"
        yield f"Event {ago}{what}: {event.get('reason')}: {event.get('message')}"
