"""Apply, serve, scale, lose parts, delete: with the fake engine in real pods of a real kubelet."""

from __future__ import annotations

import asyncio

import openai

from tests.e2e.site import TOKENS_PER_SECOND, Site, post
from tests.load.client import requests, streams

OWNED_KINDS = (
    "deployments,replicasets,pods,services,configmaps,serviceaccounts,secrets,persistentvolumeclaims,"
    "networkpolicies,poddisruptionbudgets,controllerrevisions,horizontalpodautoscalers"
)


async def test_zero_holds_requests_then_every_route_answers_then_delete_leaves_nothing(site: Site) -> None:
    site.apply("first", replicas=0, requestTimeoutSeconds=3600)
    await site.until_reason("first", "ScaledToZero")
    url = site.url("first")
    body = {"model": "first", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    held = [asyncio.create_task(asyncio.to_thread(post, f"{url}/chat/completions", body)) for _ in range(5)]
    site.kubectl("scale", "llmdeployment/first", "--replicas=1")
    answers = await asyncio.gather(*held)
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == ["tok0"] * 5

    site.kubectl("wait", "--for=condition=Ready", "llmdeployment/first", "--timeout=420s")
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        assert [model.id async for model in client.models.list()] == ["first"]
        chat = await client.chat.completions.create(
            model="first", messages=[{"role": "user", "content": "hi"}], max_tokens=3
        )
        assert chat.choices[0].message.content == "tok0 tok1 tok2"
        parts = await client.chat.completions.create(
            model="first", messages=[{"role": "user", "content": "hi"}], max_tokens=3, stream=True
        )
        assert "".join([part.choices[0].delta.content or "" async for part in parts]) == "tok0 tok1 tok2"
        text = await client.completions.create(model="first", prompt="hi", max_tokens=2)
        assert text.choices[0].text.split() == ["tok0", "tok1"]
    assert site.get("llmdeployment", "first")["status"]["url"].endswith("/v1")

    # A drain may take an hour; what is idle is gone at once.
    site.kubectl("delete", "llmdeployment", "first", "--wait=true")
    await site.until("nothing left", lambda: not site.list(OWNED_KINDS, "sundog.dev/llmdeployment=first"))


async def test_scale_1_3_1_under_50_streams_of_30_s_cuts_none(site: Site) -> None:
    site.apply("scaled")
    await site.until_ready("scaled", replicas=1)
    url = site.url("scaled")
    async with streams(url, model="scaled", count=50, seconds=30, rate=TOKENS_PER_SECOND) as outcome:
        site.kubectl("scale", "llmdeployment/scaled", "--replicas=3")
        await site.until_ready("scaled", replicas=3)
        await asyncio.sleep(30)  # so that every stream there is was placed with three replicas up
        load = await asyncio.to_thread(site.load, "scaled")
        site.kubectl("scale", "llmdeployment/scaled", "--replicas=1")
        await site.until_ready("scaled", replicas=1)
    print(f"\nscale 1→3→1: {outcome}; with three replicas {load}")
    # A stream that ends is followed by the next, and both routers are asked within a second.
    assert 40 <= load["ongoing_requests"] <= 55
    assert load["waiting_requests"] == 0
    assert 500 < load["tokens_per_second"] < 1200
    assert not outcome.faults
    assert outcome.whole >= 100


async def test_operator_away_for_two_minutes_and_a_router_pod_deleted_lose_nothing(site: Site) -> None:
    site.apply("alone", replicas=2)
    await site.until_ready("alone", replicas=2)
    url = site.url("alone")
    operator = "--namespace=sundog-system", "scale", "deployment/sundog-operator"
    async with (
        streams(url, model="alone", count=20, seconds=20, rate=TOKENS_PER_SECOND) as long,
        requests(url, model="alone", per_second=10) as short,
    ):
        site.cluster.kubectl(*operator, "--replicas=0")
        try:
            await asyncio.sleep(20)
            site.delete_pod(site.pods("alone", "router")[0])
            await asyncio.sleep(100)
        finally:
            site.cluster.kubectl(*operator, "--replicas=1")
        await site.until("two routers", lambda: len(site.pods("alone", "router")) == 2)
    print(f"\noperator away, router deleted: streams {long}; requests {short}")
    assert not long.faults
    assert not short.faults
    site.kubectl("scale", "llmdeployment/alone", "--replicas=1")
    await site.until_ready("alone", replicas=1)  # the operator is back and at work
