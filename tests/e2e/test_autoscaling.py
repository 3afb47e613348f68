"""A plain HorizontalPodAutoscaler drives the replicas, and nothing is lost on the way down or at zero."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.site import TOKENS_PER_SECOND, Manifest, Site
from tests.load.arrivals import Arrival, paced, steady
from tests.load.client import Client, Target, load, requests, streams
from tests.load.outcome import Fault

SLOW = 5
"""Tokens per second of a stream, so that 200 of them are no load for a machine of two cores."""
# Quick, so that the way down takes a minute or two; the defaults take ten minutes to begin it.
QUICK = {
    "scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]},
    "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]},
}
ZERO_HOLDS = 20
START_DELAY_SECONDS = 5.0


def average(value: int) -> list[Manifest]:
    return [{"type": "OngoingRequests", "averageValue": str(value)}]


def decisions(site: Site, name: str) -> list[dict[str, Any]]:
    return list(site.get("llmdeployment", name).get("status", {}).get("scaling", []))


async def until_active(site: Site, name: str, reason: str) -> str:
    await site.until(
        f"{name}: AutoscalingActive says {reason}",
        lambda: site.condition(name, "AutoscalingActive").get("reason") == reason,
    )
    return str(site.condition(name, "AutoscalingActive")["message"])


@contextlib.asynccontextmanager
async def applied_from_git(site: Site, name: str, **spec: Any) -> AsyncIterator[None]:
    """Another manager applies the same manifest, without `replicas`, every 5 s."""
    over = asyncio.Event()

    async def loop() -> None:
        while not over.is_set():
            await asyncio.to_thread(site.apply, name, **spec)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 5)

    task = asyncio.create_task(loop())
    try:
        yield
    finally:
        over.set()
        await task


async def test_200_streams_survive_an_autoscaler_that_goes_from_1_to_4_and_back(site: Site) -> None:
    """A GitOps manager applies the manifest all the time: it and the autoscaler do not undo each other's work."""
    await rise_and_fall(site, times=1, seconds=0)


@pytest.mark.endurance
async def test_five_minutes_beside_a_gitops_manager_and_three_waves_of_200_streams_lose_nothing(site: Site) -> None:
    await rise_and_fall(site, times=3, seconds=300)


async def rise_and_fall(site: Site, *, times: int, seconds: float) -> None:
    """Let the load rise and fall so often, and go on for so long, while a GitOps manager applies every 5 s."""
    engine = {"name": "fake", "args": {"tokens-per-second": SLOW}}
    autoscaling = {"maxReplicas": 4, "metrics": average(50), "behavior": QUICK}
    spec = {"engine": engine, "autoscaling": autoscaling}
    site.apply("elastic", **spec)
    await site.until_ready("elastic", replicas=1)
    await until_active(site, "elastic", "Scaling")
    url = site.url("elastic")
    async with applied_from_git(site, "elastic", **spec):
        start = time.monotonic()
        for _ in range(times):
            autoscaling["metrics"] = average(50)
            began = time.time()
            async with streams(url, model="elastic", count=200, seconds=60, rate=SLOW, spread=0) as outcome:
                await site.until_ready("elastic", replicas=4)
                up = next(each for each in decisions(site, "elastic") if _seconds(each) >= began - 1 and each["to"] > 1)
                print(f"\nfirst decision {_seconds(up) - began:.0f} s after 200 streams opened at once: {up}")
                # Each replica may have as many as there are: the way down begins while 200 streams are under way.
                autoscaling["metrics"] = average(400)
                await site.until("one replica is asked for", lambda: decisions(site, "elastic")[-1]["to"] == 1)
            await site.until_ready("elastic", replicas=1)
            wave = [each for each in decisions(site, "elastic") if _seconds(each) >= began - 1]
            down = [each for each in wave if each["to"] < each["from"]]
            steps = [(each["from"], each["to"], each["victims"]) for each in down]
            print(f"1→4→1 under 200 streams of 60 s: {outcome}; down: {steps}")
            assert not outcome.faults
            assert outcome.whole >= 200
            assert all(each["who"] == "HorizontalPodAutoscaler" for each in wave)
            assert len({pod for each in down for pod in each["victims"]}) == 3
        settled = len(decisions(site, "elastic")), decisions(site, "elastic")[-1]
        await asyncio.sleep(max(0.0, seconds - (time.monotonic() - start)))
        assert (len(decisions(site, "elastic")), decisions(site, "elastic")[-1]) == settled


