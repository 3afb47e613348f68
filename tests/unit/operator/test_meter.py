"""The meter, over real HTTP: pods are servers on loopback addresses of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sundog_operator import meter as meter_module
from sundog_operator.core import tokens
from sundog_operator.core.load import Load, Metric, ReplicaLoad, Unmeasured
from sundog_operator.core.names import (
    API_VERSION,
    COMPONENT_LABEL,
    KIND,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    NAME_LABEL,
    ROUTER,
    WORKER,
    Manifest,
)
from sundog_operator.core.observed import RouterLoad
from sundog_operator.kube.store import ResourceKey, Store
from sundog_operator.meter import Meter
from tests.apiserver.operator.world import until

KEY = ResourceKey("prod", "qwen3")
MASTER_KEY = b"0123456789abcdef"
ROUTER_SAYS = {"ongoing": 7, "queued": 2, "held": 1, "idle_seconds": 0, "servers": 2}
REPLICA_SAYS = {"kv_cache_utilization": 0.25, "generation_tokens_per_second": 12.5, "running": 4}


@dataclass
class World:
    """Pods of one LLMDeployment, as the store knows them, and what each answers."""

    store: Store = field(default_factory=Store)
    port: int = 0
    answers: dict[str, Any] = field(default_factory=dict)
    """By address: JSON, a response, or what keeps the asker waiting."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Address, and the token that was shown."""
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    now: float = 100.0
    under_way: int = 0
    most_under_way: int = 0

    def __post_init__(self) -> None:
        self.hold.set()
        metadata = {"name": KEY.name, "namespace": KEY.namespace, "uid": "u-1", "resourceVersion": "1"}
        self.store.put({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": {}})

    def pod(self, name: str, component: str, address: str, answer: Any, *, of: ResourceKey = KEY) -> Manifest:
        self.answers[address] = answer
        labels = {MANAGED_BY_LABEL: MANAGED_BY, NAME_LABEL: of.name, COMPONENT_LABEL: component}
        manifest: Manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": KEY.namespace,
                "uid": name,
                "resourceVersion": "1",
                "labels": labels,
            },
            "status": {
                "phase": "Running",
                "podIP": address,
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "c", "started": True}],
            },
        }
        self.store.put(manifest)
        return manifest

    async def handle(self, request: web.Request) -> web.Response:
        if request.path == "/at/once":
            return web.Response(status=204)
        assert request.path.endswith("/sundog/load")
        address = request.path.split("/")[1]
        self.asked.append((address, request.headers.get("x-sundog-replica-token", "")))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.hold.wait()
        answer = self.answers[address]
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        self.under_way -= 1
        return answer if isinstance(answer, web.Response) else web.json_response(answer)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def meter(world: World) -> AsyncIterator[Meter]:
    app = web.Application()
    app.router.add_get("/{path:.*}", world.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    world.port = runner.addresses[0][1]
    base = f"http://127.0.0.1:{world.port}"
    async with Meter(
        world.store, master_key=lambda: MASTER_KEY, url_template=base + "/{address}/{port}", clock=lambda: world.now
    ) as made:
        yield made
    await runner.cleanup()


async def test_routers_and_replicas_are_asked_and_only_replicas_are_shown_their_token(
    world: World, meter: Meter
) -> None:
    world.pod("r1", ROUTER, "10.0.0.1", ROUTER_SAYS)
    world.pod("w1", WORKER, "10.0.0.2", REPLICA_SAYS)
    assert await meter.load(KEY) == Load(
        {"r1": RouterLoad(ongoing=7, waiting=3, idle_seconds=0, servers=2)}, {"w1": ReplicaLoad(0.25, 12.5)}
    )
    assert sorted(world.asked) == [("10.0.0.1", ""), ("10.0.0.2", tokens.replica_token(MASTER_KEY, "u-1"))]


async def test_all_who_ask_within_a_second_share_one_answer(world: World, meter: Meter) -> None:
    world.pod("r1", ROUTER, "10.0.0.1", ROUTER_SAYS)
    world.hold.clear()
    asking = [asyncio.create_task(meter.load(KEY)) for _ in range(20)]
    await until(lambda: world.asked, "a router is asked")
    asking[0].cancel()  # the others' answer does not hang on it
    world.hold.set()
    answers = await asyncio.gather(*asking[1:])
    assert {answer.value(Metric.ONGOING_REQUESTS) for answer in answers if answer} == {7}
    world.now += 0.9
    await meter.load(KEY)
    assert len(world.asked) == 1
    world.now += 0.2
    world.answers["10.0.0.1"] = {**ROUTER_SAYS, "ongoing": 9}
    later = await meter.load(KEY)
    assert later
    assert later.value(Metric.ONGOING_REQUESTS) == 9


@pytest.mark.parametrize(
    ("metric", "value", "asked"),
    [
        (Metric.ONGOING_REQUESTS, 7, "10.0.0.1"),
        (Metric.WAITING_REQUESTS, 3, "10.0.0.1"),
        (Metric.KV_CACHE_UTILIZATION, 0.25, "10.0.0.2"),
        (Metric.TOKENS_PER_SECOND, 12.5, "10.0.0.2"),
    ],
)
async def test_for_one_metric_only_those_are_asked_who_measure_it(
    world: World, meter: Meter, metric: Metric, value: float, asked: str
) -> None:
    world.pod("r1", ROUTER, "10.0.0.1", ROUTER_SAYS)
    world.pod("w1", WORKER, "10.0.0.2", REPLICA_SAYS)
    assert await meter.value(KEY, metric) == value
    assert {address for address, _ in world.asked} == {asked}
    # Another metric of the same pods, and all of them, are told from the same answer.
    await asyncio.gather(*(meter.value(KEY, each) for each in Metric), meter.load(KEY))
    assert sorted(address for address, _ in world.asked) == ["10.0.0.1", "10.0.0.2"]


async def test_one_metric_that_cannot_be_had_says_why(world: World, meter: Meter) -> None:
    world.pod("r1", ROUTER, "10.0.0.1", ROUTER_SAYS)
    world.pod("w1", WORKER, "10.0.0.2", web.Response(status=503))
    assert await meter.value(KEY, Metric.ONGOING_REQUESTS) == 7
    with pytest.raises(Unmeasured, match="replica w1 answered HTTP 503"):
        await meter.value(KEY, Metric.TOKENS_PER_SECOND)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (web.Response(status=503), "router r1 answered HTTP 503"),
        (web.Response(text="<html>"), "something else than JSON"),
        ({"sessions": 3}, "its image may be of another release"),
        ({**ROUTER_SAYS, "ongoing": -1}, "its image may be of another release"),
        ({**ROUTER_SAYS, "queued": float("nan")}, "its image may be of another release"),
        ([], "its image may be of another release"),
        (web.Response(text='{"ongoing": ' + "1" * 20_000), "something else than its load"),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "HTTP 302"),
    ],
    ids=str,
)
async def test_an_answer_that_is_none_leaves_the_requests_unmeasured_and_says_why(
    world: World, meter: Meter, answer: Any, told: str
) -> None:
    world.pod("r1", ROUTER, "10.0.0.1", answer)
    world.pod("r2", ROUTER, "10.0.0.2", ROUTER_SAYS)
    load = await meter.load(KEY)
    assert load
    with pytest.raises(Unmeasured, match=told):
        load.value(Metric.ONGOING_REQUESTS)


