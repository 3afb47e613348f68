"""The custom metrics API, asked through a real API server."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import aiohttp
import pytest

from sundog_operator.core.names import Manifest
from sundog_operator.custom_metrics.answers import PATH, RESOURCE
from sundog_operator.custom_metrics.registration import NAME
from tests.apiserver.operator.conftest import Place, llm_deployment, serving_custom_metrics
from tests.apiserver.operator.played import router_load
from tests.apiserver.operator.world import until
from tests.cluster import ClusterError

pytestmark = pytest.mark.apiserver


async def ask(place: Place, path: str, *options: str) -> dict[str, Any]:
    return dict(json.loads(await asyncio.to_thread(place.cluster.kubectl, "get", "--raw", path, *options)))


def path_of(place: Place, metric: str, name: str = "qwen3") -> str:
    return f"{PATH}/namespaces/{place.namespace}/{RESOURCE}/{name}/{metric}"


async def test_a_value_is_had_through_the_api_server_and_by_nobody_else(place: Place) -> None:
    place.loads.router = router_load(ongoing=40, queued=3)
    place.loads.replica = {"kv_cache_utilization": 0.25, "generation_tokens_per_second": 12.5}
    async with place.proxy() as proxy, serving_custom_metrics(place, proxy) as (operator, port):
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")

        async def values() -> dict[str, str] | None:
            try:
                answers = {
                    metric["name"].partition("/")[2]: await ask(place, path_of(place, metric["name"].partition("/")[2]))
                    for metric in (await ask(place, PATH))["resources"]
                }
            except ClusterError:
                return None
            return {name: answer["items"][0]["value"] for name, answer in answers.items()}

        assert await until(values, "the custom metrics API answers") == {
            "ongoing_requests": "80",
            "waiting_requests": "6",
            "kv_cache_utilization": "250m",
            "tokens_per_second": "12500m",
        }
        every = await ask(place, path_of(place, "ongoing_requests", "*"))
        assert [item["describedObject"]["name"] for item in every["items"]] == ["qwen3"]
        for path, told in (
            (
                path_of(place, "ongoing_requests", "other"),
                f'there is no LLMDeployment "other" in namespace "{place.namespace}"',
            ),
            (path_of(place, "requests"), "there is no metric requests of LLMDeployments; there are ongoing_requests"),
        ):
            with pytest.raises(ClusterError, match=told):
                await ask(place, path)
        place.loads.router = None
        with pytest.raises(
            ClusterError, match=r"ongoing_requests of LLMDeployment qwen3 is unknown: router .* HTTP 503"
        ):
            await until(lambda: _forever(place), "an unknown value")
        with pytest.raises(ClusterError, match=r"forbidden|Forbidden"):
            await ask(place, path_of(place, "ongoing_requests"), "--as=somebody")
        # Past the API server: whoever names himself has no certificate to show.
        async with aiohttp.ClientSession() as session:
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await session.get(
                    f"https://127.0.0.1:{port}{path_of(place, 'ongoing_requests')}",
                    headers={"X-Remote-User": "admin", "X-Remote-Group": "system:masters"},
                    ssl=False,
                )
        assert operator.running


async def _forever(place: Place) -> None:
    await ask(place, path_of(place, "ongoing_requests"))


async def test_it_goes_with_what_is_uninstalled(place: Place) -> None:
    async with place.proxy() as proxy, serving_custom_metrics(place, proxy):

        async def is_registered() -> bool:
            return NAME in await asyncio.to_thread(place.cluster.kubectl, "get", "apiservice", "--output=name")

        await until(is_registered, "the APIService is there")
        await asyncio.to_thread(place.cluster.kubectl, "delete", "clusterrole", f"operator-{place.namespace}")

        async def is_gone() -> bool:
            return not await is_registered()

        await until(is_gone, "the APIService goes with its owner", seconds=120)


async def test_another_adapter_is_left_alone_and_told(place: Place) -> None:
    theirs: Manifest = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.custom.metrics.k8s.io"},
        "spec": {
            "group": "custom.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"namespace": "monitoring", "name": "adapter", "port": 443},
        },
    }
    await asyncio.to_thread(place.cluster.apply, [theirs])
    try:
        async with place.proxy() as proxy, serving_custom_metrics(place, proxy) as (operator, _):
            await until(lambda: operator.logged("custom metrics not registered"), "the other adapter is told")
            (told,) = [line["cause"] for line in operator.log() if line["event"] == "custom metrics not registered"]
            assert told.startswith(
                "APIService v1beta1.custom.metrics.k8s.io belongs to another metrics adapter "
                "(Service monitoring/adapter)"
            )
            listed = await asyncio.to_thread(place.cluster.kubectl, "get", "apiservice", "--output=name")
            assert NAME not in listed
    finally:
        await asyncio.to_thread(place.cluster.kubectl, "delete", "apiservice", "v1beta1.custom.metrics.k8s.io")