def _seconds(decision: dict[str, Any]) -> float:
    return datetime.fromisoformat(decision["time"]).timestamp()


async def test_200_streams_survive_the_eviction_of_every_worker(site: Site) -> None:
    """One after the other, as `kubectl drain` does it."""
    await evict_all(site, times=1)


@pytest.mark.endurance
async def test_200_streams_survive_three_evictions_of_every_worker(site: Site) -> None:
    await evict_all(site, times=3)


async def evict_all(site: Site, *, times: int) -> None:
    site.apply("moved", engine={"name": "fake", "args": {"tokens-per-second": SLOW}}, replicas=3)
    await site.until_ready("moved", replicas=3)
    url = site.url("moved")
    async with streams(url, model="moved", count=200, seconds=60, rate=SLOW) as outcome:
        for _ in range(times):
            workers = site.pods("moved", "worker")
            for pod in workers:
                await site.until("the budget allows an eviction", lambda pod=pod: site.evict(pod))  # type: ignore[misc]
            await site.until_ready("moved", replicas=3)
            old = {pod["metadata"]["uid"] for pod in workers}
            assert not old & site.uids("moved")
    print(f"\nevery worker evicted {times} times under 200 streams of 60 s: {outcome}")
    assert not outcome.faults
    assert outcome.whole >= 200


async def test_an_evicted_replica_serves_until_its_successor_does(site: Site) -> None:
    """The only one there is: nobody waits for the model to load elsewhere."""
    delay = 20.0
    args = {"tokens-per-second": TOKENS_PER_SECOND, "start-delay-seconds": delay}
    site.apply("only", engine={"name": "fake", "args": args})
    await site.until_ready("only", replicas=1)
    (before,) = site.pods("only", "worker")
    async with (
        streams(site.url("only"), model="only", count=10, seconds=30, rate=TOKENS_PER_SECOND) as long,
        requests(site.url("only"), model="only", per_second=5) as short,
    ):
        assert site.evict(before)
        await site.until("another worker", lambda: site.uids("only") not in (set(), {before["metadata"]["uid"]}))
        await site.until_ready("only", replicas=1)
        gone = f"pod/{before['metadata']['name']}"
        await asyncio.to_thread(site.kubectl, "wait", "--for=delete", gone, "--timeout=300s")
    waited = max(record.time_to_first_token or 0.0 for record in short.records)
    print(f"\nevicted: streams {long}; requests {short}; longest wait for a first token {waited:.1f} s")
    assert not long.faults
    assert not short.faults
    assert waited < delay / 2


async def test_at_zero_as_many_are_held_as_may_be_and_all_of_them_answered(site: Site) -> None:
    args = {"tokens-per-second": TOKENS_PER_SECOND, "start-delay-seconds": START_DELAY_SECONDS}
    site.apply(
        "sleeper",
        engine={"name": "fake", "args": args},
        router={"replicas": 1, "maxQueue": ZERO_HOLDS},
        autoscaling={"minReplicas": 0, "idleSeconds": 10, "maxReplicas": 2},
    )
    await site.until_reason("sleeper", "ScaledToZero")
    await site.until("its last replica has ended", lambda: not site.pods("sleeper", "worker"))
    one = Arrival(0.0, prompt_tokens=1, output_tokens=2)
    async with Client(Target(site.url("sleeper"), "sleeper")) as client, asyncio.TaskGroup() as group:
        held = [group.create_task(client.send(one)) for _ in range(ZERO_HOLDS)]
        await site.until("all are held", lambda: site.load("sleeper").get("waiting_requests") == ZERO_HOLDS)
        one_more = await client.send(one)
        assert (one_more.status, one_more.fault) == (429, Fault.REFUSED)
        assert one_more.retry_after
        answers = await asyncio.gather(*held)
        log = site.kubectl("logs", site.pods("sleeper", "worker")[0]["metadata"]["name"])
    first = min(answer.first_token for answer in answers if answer.first_token)
    told = re.search(r"the engine is ready seconds=([0-9.]+)", log)
    assert told, log[-2000:]
    engine = float(told[1])
    print(
        f"\nzero to first token: {first:.1f} s, of which the engine started for {engine:.1f} s: {first - engine:.1f} s"
    )
    assert all(answer.whole for answer in answers)
    assert [each["who"] for each in decisions(site, "sleeper")[-2:]] == ["Sundog", "Sundog"]
    await site.until_reason("sleeper", "ScaledToZero")  # and back, by itself