async def test_of_a_hundred_pods_sixty_four_are_asked_at_once_and_then_the_others(
    world: World, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Their time runs while they hold their answer, and this machine may be busy.
    monkeypatch.setattr(meter_module, "ANSWER_SECONDS", 60.0)
    for n in range(50):
        world.pod(f"r{n}", ROUTER, f"10.0.0.{n}", ROUTER_SAYS)
        world.pod(f"w{n}", WORKER, f"10.0.1.{n}", REPLICA_SAYS)
    world.hold.clear()
    load = asyncio.create_task(meter.load(KEY))
    await until(lambda: len(world.asked) >= 64, "64 are asked")
    # Whoever else were on the way would be here before one who sets out now, and ten times so.
    async with aiohttp.ClientSession() as session:
        for _ in range(10):
            async with session.get(f"http://127.0.0.1:{world.port}/at/once", headers={"Connection": "close"}) as answer:
                assert answer.status == 204
    assert len(world.asked) == 64
    world.hold.set()
    told = await load
    assert told
    assert (len(told.routers), len(told.replicas)) == (50, 50)
    assert [said for said in (*told.routers.values(), *told.replicas.values()) if isinstance(said, str)] == []
    assert sorted(address for address, _ in world.asked) == sorted(world.answers)
    assert world.most_under_way == 64


async def test_a_router_that_does_not_answer_keeps_no_other_at_zero(
    world: World, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter_module, "ANSWER_SECONDS", 60.0)
    mute, other = ResourceKey("prod", "mute"), KEY
    world.pod("m1", ROUTER, "10.0.0.1", asyncio.Event(), of=mute)
    world.pod("r1", ROUTER, "10.0.0.2", {**ROUTER_SAYS, "ongoing": 0})
    meter.asleep |= {mute, other}
    news: list[ResourceKey] = []
    watching = asyncio.create_task(meter.watch_for_demand(news.append))
    await until(lambda: {address for address, _ in world.asked} == {"10.0.0.1", "10.0.0.2"}, "both are asked")
    assert not news
    world.answers["10.0.0.2"] = ROUTER_SAYS  # a request came
    await until(lambda: news, "it is told")
    assert set(news) == {other}
    assert [address for address, _ in world.asked].count("10.0.0.1") == 1
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert not meter.asleep


async def test_a_pod_that_nobody_listens_on_is_named(world: World) -> None:
    world.pod("r1", ROUTER, "127.0.0.1", ROUTER_SAYS)
    async with Meter(world.store, master_key=lambda: MASTER_KEY, url_template="http://{address}:1") as meter:
        load = await meter.load(KEY)
    assert load
    with pytest.raises(Unmeasured, match="router r1 could not be asked for its load"):
        load.value(Metric.ONGOING_REQUESTS)


async def test_what_does_not_exist_has_no_load(meter: Meter) -> None:
    assert await meter.load(ResourceKey("prod", "other")) is None
    assert await meter.value(ResourceKey("prod", "other"), Metric.ONGOING_REQUESTS) is None
