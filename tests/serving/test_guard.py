"""What the guard lets through, and what it never does."""

import logging

import aiohttp
import pytest
from yarl import URL

from sundog_serving.engine import Receive, Scope, Send
from sundog_serving.guard import Guard
from tests.serving.conftest import HEADERS, TOKEN, StartReplica, served

CANARY = "canary-prompt-7f3a"


@pytest.mark.parametrize(
    "route", ["/v1/models", "/metrics", "/sundog/load", "/sundog/engine", "/sundog/adapters", "/health", "/nowhere"]
)
async def test_every_route_demands_the_token(replica: StartReplica, route: str) -> None:
    running = await replica()
    for wrong in (
        {"x-sundog-replica-token": "other"},
        {"x-sundog-replica-token": ""},
        {"x-sundog-replica-token": None},
    ):
        headers = {name: value for name, value in wrong.items() if value is not None}
        async with aiohttp.request("GET", f"{running.url}{route}", headers=headers) as response:
            assert response.status == 403
            error = (await response.json())["error"]
            assert error["type"] == "PermissionDeniedError"
            assert error["code"] == 403


async def test_a_second_token_beside_the_right_one_is_refused(replica: StartReplica) -> None:
    running = await replica()
    doubled = [("x-sundog-replica-token", "other")]
    async with running.client.get("/v1/models", headers=[*HEADERS.items(), *doubled]) as response:
        assert response.status == 403


@pytest.mark.parametrize(
    "route",
    [
        "/sleep",
        "/wake_up",
        "/collective_rpc",
        "/reset_prefix_cache",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/scale_elastic_ep",
        "/abort_requests",
        "/inference/v1/abort_requests",
        "/start_profile",
        "/docs",
        "/openapi.json",
        "//sleep",
        "/v1/models/../../sleep",
        "/v1/responses/a/../../../sleep",
        "/%2e%2e/sleep",
    ],
)
async def test_control_routes_are_closed(replica: StartReplica, route: str) -> None:
    running = await replica()
    # As it stands: a client would tidy up dots and slashes.
    async with running.client.post(URL(f"{running.url}{route}", encoded=True)) as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == 404


async def test_a_control_route_that_the_engine_has_would_work_without_the_guard(replica: StartReplica) -> None:
    """The test above would prove nothing if the fake engine had no such route at all."""
    running = await replica()
    paths = {route.path for route in running.engine.app.routes}  # type: ignore[attr-defined]
    assert "/sleep" in paths


async def test_websockets_demand_the_token_too(replica: StartReplica) -> None:
    running = await replica()
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await client.ws_connect(f"{running.url}/v1/realtime")
    assert caught.value.status == 403


async def test_the_engine_never_sees_the_token(replica: StartReplica) -> None:
    running = await replica()
    seen: list[bytes] = []
    inner = running.engine.app

    async def spy(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(name for name, _ in scope.get("headers", ()))
        await inner(scope, receive, send)

    running.engine.app = spy
    async with (
        served(Guard(running.engine, token=TOKEN, about={})) as url,
        aiohttp.request("GET", f"{url}/v1/models", headers=HEADERS) as response,
    ):
        assert response.status == 200
    assert b"host" in seen
    assert b"x-sundog-replica-token" not in seen


async def test_a_guard_without_a_token_is_refused(replica: StartReplica) -> None:
    with pytest.raises(ValueError, match="empty token"):
        Guard((await replica()).engine, token="", about={})


async def test_load_and_engine_are_told(replica: StartReplica) -> None:
    running = await replica()
    await running.post("/v1/completions", prompt="one two", max_tokens=3)
    status, load = await running.get("/sundog/load")
    assert status == 200
    assert 0 < load.pop("generation_tokens_per_second") <= 0.3
    assert load == {
        "running": 0,
        "waiting": 0,
        "kv_cache_utilization": 0.0,
        "prompt_tokens_total": 2,
        "generation_tokens_total": 3,
        "steps_total": 3,
    }
    assert await running.get("/sundog/engine") == (200, {"engine": "fake"})


async def test_the_access_log_names_the_route_and_never_the_prompt(
    replica: StartReplica, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    running = await replica()
    await running.post("/v1/completions", prompt=CANARY, max_tokens=1)
    await running.post(f"/v1/completions?q={CANARY}", prompt=CANARY, max_tokens=1)
    for path in (f"/v1/responses/{CANARY}/cancel", f"/{CANARY}"):
        async with running.client.post(path) as response:
            assert response.status == 404
    lines = [record.getMessage() for record in caplog.records if record.name == "sundog.access"]
    assert [line.split()[1] for line in lines] == ["route=/v1/completions"] * 2 + ["route=/v1/responses/{id}/cancel"]
    assert "status=200 outcome=done" in lines[0]
    assert CANARY not in caplog.text


async def test_scrapes_do_not_fill_the_access_log(replica: StartReplica, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sundog.access")
    running = await replica()
    async with running.client.get("/metrics") as response:
        assert response.status == 200
    await running.get("/sundog/load")
    assert not [record for record in caplog.records if record.name == "sundog.access"]
