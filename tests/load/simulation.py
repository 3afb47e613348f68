"""The replay without a cluster: fake engine, router and the HPA's arithmetic, in steps of 50 ms of simulated time.

It stands beside the real replay, to try in a second what nobody wants to wait for; docs/autoscaling-replay.md shows how
near it comes. It knows no faults and no limit of the queue: whatever is sent is answered.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.load.arrivals import Arrival
from tests.load.outcome import Record
from tests.load.samples import Run, Sample

STEP_SECONDS: Final = 0.05
SYNC_SECONDS: Final = 5.0
"""Of the HPA, as the test cluster has it."""
START_SECONDS: Final = 5.0
"""From the decision until a replica of the fake engine is ready, measured on two processors."""
TOLERANCE: Final = 0.1
"""An HPA leaves a tenth more or less alone."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What a replica can do."""

    tokens_per_second: float
    """Of one stream, at most."""
    total_tokens_per_second: float
    most_requests: int
    """That a router sends to it at a time."""

    def rate(self, running: int) -> float:
        """Tokens per second of each of so many streams."""
        return min(self.tokens_per_second, self.total_tokens_per_second / running)


@dataclass(slots=True)
class HPA:
    """The arithmetic of a HorizontalPodAutoscaler for one metric with an average value per replica."""

    target: float
    least: int
    most: int
    behavior: Mapping[str, Any]
    """All that an HPA would fill in by itself has to be in it."""
    _wanted: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def decide(self, now: float, *, replicas: int, value: float) -> int:
        """Give the number of replicas from a look at the whole metric's value."""
        ratio = value / (self.target * replicas)
        wanted = replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(value / self.target)
        wanted = max(self.least, min(self.most, wanted))
        self._wanted.append((now, wanted))
        decided = replicas
        decided = max(decided, min(self._recent("scaleUp", now)))
        decided = min(decided, max(self._recent("scaleDown", now)))
        if decided > replicas:
            decided = min(decided, max(self._limits("scaleUp", now, replicas, sign=1)))
        elif decided < replicas:
            decided = max(decided, min(self._limits("scaleDown", now, replicas, sign=-1)))
        if decided != replicas:
            self._changes.append((now, decided - replicas))
        return decided

    def _recent(self, direction: str, now: float) -> list[int]:
        """What was wanted within the stabilization window."""
        window = self.behavior[direction]["stabilizationWindowSeconds"]
        return [wanted for at, wanted in self._wanted if now - at <= window]

    def _limits(self, direction: str, now: float, replicas: int, *, sign: int) -> list[int]:
        """How far each policy lets the count move."""
        found = []
        for policy in self.behavior[direction]["policies"]:
            before = replicas - sum(change for at, change in self._changes if now - at < policy["periodSeconds"])
            if policy["type"] == "Pods":
                found.append(before + sign * policy["value"])
            else:
                limit = before * (1 + sign * policy["value"] / 100)
                found.append(math.ceil(limit) if sign > 0 else math.floor(limit))
        return found


@dataclass(slots=True, eq=False)
class _Replica:
    ready_at: float
    draining: bool = False
    streams: list[tuple[Record, float]] = field(default_factory=list)
    """With the tokens that have not come."""


def simulate(
    title: str,
    arrivals: Sequence[Arrival],
    engine: Engine,
    policy: HPA | int,
    *,
    start_seconds: float = START_SECONDS,
) -> Run:
    """Send a trace to simulated replicas.

    Args:
        title: of the run.
        arrivals: in the order of time.
        engine: each replica.
        policy: who decides about the number of replicas; a number: nobody.
        start_seconds: from the decision until a new replica is ready.

    Returns:
        What a real run would have recorded.
    """
    run = Run(title)
    replicas = [_Replica(0.0) for _ in range(policy if isinstance(policy, int) else policy.least)]
    coming, waiting = deque(arrivals), deque[Record]()
    step = 0
    while coming or waiting or any(replica.streams for replica in replicas):
        now = step * STEP_SECONDS
        while coming and coming[0].at <= now:
            one = coming.popleft()
            record = Record(one.at, one.prompt_tokens, one.output_tokens, sent=one.at)
            run.outcome.records.append(record)
            waiting.append(record)
        _dispatch(waiting, replicas, engine, now=now)
        for replica in replicas:
            _generate(replica, engine, now=now + STEP_SECONDS)
        replicas = [replica for replica in replicas if replica.streams or not replica.draining]
        if isinstance(policy, HPA) and step and step % round(SYNC_SECONDS / STEP_SECONDS) == 0:
            _scale(replicas, policy, now=now, ongoing=_ongoing(replicas, waiting), ready_at=now + start_seconds)
        if step % round(1 / STEP_SECONDS) == 0:
            run.samples.append(_sample(now, replicas, waiting))
        step += 1
    run.seconds = step * STEP_SECONDS
    return run


def _dispatch(waiting: deque[Record], replicas: Sequence[_Replica], engine: Engine, *, now: float) -> None:
    """Give waiting requests to the replicas with the fewest, as the router does."""
    ready = [
        (len(replica.streams), number, replica)
        for number, replica in enumerate(replicas)
        if replica.ready_at <= now and not replica.draining
    ]
    heapq.heapify(ready)
    while waiting and ready and ready[0][0] < engine.most_requests:
        count, number, replica = ready[0]
        record = waiting.popleft()
        replica.streams.append((record, float(record.output_tokens)))
        heapq.heapreplace(ready, (count + 1, number, replica))


def _generate(replica: _Replica, engine: Engine, *, now: float) -> None:
    """Let a replica generate for one step that ends now."""
    if not replica.streams:
        return
    made = engine.rate(len(replica.streams)) * STEP_SECONDS
    left = []
    for record, before in replica.streams:
        after = before - made
        if record.first_token is None and record.output_tokens - after >= 1:
            record.first_token = now
        if after > 0:
            left.append((record, after))
        else:
            record.last_token = record.ended = now
            record.tokens = record.output_tokens
    replica.streams = left


def _scale(replicas: list[_Replica], hpa: HPA, *, now: float, ongoing: int, ready_at: float) -> None:
    """Let the HPA look; what goes drains first, and nothing goes while a replica is loading."""
    staying = [replica for replica in replicas if not replica.draining]
    wanted = hpa.decide(now, replicas=len(staying), value=ongoing)
    replicas += [_Replica(ready_at) for _ in range(wanted - len(staying))]
    if all(replica.ready_at <= now for replica in staying):
        for replica in sorted(staying, key=lambda one: len(one.streams))[: max(0, len(staying) - wanted)]:
            replica.draining = True


def _ongoing(replicas: Sequence[_Replica], waiting: Sequence[Record]) -> int:
    return len(waiting) + sum(len(replica.streams) for replica in replicas)


def _sample(now: float, replicas: Sequence[_Replica], waiting: Sequence[Record]) -> Sample:
    return Sample(
        now,
        asked=sum(not replica.draining for replica in replicas),
        replicas=len(replicas),
        ready=sum(replica.ready_at <= now for replica in replicas),
        ongoing=_ongoing(replicas, waiting),
        waiting=len(waiting),
    )
