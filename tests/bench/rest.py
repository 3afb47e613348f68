"""An operator with nothing to do: what it still asks for, and what it writes when it starts anew."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from tests.apiserver.operator.played import Heads
from tests.bench.api import Api
from tests.bench.figures import per_hour
from tests.bench.operator_process import OWN_REQUESTS, Operator, Settings
from tests.bench.testbed import requests
from tests.bench.world import World

COMPARED_SECONDS = 15.0
"""Soon after its start the operator compares its store with lists; it is idle when it has."""
REST_SECONDS = 60.0
SETTLE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Idle:
    """Requests per hour, of the operator as a whole; what it needs per resource is in `per_resource`."""

    seconds: float
    leases: float
    watches: float
    """Opened anew."""
    others: float
    others_per_resource: float
    ray_per_resource: float
    cpu_milliseconds_per_resource: float
    cpu_milliseconds: float


@dataclass(frozen=True, slots=True)
class Restart:
    """What a killed and restarted operator did with resources that had not changed."""

    writes: int
    by_kind: dict[str, int]
    """By verb and resource, as the API server counts; anybody's, and nobody else writes then."""
    seconds: float
    """From the kill until the last resource had been looked at; up to 15 s of it the lost Lease holds on."""
    cpu_milliseconds_per_resource: float


async def measure_idle(api: Api, operator: Operator, heads: Heads, *, size: int, seconds: float) -> Idle:
    """Watch an operator do nothing."""
    own_before, before, ray_before = await operator.counters(), await requests(api), len(heads.requests)
    cpu_before, started = operator.cpu_seconds(), time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - started
    cpu = per_hour(operator.cpu_seconds() - cpu_before, seconds=took) * 1000
    every = (await requests(api)).since(before).by_operator
    own = (await operator.counters()).since(own_before)
    leases, told = own.total(OWN_REQUESTS, kind="Lease"), own.total(OWN_REQUESTS)
    others = per_hour(told - leases, seconds=took)
    return Idle(
        seconds=took,
        leases=per_hour(leases, seconds=took),
        # The operator does not count its watches; the API server counts all.
        watches=per_hour(max(0.0, every - told), seconds=took),
        others=others,
        others_per_resource=others / size,
        ray_per_resource=per_hour(len(heads.requests) - ray_before, seconds=took) / size,
        cpu_milliseconds_per_resource=cpu / size,
        cpu_milliseconds=cpu,
    )


async def measure_restart(
    api: Api, operator: Operator, world: World, *, settings: Settings, size: int
) -> tuple[Restart, Operator]:
    """Kill the operator, start another in its place, and count what is written; gives the other.

    Raises:
        BenchError: the other did not look at all resources.
    """
    before = await requests(api)
    started = time.perf_counter()
    await operator.kill()
    other = Operator(settings)
    try:
        await other.until_leading()
        await other.until_passed(size)
        looked = time.perf_counter()
        cpu = other.cpu_seconds()
        await asyncio.sleep(SETTLE_SECONDS)
        await world.until_at_rest(size, seconds=REST_SECONDS)
        writes = {key: int(value) for key, value in (await requests(api)).since(before).writes.items()}
    except BaseException:
        await other.kill()
        raise
    return Restart(sum(writes.values()), writes, looked - started, cpu * 1000 / size), other
