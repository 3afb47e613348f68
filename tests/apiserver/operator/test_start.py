"""Starting, and not being able to: one clear sentence each, and an exit code."""

from __future__ import annotations

import asyncio
import base64

import pytest
from aiohttp import web

from sundog_operator.core.tokens import ray_token
from tests.apiserver.operator.conftest import Place, llm_deployment
from tests.apiserver.operator.proxy import Seen
from tests.apiserver.operator.world import until

pytestmark = pytest.mark.apiserver


def critical(log: list[dict[str, object]]) -> str:
    (line,) = [line for line in log if line["level"] == "critical"]
    return str(line["event"])


@pytest.mark.parametrize(
    ("resource", "verb"), [("pods", "watch"), ("pods", "list"), ("llmdeployments", "list"), ("deployments", "watch")]
)
async def test_a_missing_right_is_named(place: Place, resource: str, verb: str) -> None:
    found = await place.api.get("Role", "operator")
    assert found
    rules = [
        {**rule, "verbs": [v for v in rule["verbs"] if v != verb]} if resource in rule["resources"] else rule
        for rule in found["rules"]
    ]
    await place.api.merge("Role", "operator", {"rules": rules})

    async with place.proxy() as proxy:

        async def is_refused() -> bool:
            operator = place.operator(proxy)
            await operator.start()
            # The authorizer learns of the change a moment later.
            return await operator.ended() == 1

        await until(is_refused, "it ends")
        told = critical(place.operators[-1].log())
        assert f"may not list and watch {resource}" in told
        assert f'cannot {verb} resource "{resource}"' in told
        assert place.namespace in told


async def test_a_missing_definition_is_named(place: Place) -> None:
    async def unknown(seen: Seen) -> web.StreamResponse | None:
        if seen.resource == "llmdeployments":
            status = {"kind": "Status", "code": 404, "message": "the server could not find the requested resource"}
            return web.json_response(status, status=404)
        return None

    async with place.proxy() as proxy:
        proxy.before = unknown
        operator = place.operator(proxy)
        await operator.start()
        assert await operator.ended() == 1
        assert "does not know llmdeployments.sundog.dev: install its CustomResourceDefinition" in critical(
            operator.log()
        )


async def test_an_api_server_that_stays_away_is_given_up(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy, start_seconds="3")
        await proxy.close()
        await operator.start()
        assert await operator.ended() == 1
        assert critical(operator.log()).startswith("Giving up after 3 s without an API server: ")


async def test_an_api_server_that_comes_late_is_waited_for(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await proxy.close()
        await operator.start()
        await until(lambda: operator.logged("waiting for the API server"), "it waits")
        assert (await operator.get("/healthz"))[0] == 200
        assert (await operator.get("/readyz"))[0] == 503
        await proxy.open()
        await operator.leads()
        assert (await operator.get("/readyz"))[0] == 200


async def test_a_wrong_setting_is_named(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy, lease_seconds="soon")
        await operator.start()
        assert await operator.ended() == 2
        assert "SUNDOG_LEASE_SECONDS is 'soon'" in operator.log_file.read_text()


async def test_storage_classes_that_may_not_be_read_are_assumed(place: Place) -> None:
    await asyncio.to_thread(place.cluster.kubectl, "delete", "clusterrolebinding", f"operator-{place.namespace}")
    try:
        async with place.proxy() as proxy:
            operator = place.operator(proxy)
            await operator.start()
            await place.api.create("LLMDeployment", llm_deployment())
            await until(place.is_ready, "qwen3 is ready")
            assert len(await place.api.list("PersistentVolumeClaim")) == 1
            assert not any(line["level"] in {"warning", "error"} for line in operator.log())
    finally:
        binding = f"operator-{place.namespace}"
        account = f"--serviceaccount={place.namespace}:operator"
        create = ("create", "clusterrolebinding", binding, f"--clusterrole={binding}", account)
        await asyncio.to_thread(place.cluster.kubectl, *create)


@pytest.mark.parametrize("moment", ["waiting", "standby", "leading"])
async def test_it_ends_cleanly_within_seconds_whatever_it_is_doing(place: Place, moment: str) -> None:
    async with place.proxy() as proxy:
        if moment == "standby":
            other = place.operator(proxy, name="other")
            await other.start()
            await other.leads()
        operator = place.operator(proxy)
        if moment == "waiting":
            await proxy.close()
        await operator.start()
        event = {"waiting": "waiting for the API server", "standby": "started", "leading": "leading"}[moment]
        await until(lambda: operator.logged(event), event)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await operator.stop() == 0
        print(f"{moment}: ended after {loop.time() - began:.2f} s")
        assert loop.time() - began < 10
        assert [line for line in operator.log() if line["level"] in {"error", "critical"}] == []


async def test_two_operators_that_start_at_once_have_one_master_key(place: Place) -> None:
    key = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    metadata = {"name": "sundog-master-key"}
    quicker = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"key": key}, "immutable": True}

    async def another_is_quicker(seen: Seen) -> web.StreamResponse | None:
        # It has found that there is no key, and is about to make one.
        if seen.method == "POST" and seen.resource == "secrets" and not await place.api.get("Secret", metadata["name"]):
            await place.api.create("Secret", quicker)
        return None

    async with place.proxy() as proxy:
        proxy.before = another_is_quicker
        operator = place.operator(proxy)
        await operator.start()
        created = await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        uid = created["metadata"]["uid"]
        (tokens,) = [s for s in await place.api.list("Secret") if s["metadata"]["name"].startswith("qwen3-token-")]
        assert [base64.b64decode(tokens["data"]["ray"]).decode()] == [ray_token(base64.b64decode(key), uid)]


async def test_a_master_key_that_is_none_is_told(place: Place) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "sundog-master-key"},
        "data": {"key": "c2hvcnQ="},
    }
    await place.api.create("Secret", secret)
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        assert await operator.ended() == 1
        assert "has no key 'key' of at least 16 bytes" in critical(operator.log())