async def test_without_metrics_the_count_is_held_and_goes_on_by_itself(site: Site) -> None:
    site.apply("blind", autoscaling={"maxReplicas": 4, "metrics": average(10), "behavior": QUICK})
    await site.until_ready("blind", replicas=1)
    await until_active(site, "blind", "Scaling")
    operator = "--namespace=sundog-system", "scale", "deployment/sundog-operator"
    url = site.url("blind")
    async with streams(url, model="blind", count=15, seconds=15, rate=TOKENS_PER_SECOND) as outcome:
        await site.until_ready("blind", replicas=2)
        site.cluster.kubectl(*operator, "--replicas=0")
        try:

            def is_blind() -> bool:
                found = site.get("hpa", "blind")["status"].get("conditions", [])
                return any(each["type"] == "ScalingActive" and each["status"] == "False" for each in found)

            await site.until("the autoscaler says that it gets no metric", is_blind)
            assert site.get("llmdeployment", "blind")["spec"]["replicas"] == 2
        finally:
            site.cluster.kubectl(*operator, "--replicas=1")
        await until_active(site, "blind", "Scaling")
    assert not outcome.faults
    await site.until_ready("blind", replicas=1)


@pytest.mark.endurance
async def test_five_times_overload_is_refused_in_time_and_costs_no_answer(site: Site) -> None:
    """A replica gives 80 tokens a second, so two requests of 40; the routers let 8 at it and let 8 more wait."""
    args = {"tokens-per-second": TOKENS_PER_SECOND, "total-tokens-per-second": 80, "max-concurrent": 8}
    router = {"replicas": 2, "maxOngoingPerReplica": 4, "maxQueue": 4}
    site.apply("crowded", engine={"name": "fake", "args": args}, router=router)
    await site.until_ready("crowded", replicas=1)
    (worker,) = site.pods("crowded", "worker")
    target = Target(site.url("crowded"), "crowded")

    async def served_per_second(offered: float) -> float:
        """Answers a second, of those that ended after the first 15 s of 45."""
        async with load(target, paced(steady(offered), prompt_tokens=1, output_tokens=40)) as client:
            await asyncio.sleep(30)
            waiting = (await asyncio.to_thread(site.load, "crowded"))["waiting_requests"]
            await asyncio.sleep(15)
        outcome = client.outcome
        print(f"\n{offered:g} requests/s offered: {outcome.whole} whole, {dict(outcome.kinds)}, {waiting:g} waiting")
        assert waiting <= router["replicas"] * router["maxQueue"]
        assert set(outcome.kinds) <= {Fault.REFUSED}, outcome.faults
        assert all(record.retry_after for record in outcome.records if record.fault)
        return sum(record.whole and 15 <= (record.ended or 0) < 45 for record in outcome.records) / 30

    peak = await served_per_second(2.4)
    crowded = await served_per_second(12)
    print(f"goodput: {crowded:.2f} of {peak:.2f} answers a second")
    assert crowded >= 0.9 * peak
    (after,) = site.pods("crowded", "worker")
    assert after["metadata"]["uid"] == worker["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
