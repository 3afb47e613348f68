"""What a cluster says of an LLMDeployment under load, second by second: values, and what is computed from them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from sundog_operator.core.autoscaling import sentence
from tests.load.outcome import Outcome, Percentiles, Record

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the cluster. None: it did not say."""

    at: float
    """Seconds after the load began."""
    asked: int | None = None
    """``spec.replicas``, which an autoscaler writes."""
    replicas: int | None = None
    """Pods that there are, those that load or drain too: each holds its GPUs."""
    ready: int | None = None
    ongoing: float | None = None
    """Requests without their whole answer, those that wait included."""
    waiting: float | None = None
    decision: str = ""
    """The newest change of the number of replicas: who made it, and why."""
    problem: str = ""
    """Why something is missing."""


def sample(at: float, resource: Mapping[str, Any], load: Mapping[str, Any], *, problem: str = "") -> Sample:
    """Make a sample of an LLMDeployment and of what the operator says of its load; each empty when it did not come."""
    status = resource.get("status", {})
    decisions = status.get("scaling", [])  # the newest is the last
    return Sample(
        at,
        asked=resource.get("spec", {}).get("replicas"),
        replicas=status.get("replicas", 0) if resource else None,
        ready=status.get("readyReplicas", 0) if resource else None,
        ongoing=load.get("ongoing_requests"),
        waiting=load.get("waiting_requests"),
        decision=sentence(decisions[-1]) if decisions else "",
        problem=problem,
    )


def replica_hours(samples: Sequence[Sample], *, until: float) -> float:
    """Sum the time that all replicas were there, from the beginning; what was not told is as it was told last.

    Args:
        samples: in the order of time.
        until: seconds after the beginning.

    Raises:
        ValueError: no sample told the replicas.
    """
    known = [(one.at, one.replicas) for one in samples if one.replicas is not None]
    if not known:
        raise ValueError("nobody told how many replicas there were")
    edges = [0.0, *(at for at, _ in known[1:]), until]
    spans = (max(0.0, min(later, until) - min(earlier, until)) for earlier, later in itertools.pairwise(edges))
    return sum(span * count for span, (_, count) in zip(spans, known, strict=True)) / HOUR


def over_time(
    records: Sequence[Record], latency: Callable[[Record], float | None], *, every: float
) -> list[tuple[float, Percentiles]]:
    """Give the latency of requests by when they were due, in spans of so many seconds.

    Returns:
        The middle of each span in which a request had that latency, and the percentiles.
    """
    found: list[tuple[float, Percentiles]] = []
    ordered = sorted(records, key=lambda one: one.scheduled)
    for number, group in itertools.groupby(ordered, key=lambda one: int(one.scheduled // every)):
        if percentiles := Percentiles.of(map(latency, group)):
            found.append(((number + 0.5) * every, percentiles))
    return found


@dataclass(slots=True)
class Run:
    """One load from beginning to end."""

    title: str
    seconds: float = 0.0
    """How long it was; streams may end later."""
    samples: list[Sample] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)

    def to_json(self) -> bytes:
        """Write it, so that it can be drawn and counted again."""
        return TypeAdapter(Run).dump_json(self)

    @staticmethod
    def from_json(text: bytes) -> Run:
        """Read what `to_json` wrote."""
        return TypeAdapter(Run).validate_json(text)
