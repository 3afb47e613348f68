"""The load of an LLMDeployment, as whoever scales it asks for it."""

from __future__ import annotations

import json

import pytest

from tests.apiserver.operator.conftest import Place, llm_deployment
from tests.apiserver.operator.played import router_load
from tests.apiserver.operator.world import until

pytestmark = pytest.mark.apiserver


async def test_every_process_tells_a_load_and_one_tells_prometheus(place: Place) -> None:
    async with place.proxy() as proxy:
        first, second = (place.operator(proxy, name=f"operator-{number}") for number in (0, 1))
        await first.start()
        await first.leads()
        await second.start()
        await place.api.create("LLMDeployment", llm_deployment(replicas=3))
        await until(place.is_ready, "qwen3 is ready")
        place.loads.router = router_load(ongoing=40, queued=3)
        place.loads.replica = {"kv_cache_utilization": 0.5, "generation_tokens_per_second": 100}
        wanted = {
            "ongoing_requests": 80,
            "waiting_requests": 6,
            "kv_cache_utilization": 0.5,
            "tokens_per_second": 300,
        }
        path = f"/loads/{place.namespace}/qwen3"

        async def all_tell() -> bool:
            answers = [await each.get(path) for each in (first, second)]
            return all(status == 200 and json.loads(text) == wanted for status, text in answers)

        await until(all_tell, "both processes tell the load")
        labels = f'{{name="qwen3",namespace="{place.namespace}"}}'
        _, told = await first.get("/metrics/loads")
        assert f"sundog_llmdeployment_ongoing_requests{labels} 80.0" in told
        _, told = await second.get("/metrics/loads")
        assert labels not in told
        # How it is, likewise.
        _, told = await first.get("/metrics")
        assert f"sundog_llmdeployment_ready_replicas{labels} 3.0" in told
        assert f"sundog_llmdeployment_head_state_volatile{labels} " in told
        assert "sundog_lease_transitions 0.0" in told
        _, told = await second.get("/metrics")
        assert labels not in told
        assert "sundog_lease_transitions" not in told

        place.loads.router = None

        async def is_unmeasured() -> bool:
            status, text = await second.get(path)
            errors = json.loads(text).get("errors", {})
            return status == 200 and "answered HTTP 503 when asked for its load" in errors.get("ongoing_requests", "")

        await until(is_unmeasured, "a router that does not say its load is told")
        status, text = await first.get(f"/loads/{place.namespace}/other")
        assert (status, json.loads(text)) == (
            404,
            {"errors": {"*": f"there is no LLMDeployment other in namespace {place.namespace}, or it is not watched"}},
        )
