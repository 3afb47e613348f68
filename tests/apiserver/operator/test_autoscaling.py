"""`spec.autoscaling` with the real HorizontalPodAutoscaler controller, and with KEDA's resource."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sundog_operator.core.names import Manifest
from tests.apiserver.operator import rights
from tests.apiserver.operator.conftest import Place, llm_deployment, serving_custom_metrics
from tests.apiserver.operator.played import router_load
from tests.apiserver.operator.world import until

pytestmark = pytest.mark.apiserver

SECONDS = 120.0
"""The controller looks every 5 s, and finds a new API after some time."""


async def told(place: Place, kind: str = "AutoscalingActive") -> tuple[str, str, str]:
    found = await place.api.get("LLMDeployment", "qwen3") or {}
    for each in found.get("status", {}).get("conditions", []):
        if each["type"] == kind:
            return each["status"], each["reason"], each["message"]
    return "", "", ""


async def decisions(place: Place) -> list[dict[str, Any]]:
    found = await place.api.get("LLMDeployment", "qwen3") or {}
    return list(found.get("status", {}).get("scaling", []))


async def replicas(place: Place) -> int:
    return int((await place.api.get("LLMDeployment", "qwen3") or {})["spec"]["replicas"])


async def events(place: Place) -> list[tuple[str, str]]:
    return [(each["reason"], each["note"]) for each in await place.api.list("Event") if "note" in each]


async def test_an_autoscaler_scales_by_the_load_and_everything_is_explained(place: Place) -> None:
    async with place.proxy() as proxy, serving_custom_metrics(place, proxy):
        autoscaling = {"maxReplicas": 4, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}
        await place.api.create("LLMDeployment", llm_deployment(autoscaling=autoscaling))
        await until(place.is_ready, "qwen3 is ready")
        scaling = ("True", "Scaling", "between 1 and 4 replicas, as the load asks for")

        async def is_scaling() -> bool:
            return await told(place) == scaling

        await until(is_scaling, "the autoscaler works", seconds=SECONDS)
        place.loads.router = router_load(ongoing=40)  # two routers: 80 requests

        async def is_decided() -> bool:
            last = (await decisions(place))[-1]
            return last["to"] == 2 and "metric" in last

        await until(is_decided, "twice as many", seconds=SECONDS)
        up = (await decisions(place))[-1]
        assert {key: up[key] for key in up if key != "time"} == {
            "from": 1,
            "to": 2,
            "who": "HorizontalPodAutoscaler",
            "metric": "ongoing_requests",
            "value": "80",
            "target": "32",
        }
        reason = "ongoing_requests is 80 for each replica, and should be 32"
        assert ("ScaledUp", f"replicas 1 → 2 by HorizontalPodAutoscaler: {reason}") in await events(place)
        await until(place.is_ready, "two replicas")

        place.loads.router = None

        async def is_told() -> bool:
            state, why, message = await told(place)
            return (state, why) == ("False", "MetricsUnavailable") and (
                message.startswith("the number of replicas is held: ")
                and "answered HTTP 503 when asked for its load" in message
            )

        await until(is_told, "what is wrong is told in plain words", seconds=SECONDS)
        assert await replicas(place) == 2, "it holds"
        place.loads.router = router_load(ongoing=1)

        async def is_down() -> bool:
            last = (await decisions(place))[-1]
            return (last["from"], last["to"]) == (2, 1) and bool(last.get("victims")) and await place.is_ready()

        await until(is_down, "it goes on by itself", seconds=SECONDS)
        assert [seen.path for seen in proxy.writes if seen.path.endswith("/scale")] == [], "the number is not ours"


async def test_the_last_replica_goes_and_comes_with_the_requests(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        autoscaling = {"minReplicas": 0, "idleSeconds": 10, "maxReplicas": 4}
        await place.api.create("LLMDeployment", llm_deployment(autoscaling=autoscaling))
        await until(place.is_ready, "qwen3 is ready")
        place.loads.router = router_load(idle_seconds=100)

        async def is_at_zero() -> bool:
            return await place.api.ready_reason("qwen3") == ("True", "ScaledToZero")

        async def are_held() -> bool:  # once the last pod has ended, which answered until then
            return (await told(place, "Available"))[:2] == ("True", "RequestsHeld")

        await until(is_at_zero, "no request came for a while")
        await until(are_held, "requests are held")
        last = (await decisions(place))[-1]
        assert (last["from"], last["to"], last["who"]) == (1, 0, "Sundog")
        place.loads.router = router_load(ongoing=1, held=1)
        await until(place.is_ready, "a request brings it back")
        assert [(each["to"], each["who"]) for each in (await decisions(place))[-2:]] == [(0, "Sundog"), (1, "Sundog")]


async def test_a_second_autoscaler_is_refused_and_the_cure_works(place: Place) -> None:
    theirs: Manifest = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "theirs"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "sundog.dev/v1alpha1", "kind": "LLMDeployment", "name": "qwen3"},
            "maxReplicas": 2,
        },
    }
    async with place.proxy() as proxy, serving_custom_metrics(place, proxy):
        await place.api.create("HorizontalPodAutoscaler", theirs)
        await place.api.create("LLMDeployment", llm_deployment(autoscaling={"maxReplicas": 4}))

        async def is_refused() -> bool:
            return (await told(place))[:2] == ("False", "AnotherAutoscaler")

        await until(is_refused, "the other one is told")
        assert [each["metadata"]["name"] for each in await place.api.list("HorizontalPodAutoscaler")] == ["theirs"]
        await place.api.delete("HorizontalPodAutoscaler", "theirs")

        async def has_ours() -> bool:
            return await place.api.get("HorizontalPodAutoscaler", "qwen3") is not None

        await until(has_ours, "ours is made when the other has gone")


async def test_a_behavior_that_kubernetes_refuses_is_told_in_its_words(place: Place) -> None:
    async with place.proxy() as proxy:
        await place.operator(proxy).start()
        wrong = {"scaleUp": {"policies": [{"type": "Replicas", "value": 1, "periodSeconds": 60}]}}
        await place.api.create("LLMDeployment", llm_deployment(autoscaling={"maxReplicas": 4, "behavior": wrong}))

        async def is_told() -> bool:
            state, reason, message = await told(place, "Ready")
            return (state, reason) == ("False", "ApplyFailed") and (
                "apply HorizontalPodAutoscaler qwen3" in message and 'Unsupported value: "Replicas"' in message
            )

        await until(is_told, "the field and what it may be")


async def test_without_a_metrics_api_the_cure_is_told(place: Place) -> None:
    async with place.proxy() as proxy:
        await place.operator(proxy).start()
        await place.api.create("LLMDeployment", llm_deployment(autoscaling={"maxReplicas": 4}))

        async def is_told() -> bool:
            state, reason, message = await told(place)
            return (state, reason) == ("False", "MetricsUnavailable") and "customMetrics.enabled" in message

        await until(is_told, "what to switch on")


KEDA: Manifest = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "scope": "Namespaced",
        "names": {"kind": "ScaledObject", "listKind": "ScaledObjectList", "plural": "scaledobjects"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            field: {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                            for field in ("spec", "status")
                        },
                    }
                },
            }
        ],
    },
}
"""KEDA's own CRD says more of the fields; what is asked here is whether it is found, filled and deleted."""


