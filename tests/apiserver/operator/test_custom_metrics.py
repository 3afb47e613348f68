"""The custom metrics API, asked through a real API server."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import unused_port

from sundog_operator.core.comparison import is_applied, with_applied_hash
from sundog_operator.core.load import Metric
from sundog_operator.core.names import MANAGED_BY, MANAGED_BY_LABEL, Manifest
from sundog_operator.custom_metrics.answers import PATH, RESOURCE
from sundog_operator.custom_metrics.certificates import bundle
from sundog_operator.custom_metrics.registration import NAME, api_service
from sundog_operator.kube import master_key
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


async def test_a_process_that_does_not_lead_answers_as_well(place: Place) -> None:
    place.loads.router = router_load(ongoing=40)
    # Nobody takes over within this test: whoever answers at its end does not lead.
    settings = {"lease_seconds": "600", "custom_metrics_service": "sundog-operator"}
    async with (
        place.proxy() as first_proxy,
        place.proxy() as second_proxy,
        serving_custom_metrics(place, first_proxy, lease_seconds="600") as (first, _),
    ):
        await first.leads()
        port = unused_port()
        second = place.operator(second_proxy, name="second", custom_metrics_port=str(port), **settings)
        await second.start()
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")

        async def value() -> str | None:
            try:
                answer = await ask(place, path_of(place, "ongoing_requests"))
            except ClusterError:
                return None
            return str(answer["items"][0]["value"])

        assert await until(value, "the leader answers") == "80"
        first.signal(signal.SIGSTOP)
        place.loads.router = router_load(ongoing=41)
        # As a Service does whose other endpoint is gone. What the API server trusts stays as the leader wrote it.
        elsewhere = json.dumps({"spec": {"service": {"port": port}}})
        await asyncio.to_thread(
            place.cluster.kubectl, "patch", "apiservice", NAME, "--type=merge", f"--patch={elsewhere}"
        )
        assert await until(value, "the other answers") == "82"
        assert await second.metric("sundog_leading") == 0
        assert not second.logged("leading")
        assert [seen for seen in second_proxy.writes if seen.resource != "subjectaccessreviews"] == []


def adapter(version: str) -> Manifest:
    """The APIService of another metrics adapter, as prometheus-adapter installs it."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.custom.metrics.k8s.io"},
        "spec": {
            "group": "custom.metrics.k8s.io",
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"namespace": "monitoring", "name": "adapter", "port": 443},
        },
    }


async def registered(place: Place) -> dict[str, Manifest]:
    """All APIServices of custom metrics, by name."""
    found = json.loads(await asyncio.to_thread(place.cluster.kubectl, "get", "apiservice", "--output=json"))
    return {
        each["metadata"]["name"]: each
        for each in found["items"]
        if each["spec"].get("group") == "custom.metrics.k8s.io"
    }


@asynccontextmanager
async def installed(place: Place, theirs: Manifest) -> AsyncIterator[None]:
    await asyncio.to_thread(place.cluster.apply, [theirs])
    try:
        yield
    finally:
        gone = ("delete", "apiservice", theirs["metadata"]["name"], "--ignore-not-found")
        await asyncio.to_thread(place.cluster.kubectl, *gone)


@pytest.mark.parametrize("version", ["v1beta1", "v1beta2"])
async def test_another_adapter_is_left_alone_and_told(place: Place, version: str) -> None:
    theirs = adapter(version)
    name = theirs["metadata"]["name"]
    async with installed(place, theirs), place.proxy() as proxy, serving_custom_metrics(place, proxy) as (operator, _):
        await until(lambda: operator.logged("custom metrics not registered"), "the other adapter is told")
        (told,) = [line["cause"] for line in operator.log() if line["event"] == "custom metrics not registered"]
        assert told.startswith(
            f"APIService {name} belongs to another metrics adapter (Service monitoring/adapter), and a cluster can "
            "have one: set spec.autoscaling.class to KEDA"
        )
        found = await registered(place)
        assert found.keys() == {name}
        assert found[name]["spec"] == theirs["spec"]
        assert "labels" not in found[name]["metadata"]
        assert [seen for seen in proxy.writes if seen.resource == "apiservices"] == []


async def test_another_adapter_is_replaced_where_that_is_asked_for(place: Place) -> None:
    async with (
        installed(place, adapter("v1beta2")),
        place.proxy() as proxy,
        serving_custom_metrics(place, proxy, custom_metrics_take_over="true") as (operator, port),
    ):

        async def resources() -> list[Manifest] | None:
            try:
                return list((await ask(place, PATH))["resources"])
            except ClusterError:
                return None

        found = await until(resources, lambda: f"the API server asks Sundog: {operator.log()}")
        assert {each["name"] for each in found} == {f"{RESOURCE}/{metric}" for metric in Metric}
        ours = (await registered(place))[NAME]
        assert ours["metadata"]["labels"][MANAGED_BY_LABEL] == MANAGED_BY
        assert ours["spec"]["service"] == {"namespace": place.namespace, "name": "sundog-operator", "port": port}
        assert not ours["spec"].get("insecureSkipTLSVerify"), "another adapter's trust in anyone is not kept"
        secret = await place.api.get("Secret", master_key.NAME)
        assert secret
        trusted = bundle(base64.b64decode(secret["data"][master_key.KEY]), unix_seconds=time.time())
        assert base64.b64decode(ours["spec"]["caBundle"]) == trusted
        role = ("get", "clusterrole", f"operator-{place.namespace}", "--output=json")
        owner = json.loads(await asyncio.to_thread(place.cluster.kubectl, *role))
        wanted = api_service(
            bundle=trusted, namespace=place.namespace, service="sundog-operator", port=port, owner=owner
        )
        assert is_applied(with_applied_hash(wanted), ours), "the next look would write it again"
