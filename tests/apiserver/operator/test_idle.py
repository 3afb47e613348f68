"""A hundred resources that nothing happens to: nothing is written, and hardly anything is read."""

from __future__ import annotations

import asyncio

import pytest

from tests.apiserver.operator.conftest import Place, llm_deployment
from tests.apiserver.operator.world import until

pytestmark = [pytest.mark.apiserver, pytest.mark.patient, pytest.mark.timeout(1200)]

RESOURCES = 100
IDLE_SECONDS = 120


async def test_a_hundred_idle_resources_cost_no_write(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        await operator.leads()
        for number in range(RESOURCES):
            await place.api.create("LLMDeployment", llm_deployment(f"llm-{number}", router={"replicas": 1}))

        async def all_ready() -> bool:
            return await operator.metric('sundog_resources{ready="True"}') == RESOURCES

        await until(all_ready, "all are ready", seconds=600, every=1.0)  # a list of them is long
        # The controllers of Kubernetes have their last word, too.
        await until(lambda: place.quiet(proxy), "nothing is written any more", seconds=60)
        versions, written = await place.api.versions(), len(proxy.writes)
        seen, asked = len(proxy.seen), len(place.heads.requests)
        passes = await operator.metric("sundog_pass_seconds_count")
        processor = await operator.metric("process_cpu_seconds_total")
        await asyncio.sleep(IDLE_SECONDS)
        assert proxy.writes[written:] == []
        assert await place.api.versions() == versions
        assert len(place.heads.requests) == asked, "no head is asked"
        reads = [request for request in proxy.seen[seen:] if not request.of_lease]
        used = await operator.metric("process_cpu_seconds_total") - processor
        print(
            f"{RESOURCES} idle resources, {IDLE_SECONDS} s: {len(reads)} reads, "
            f"{await operator.metric('sundog_pass_seconds_count') - passes:g} passes, {used:.2f} s of CPU, "
            f"{await operator.metric('process_resident_memory_bytes') / 2**20:.0f} MiB"
        )
        # Ten kinds: a comparison with the API server, and each watch opened anew.
        assert len(reads) <= 40