async def test_keda_gets_a_scaled_object_where_it_is_installed(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy, metrics_service="sundog-operator-metrics")
        await operator.start()
        autoscaling = {"class": "KEDA", "minReplicas": 0, "maxReplicas": 4}
        await place.api.create("LLMDeployment", llm_deployment(autoscaling=autoscaling))

        async def is_missing() -> bool:
            return (await told(place))[:2] == ("False", "KEDANotFound")

        await until(is_missing, "that KEDA is not there is told")
        await operator.stop()
        await asyncio.to_thread(place.cluster.apply, [KEDA])
        name = "customresourcedefinition/scaledobjects.keda.sh"
        try:

            async def is_served() -> bool:
                served = await asyncio.to_thread(place.cluster.kubectl, "api-resources", "--api-group=keda.sh")
                return "scaledobjects" in served

            await until(is_served, "the API server knows ScaledObjects")
            operator = place.operator(proxy, name="operator-1", metrics_service="sundog-operator-metrics")
            await operator.start()

            async def is_made() -> bool:
                return bool(await place.api.get("ScaledObject", "qwen3"))

            await until(is_made, "a ScaledObject")
            found = await place.api.get("ScaledObject", "qwen3") or {}
            assert found["spec"]["cooldownPeriod"] == 900
            assert await place.api.list("HorizontalPodAutoscaler") == []
            await place.api.merge("LLMDeployment", "qwen3", {"spec": {"autoscaling": None}})

            async def is_gone() -> bool:
                return not await place.api.get("ScaledObject", "qwen3")

            await until(is_gone, "it goes when it is not asked for any more")
            assert rights.triples(rights.rules(rights.KEDA)) <= proxy.used()
            await operator.stop()
        finally:
            await asyncio.to_thread(place.cluster.kubectl, "delete", name)
