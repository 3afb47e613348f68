"""The real engine: vLLM on a CPU, with tiny models, in pods of a real kubelet."""

from __future__ import annotations

import asyncio

import openai
import pytest

from tests.e2e import vllm
from tests.e2e.site import Site
from tests.load.arrivals import Arrival
from tests.load.client import Client, Target, requests

pytestmark = pytest.mark.vllm


def any_end(_text: str, _tokens: int) -> str:
    """Check an answer of random weights: 8 of 300 are without text though the engine gave all tokens asked for."""
    return ""


async def test_vllm_answers_chat_stream_completions_and_embeddings_and_outlives_its_head(site: Site) -> None:
    """The head pod is away for 20 s and comes back elsewhere: no request fails, the engine keeps its process."""
    vllm.offer(site)
    site.apply("tiny", **vllm.spec("tiny"))
    site.apply("vectors", **vllm.spec("tiny-embedding"))
    await site.until_ready("vectors", replicas=1)
    async with openai.AsyncOpenAI(base_url=site.url("vectors"), api_key="none") as client:
        answer = await client.embeddings.create(model="vectors", input=["one", "two"], encoding_format="float")
    assert len(answer.data) == 2
    assert len(answer.data[0].embedding) > 8
    site.kubectl("delete", "llmdeployment", "vectors")
    await site.until_ready("tiny", replicas=1)
    url = site.url("tiny")
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        assert [model.id async for model in client.models.list()] == ["tiny"]
        question = [{"role": "user", "content": "hello"}]
        chat = await client.chat.completions.create(model="tiny", messages=question, max_tokens=8)
        assert chat.usage.completion_tokens > 0
        parts = [
            part
            async for part in await client.chat.completions.create(
                model="tiny", messages=question, max_tokens=8, stream=True
            )
        ]
        assert parts[-1].choices[0].finish_reason
        text = await client.completions.create(model="tiny", prompt="hello", max_tokens=4)
        assert text.usage.completion_tokens > 0

    (worker,) = site.pods("tiny", "worker")
    before = _engine_processes(site, worker["metadata"]["name"])
    (head,) = site.pods("tiny", "head")
    (node,) = [node["metadata"]["name"] for node in site.list("nodes")]
    async with requests(url, model="tiny", per_second=4, check=any_end) as outcome:
        site.cluster.kubectl("cordon", node)
        try:
            site.delete_pod(head)
            await asyncio.sleep(20)
        finally:
            site.cluster.kubectl("uncordon", node)
        await site.until(
            "a head that is ready again",
            lambda: any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for pod in site.pods("tiny", "head")
                for condition in pod["status"].get("conditions", [])
            ),
        )
        await asyncio.sleep(20)  # Serve's controller has come back and has looked at its replicas
    print(f"\nhead away for 20 s: {outcome}")
    assert not outcome.faults
    (after,) = site.pods("tiny", "worker")
    assert after["metadata"]["uid"] == worker["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    assert _engine_processes(site, worker["metadata"]["name"]) == before
    assert before
    site.kubectl("scale", "llmdeployment/tiny", "--replicas=0")
    await site.until_reason("tiny", "ScaledToZero")  # the new head is in control


@pytest.mark.endurance
async def test_an_autoscaler_adds_a_second_engine_and_takes_it_away_and_nothing_fails(site: Site) -> None:
    vllm.offer(site)
    # Longer than the second engine starts: on a busy machine a look may find few requests under way.
    quick = {"scaleDown": {"stabilizationWindowSeconds": 90}}
    metrics = [{"type": "OngoingRequests", "averageValue": "4"}]
    autoscaling = {"maxReplicas": 2, "metrics": metrics, "behavior": quick}
    site.apply("elastic", **vllm.spec("tiny"), autoscaling=autoscaling)
    await site.until_ready("elastic", replicas=1)
    target = Target(site.url("elastic"), "elastic", any_end)

    async def one_after_the_other(client: Client) -> None:
        while not client.over.is_set():
            await client.send(Arrival(client.seconds, prompt_tokens=8, output_tokens=300))

    # As many at a time, however quick the engine is: the autoscaler sees 8 all the time, and wants 2 replicas.
    async with Client(target) as client, client.until_over() as group:
        for _ in range(8):
            group.create_task(one_after_the_other(client))
        await site.until_ready("elastic", replicas=2)
    await site.until_ready("elastic", replicas=1)
    print(f"\nvLLM 1→2→1: {client.outcome}")
    assert not client.outcome.faults


def _engine_processes(site: Site, pod: str) -> list[str]:
    """Process ids of the replica and of its engine, with their start times: a new process would show."""
    script = (
        "import glob\n"
        "for stat in sorted(glob.glob('/proc/[0-9]*/stat')):\n"
        "    text = open(stat).read()\n"
        "    if 'ServeRepl' in text or 'EngineCor' in text:\n"  # the kernel keeps 15 characters of a name
        "        fields = text.rpartition(')')[2].split()\n"
        "        print(text.partition(')')[0], fields[19])\n"
    )
    return site.kubectl("exec", pod, "--", "python3", "-c", script).split("\n")[:-1]
