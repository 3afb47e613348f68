"""LoRA adapters come and go in running pods, and a replica that comes later has them when it begins to answer."""

from __future__ import annotations

import asyncio
from typing import Any

import openai

from tests.e2e.site import TOKENS_PER_SECOND, Site, post

STREAM_TOKENS = 15 * TOKENS_PER_SECOND
FRENCH = {"name": "french", "uri": "hf://acme/french"}
LEGAL = {"name": "legal", "uri": "hf://acme/legal"}
BROKEN = {"name": "broken", "uri": "hf://acme/broken"}


def _model(*adapters: dict[str, str]) -> dict[str, Any]:
    return {"uri": "hf://acme/fake", "lora": {"adapters": list(adapters)}}


async def _until_adapters(site: Site, reason: str, *names: str) -> str:
    """Wait until the status of this generation says so of these adapters; give the message."""

    def holds() -> bool:
        found = site.get("llmdeployment", "tuned")
        status = found.get("status", {})
        return (
            status.get("observedGeneration") == found["metadata"]["generation"]
            and site.condition("tuned", "AdaptersReady").get("reason") == reason
            and [row["name"] for row in status.get("adapters", [])] == list(names)
        )

    await site.until(f"tuned: AdaptersReady says {reason} of {names}", holds, seconds=60)
    return str(site.condition("tuned", "AdaptersReady")["message"])


def _ask(site: Site, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    return str(post(f"{site.url('tuned')}/chat/completions", body)["model"])


async def _answers(site: Site, model: str, *, times: int = 12) -> set[str]:
    """What so many requests at once are answered with, which the router spreads over all replicas."""

    async def ask() -> str:
        try:
            return await asyncio.to_thread(_ask, site, model)
        except AssertionError as error:
            return str(error)[:4]

    return set(await asyncio.gather(*(ask() for _ in range(times))))


def _restarts(site: Site) -> set[tuple[str, int]]:
    return {
        (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        for pod in site.pods("tuned", "worker")
    }


async def test_adapters_come_and_go_without_a_restart_and_on_replicas_that_come_later(site: Site) -> None:
    site.apply("tuned", replicas=2, model=_model(), router={"replicas": 1})
    await site.until_ready("tuned", replicas=2)
    before = _restarts(site)
    assert await _answers(site, "french") == {"404:"}

    site.apply("tuned", replicas=2, model=_model(FRENCH, BROKEN), router={"replicas": 1})
    message = await _until_adapters(site, "AdapterFailed", "french", "broken")
    assert message.startswith("adapter broken is not on 2 of 2 replicas: the fake engine takes no adapter whose uri")
    assert await _answers(site, "french") == {"french"}
    assert await _answers(site, "tuned") == {"tuned"}
    assert site.condition("tuned")["status"] == "True", "the model is served"

    # The third: whatever it answers from its first moment on, it knows the adapter.
    site.kubectl("scale", "llmdeployment/tuned", "--replicas=3")
    while len([pod for pod in site.pods("tuned", "worker") if _is_ready(pod)]) < 3:
        assert await _answers(site, "french") == {"french"}
    assert await _answers(site, "french", times=24) == {"french"}
    await site.until_ready("tuned", replicas=3)

    async with openai.AsyncOpenAI(base_url=site.url("tuned"), api_key="none") as client:
        begun = [asyncio.Event() for _ in range(6)]
        long = [asyncio.create_task(_stream(client, started)) for started in begun]
        await asyncio.gather(*(started.wait() for started in begun))
        site.apply("tuned", replicas=3, model=_model(LEGAL), router={"replicas": 1})
        message = await _until_adapters(site, "AdaptersLoaded", "legal")
        assert message == "3 of 3 replicas have all adapters"
        assert await _answers(site, "french") == {"404:"}
        assert await _answers(site, "legal") == {"legal"}
        assert not any(stream.done() for stream in long), "it was taken out while they ran"
        assert await asyncio.gather(*long) == [STREAM_TOKENS] * 6
    assert before < _restarts(site), "no pod and no container was replaced"
    assert len(site.get("llmdeployment", "tuned")["status"]["revisions"]) == 1


async def _stream(client: openai.AsyncOpenAI, started: asyncio.Event) -> int:
    """Read one long answer of the adapter; give the number of its tokens."""
    text = ""
    async for part in await client.completions.create(
        model="french", prompt="hi", max_tokens=STREAM_TOKENS, stream=True
    ):
        started.set()
        text += part.choices[0].text
    return len(text.split())


def _is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
