"""The API server is away, hangs, or refuses for a while: no crash, no storm, and everything is caught up with after."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from aiohttp import web

from tests.apiserver.operator.conftest import Place, llm_deployment
from tests.apiserver.operator.proxy import Cut, Seen
from tests.apiserver.operator.world import differences, until

pytestmark = [pytest.mark.apiserver, pytest.mark.patient]

AWAY_SECONDS = 25.0
"""Longer than the Lease holds."""


async def away(seconds: float = AWAY_SECONDS) -> None:
    await asyncio.sleep(seconds)  # the outage itself


async def router_has(place: Place, replicas: int) -> bool:
    found = await place.api.get("Deployment", "qwen3-router")
    return found is not None and found["spec"]["replicas"] == replicas


@pytest.mark.parametrize("how", ["refused", "hung"])
async def test_an_absence_of_the_api_server_is_outlived_and_caught_up_with(place: Place, how: str) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        back = asyncio.Event()

        async def hang(_: Seen) -> web.StreamResponse | None:
            await back.wait()
            raise Cut

        if how == "refused":
            await proxy.close()
        else:
            proxy.before = hang
            proxy.cut_streams()
        await place.api.merge("LLMDeployment", "qwen3", {"spec": {"router": {"replicas": 3}}})
        before = len(proxy.seen)
        await away()
        assert operator.running
        assert (await operator.get("/healthz"))[0] == 200
        assert await operator.metric("sundog_leading") == 0, "nothing may be written while the Lease can't be renewed"
        requests = len(proxy.seen) - before
        assert requests < AWAY_SECONDS * 3, "ten watches and the Lease are tried again, at most every few seconds"
        if how == "refused":
            await proxy.open()
        else:
            proxy.before = _pass
            back.set()
        began = time.monotonic()
        await until(lambda: router_has(place, 3), "the change is made")
        print(f"{how}: caught up {time.monotonic() - began:.1f} s after the API server's return")
        await until(place.is_ready, "qwen3 is ready")
        assert len([line for line in operator.log() if line["event"] == "leading"]) == 1
        assert [line for line in operator.log() if line["level"] in {"error", "critical"}] == []


async def _pass(_: Seen) -> web.StreamResponse | None:
    return None


@pytest.mark.parametrize(("status", "retry_after"), [(429, "1"), (500, None), (503, None), (409, None)])
async def test_refusals_by_the_api_server_itself_are_outlived(
    place: Place, status: int, retry_after: str | None
) -> None:
    async with place.proxy() as proxy:
        whole = place.operator(proxy)
        await whole.start()
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")
        await until(lambda: place.quiet(proxy), "no more is written")
        wanted = await place.api.snapshot()
        await place.api.delete("LLMDeployment", "qwen3")

        async def is_gone() -> bool:
            return not any(name.startswith("qwen3") for kind, name in await place.api.versions() if kind != "Event")

        await until(is_gone, "everything is gone")
        count = itertools.count()

        async def refuse(seen: Seen) -> web.StreamResponse | None:
            # Two of three writes fail, whatever they are; the Lease too.
            if seen.writes and next(count) % 3:
                headers = {"Retry-After": retry_after} if retry_after else {}
                body = {"kind": "Status", "code": status, "message": "a fault of the test's"}
                return web.json_response(body, status=status, headers=headers)
            return None

        proxy.before = refuse
        began, before = time.monotonic(), len(proxy.writes)
        await place.api.create("LLMDeployment", llm_deployment())
        await asyncio.sleep(10)  # the fault itself
        attempts = len(proxy.writes) - before
        print(f"HTTP {status}: {attempts} writes in 10 s of faults")
        assert attempts < 45
        proxy.before = _pass
        began = time.monotonic()
        await until(place.is_ready, "qwen3 is ready")
        print(f"HTTP {status}: ready {time.monotonic() - began:.1f} s after the faults")
        assert whole.running

        lost: list[str] = []

        async def is_whole() -> bool:
            lost[:] = differences(await place.api.snapshot(), wanted)
            return not lost

        await until(is_whole, lambda: f"no field is lost: {lost}")


async def test_a_token_that_is_refused_is_not_tried_as_fast_as_possible(place: Place) -> None:
    async with place.proxy() as proxy:
        operator = place.operator(proxy)
        await operator.start()
        await place.api.create("LLMDeployment", llm_deployment())
        await until(place.is_ready, "qwen3 is ready")

        async def refuse(_: Seen) -> web.StreamResponse | None:
            return web.json_response({"kind": "Status", "code": 401, "message": "Unauthorized"}, status=401)

        proxy.before = refuse
        proxy.cut_streams()
        before = len(proxy.seen)
        await asyncio.sleep(12)  # the fault itself
        requests = len(proxy.seen) - before
        print(f"HTTP 401: {requests} requests in 12 s")
        assert requests < 120
        assert operator.running
        proxy.before = _pass
        await place.api.merge("LLMDeployment", "qwen3", {"spec": {"router": {"replicas": 3}}})
        await until(lambda: router_has(place, 3), "the change is made")
