"""What the custom metrics API costs: the questions of a HorizontalPodAutoscaler, through the API server.

Every LLMDeployment is asked about as the HorizontalPodAutoscaler controller does it, in that controller's name. The
pods that the operator asks in turn are played, and what they are asked is counted there.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sundog_operator.core.load import Metric
from sundog_operator.custom_metrics import answers
from tests.apiserver.operator.played import Loads, router_load
from tests.bench.api import Api
from tests.bench.errors import BenchError
from tests.bench.figures import Distribution, distribution
from tests.bench.machine import Others
from tests.bench.operator_process import POLL_SECONDS, Operator
from tests.bench.world import World
from tests.cluster.progress import Progress

ROUTERS: Final = 2
"""Of each LLMDeployment: the default."""
ONGOING: Final = 21
"""What each router says."""
PERIOD_SECONDS: Final = 15.0
"""Between two questions about the same: the controller's --horizontal-pod-autoscaler-sync-period by default."""
PERIODS: Final = 4
IN_FLIGHT: Final = 8
BUSY_SECONDS: Final = 10.0
START_SECONDS: Final = 60.0
USER: Final = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
"""In whose name it is asked: with that account's rights, which the operator reviews."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What questions cost that were asked at one rate."""

    per_second: float
    latency: Distribution
    """In seconds, of one question, through the API server."""
    cpu_milliseconds_each: float
    """Of the operator."""
    pod_requests_each: float
    """Of the operator to routers and workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsApi:
    """The cost of the custom metrics API with so many LLMDeployments."""

    size: int
    steady: Questions
    """At the HorizontalPodAutoscaler controller's rate."""
    busy: Questions
    """As fast as a client gets answers that has 8 questions in flight."""
    other_processors: float
    """That other programs used meanwhile."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When one LLMDeployment is asked about."""

    seconds: float
    number: int


def moments(count: int, *, period: float, periods: int, seed: int = 0) -> list[Moment]:
    """Give every LLMDeployment a random moment of the period, and the same in each that follows; in order."""
    chooser = random.Random(seed)
    offsets = [chooser.uniform(0, period) for _ in range(count)]
    every = (Moment(offset + period * turn, number) for number, offset in enumerate(offsets) for turn in range(periods))
    return sorted(every, key=lambda moment: moment.seconds)


def questions(latencies: Sequence[float], *, seconds: float, cpu_seconds: float, pod_requests: int) -> Questions:
    """Divide what was measured.

    Raises:
        ValueError: there was no question.
    """
    latency = distribution(latencies)
    return Questions(
        per_second=latency.count / seconds,
        latency=latency,
        cpu_milliseconds_each=cpu_seconds * 1000 / latency.count,
        pod_requests_each=pod_requests / latency.count,
    )


async def measure_metrics_api(
    api: Api, operator: Operator, loads: Loads, world: World, *, periods: int, own: list[int], progress: Progress
) -> MetricsApi:
    """Ask at both rates about the LLMDeployments that are there.

    Args:
        api: asked by.
        operator: that answers.
        loads: of the pods.
        world: with the LLMDeployments, all of them Ready.
        periods: in which each is asked about once.
        own: further processes that belong to the measurement.
        progress: is told.

    Raises:
        BenchError: a question was not answered, or wrongly.
    """
    loads.router = router_load(ongoing=ONGOING)
    size = len(world.resources)
    asker = _Asker(api, operator, loads, world)
    await asker.until_served()
    others = Others([os.getpid(), operator.process, *own])
    with progress.task(f"{size}: asking the metrics API every {PERIOD_SECONDS:g} s"):
        steady = await asker.measure(asker.steadily(periods))
    with progress.task(f"{size}: asking the metrics API with {IN_FLIGHT} questions in flight"):
        busy = await asker.measure(asker.busily())
    return MetricsApi(size=size, steady=steady, busy=busy, other_processors=others.processors())


class _Asker:
    """Asks about the LLMDeployments of one namespace."""

    def __init__(self, api: Api, operator: Operator, loads: Loads, world: World) -> None:
        self._api = api
        self._operator = operator
        self._loads = loads
        self._namespace = world.namespace
        self._names = sorted(world.resources)
        self._latencies: list[float] = []

    async def until_served(self) -> None:
        """Wait until the API server passes questions on; what it said last is raised where it never does."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return await self._ask(self._names[0])
            except BenchError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(POLL_SECONDS)

    async def measure(self, asking: Coroutine[Any, Any, None]) -> Questions:
        """Measure what the questions cost that are asked meanwhile."""
        self._latencies = []
        pod_requests, cpu = self._loads.requests, self._operator.cpu_seconds()
        started = time.perf_counter()
        await asking
        return questions(
            self._latencies,
            seconds=time.perf_counter() - started,
            cpu_seconds=self._operator.cpu_seconds() - cpu,
            pod_requests=self._loads.requests - pod_requests,
        )

    async def steadily(self, periods: int) -> None:
        """Ask about each every period."""
        started = time.perf_counter()

        async def at(moment: Moment) -> None:
            await asyncio.sleep(started + moment.seconds - time.perf_counter())
            await self._ask(self._names[moment.number])

        every = moments(len(self._names), period=PERIOD_SECONDS, periods=periods)
        await asyncio.gather(*(at(moment) for moment in every))

    async def busily(self) -> None:
        """Ask about one after the other, again and again."""
        end = time.perf_counter() + BUSY_SECONDS
        turn = itertools.cycle(self._names)

        async def client() -> None:
            while time.perf_counter() < end:
                await self._ask(next(turn))

        await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))

    async def _ask(self, name: str) -> None:
        path = f"{answers.PATH}/namespaces/{self._namespace}/{answers.RESOURCE}/{name}/{Metric.ONGOING_REQUESTS}"
        started = time.perf_counter()
        answer = json.loads(await self._api.text(path, user=USER))
        self._latencies.append(time.perf_counter() - started)
        said = [item["value"] for item in answer["items"]]
        if said != [str(ROUTERS * ONGOING)]:
            raise BenchError(f"the metrics API answered {said} for {name}, whose {ROUTERS} routers say {ONGOING} each")
