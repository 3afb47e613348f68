"""A changed list of LoRA adapters costs one PUT and a few questions, and no pod; an unchanged one costs nothing."""

from __future__ import annotations

from typing import Any

import pytest

from sundog_operator.core.view import condition
from tests.apiserver.operator.conftest import Place, llm_deployment
from tests.apiserver.operator.world import until

pytestmark = pytest.mark.apiserver

FRENCH = {"name": "french", "uri": "hf://acme/french"}
LEGAL = {"name": "legal", "uri": "hf://acme/legal"}


def _said(*adapters: dict[str, str], state: str = "loaded", message: str = "") -> list[dict[str, Any]]:
    """What a replica says of these."""
    return [{**adapter, "revision": None, "state": state, "message": message} for adapter in adapters]


async def _status(place: Place) -> dict[str, Any]:
    found = await place.api.get("LLMDeployment", "qwen3")
    return dict((found or {}).get("status") or {})


async def _until_adapters(place: Place, reason: str, *loaded: tuple[str, int]) -> None:
    async def holds() -> bool:
        status = await _status(place)
        rows = [(row["name"], row["loaded"]) for row in status.get("adapters", [])]
        return condition({"status": status}, "AdaptersReady").get("reason") == reason and rows == list(loaded)

    await until(holds, f"AdaptersReady says {reason} of {loaded}")


async def test_a_changed_list_costs_no_pod_and_an_unchanged_one_nothing(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        place.loads.adapters = _said(FRENCH)
        lora = {"uri": "hf://Qwen/Qwen3-0.6B", "lora": {"adapters": [FRENCH]}}
        await place.api.create("LLMDeployment", llm_deployment(replicas=2, router={"replicas": 1}, model=lora))
        await until(place.is_ready, "qwen3 is ready")
        await _until_adapters(place, "AdaptersLoaded", ("french", 2))
        await until(lambda: place.quiet(proxy), "nothing is written any more")
        pods = {pod["metadata"]["uid"] for pod in await place.api.list("Pod")}

        asked = len(place.loads.asked_for_adapters)
        await place.api.merge("LLMDeployment", "qwen3", {"spec": {"service": {"annotations": {"a": "b"}}}})
        await until(place.is_ready, "another change was seen")
        await until(lambda: place.quiet(proxy), "nothing is written any more")
        assert len(place.loads.asked_for_adapters) == asked, "who has all is not asked again"

        (service,) = place.heads.configs
        puts = place.heads.requests.count(("PUT", service))
        await place.api.merge("LLMDeployment", "qwen3", {"spec": {"model": {"lora": {"adapters": [FRENCH, LEGAL]}}}})
        await _until_adapters(place, "AdaptersChanging", ("french", 2), ("legal", 0))
        place.loads.adapters = _said(FRENCH) + _said(LEGAL, state="failed", message="boom")
        await _until_adapters(place, "AdapterFailed", ("french", 2), ("legal", 0))
        assert await place.is_ready()
        assert place.heads.requests.count(("PUT", service)) == puts + 1
        (deployment,) = place.heads.configs[service]["applications"][0]["deployments"]
        assert [entry["name"] for entry in deployment["user_config"]["adapters"]] == ["french", "legal"]

        place.loads.adapters = _said(LEGAL)
        await place.api.merge("LLMDeployment", "qwen3", {"spec": {"model": {"lora": {"adapters": [LEGAL]}}}})
        await _until_adapters(place, "AdaptersLoaded", ("legal", 2))
        await until(lambda: place.quiet(proxy), "nothing is written any more")
        assert {pod["metadata"]["uid"] for pod in await place.api.list("Pod")} == pods

        await operator.kill()
        place.loads.asked_for_adapters.clear()
        written = len(proxy.writes)
        successor = place.operator(proxy, name="operator-1")
        await successor.start()
        await successor.leads()
        await until(lambda: len(place.loads.asked_for_adapters) == 2, "a new operator asks each replica")
        assert await successor.metric("sundog_pass_seconds_count") >= 1
        assert [write for write in proxy.writes[written:] if not write.of_lease] == [], "and has nothing to write"
        assert len(set(place.loads.asked_for_adapters)) == 2
