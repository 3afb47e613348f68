"""Creating many LLMDeployments at once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from sundog_operator.kube.resources import LLM_DEPLOYMENT
from tests.bench.api import Api
from tests.bench.operator_process import OWN_REQUESTS, Operator
from tests.bench.resources import llm_deployment
from tests.bench.testbed import requests
from tests.bench.world import World

CLIENTS = 8
"""That create at once."""
SECONDS = 120.0
SECONDS_EACH = 4.0
"""Until all are Ready: ten times what it takes on a quiet machine."""


@dataclass(frozen=True, slots=True)
class Creation:
    """What it took to create so many LLMDeployments."""

    children: int
    children_per_second: float
    """From the first request of the bench to the last child."""
    seconds_to_ready: float
    """From the first request of the bench to the last Ready condition; mostly Kubernetes' and KWOK's own."""
    calls_per_resource: float
    """Of the operator to the API server, as that counts them; the operator's Lease aside."""
    calls_by_kind: dict[str, float]
    """The same by verb and kind, as the operator counts them."""
    events_per_resource: float
    cpu_milliseconds_per_resource: float


async def measure_creation(api: Api, operator: Operator, world: World, *, size: int) -> Creation:
    """Create LLMDeployments and wait until all are Ready and nothing happens any more."""
    own_before, before = await operator.counters(), await requests(api)
    cpu_before = operator.cpu_seconds()
    started = time.perf_counter()
    limit = asyncio.Semaphore(CLIENTS)

    async def create(number: int) -> None:
        async with limit:
            await api.create(LLM_DEPLOYMENT, llm_deployment(number, namespace=world.namespace))

    await asyncio.gather(*(create(number) for number in range(size)))
    limit_seconds = SECONDS + SECONDS_EACH * size
    await world.until(f"{size} LLMDeployments Ready", lambda: world.ready() >= size, seconds=limit_seconds)
    ready = time.perf_counter()
    await world.until_at_rest(size, seconds=limit_seconds)
    cpu = operator.cpu_seconds() - cpu_before
    calls = (await requests(api)).since(before).by_operator
    own = (await operator.counters()).since(own_before)
    created = [sighting.created_at for sighting in world.children.values()]
    return Creation(
        children=len(created),
        children_per_second=len(created) / (max(created) - started),
        seconds_to_ready=ready - started,
        calls_per_resource=(calls - own.total(OWN_REQUESTS, kind="Lease")) / size,
        calls_by_kind={key: count / size for key, count in sorted(own.by(OWN_REQUESTS, "verb", "kind").items())},
        events_per_resource=own.total(OWN_REQUESTS, kind="Event") / size,
        cpu_milliseconds_per_resource=cpu * 1000 / size,
    )
