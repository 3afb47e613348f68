"""The fake engine keeps vLLM's formats, its own pace, and its promises to fail."""

import asyncio
import time

import pytest

from sundog_serving import fake
from sundog_serving.contract import Reason
from sundog_serving.errors import EngineDeadError, EngineStartError
from sundog_serving.settings import Settings
from tests.serving.conftest import MODEL, StartReplica, application_args, until

HELLO = [{"role": "user", "content": "hello there"}]


async def test_a_chat_stream_is_numbered_without_gaps_and_ends_with_done(replica: StartReplica) -> None:
    running = await replica(tokens_per_second=1000)
    *chunks, done = await running.stream("/v1/chat/completions", messages=HELLO, max_tokens=20)
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert text == " ".join(f"tok{number}" for number in range(20))
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 20 + ["length"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_a_stream_tells_the_usage_only_when_asked(replica: StartReplica) -> None:
    running = await replica(tokens_per_second=1000)
    plain = await running.stream("/v1/completions", prompt="a b c", max_tokens=2)
    assert not any("usage" in chunk for chunk in plain[:-1])
    asked = await running.stream(
        "/v1/completions", prompt="a b c", max_tokens=2, stream_options={"include_usage": True}
    )
    assert asked[-2]["choices"] == []
    assert asked[-2]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_whole_answers_have_the_shape_of_their_route(replica: StartReplica) -> None:
    running = await replica(tokens_per_second=1000)
    status, chat = await running.post("/v1/chat/completions", messages=HELLO, max_completion_tokens=2)
    assert status == 200
    assert chat["choices"][0]["message"] == {"role": "assistant", "content": "tok0 tok1"}
    assert chat["usage"]["completion_tokens"] == 2
    _, completion = await running.post("/v1/completions", prompt="hello", max_tokens=1)
    assert completion["object"] == "text_completion"
    assert completion["choices"][0]["text"] == "tok0"
    _, models = await running.get("/v1/models")
    assert [model["id"] for model in models["data"]] == [MODEL]
    _, tokens = await running.post("/tokenize", prompt="one two three")
    assert tokens["count"] == 3


async def test_an_embedding_model_embeds_and_does_not_generate(replica: StartReplica) -> None:
    running = await replica(embedding=True)
    status, answer = await running.post("/v1/embeddings", input=["hi", "hello there"])
    assert status == 200
    assert [item["index"] for item in answer["data"]] == [0, 1]
    assert all(item["embedding"] for item in answer["data"])
    assert (await running.post("/v1/completions", prompt="hello"))[0] == 404


@pytest.mark.parametrize(
    ("route", "body", "status"),
    [
        ("/v1/chat/completions", {}, 400),
        ("/v1/chat/completions", {"messages": "hello"}, 400),
        ("/v1/chat/completions", {"messages": []}, 400),
        ("/v1/completions", {"prompt": "a", "max_tokens": 0.5}, 400),
        ("/v1/completions", {"prompt": "a", "max_tokens": -1}, 400),
        ("/v1/completions", {"prompt": "a", "n": 16384}, 400),
        ("/v1/completions", {"prompt": "a", "model": "other"}, 404),
        ("/v1/embeddings", {"input": "a"}, 404),
    ],
)
async def test_bad_requests_are_told_and_never_a_fault(
    replica: StartReplica, route: str, body: dict[str, object], status: int
) -> None:
    running = await replica()
    assert (await running.post(route, **body))[0] == status


async def test_a_body_that_is_no_json_is_a_bad_request(replica: StartReplica) -> None:
    running = await replica()
    for body in (b"", b"{", b"[]", b"[" * 100_000):
        async with running.client.post("/v1/completions", data=body) as response:
            assert response.status == 400


async def test_the_rate_of_a_stream_is_the_one_asked_for(replica: StartReplica) -> None:
    running = await replica(tokens_per_second=50)
    began = time.monotonic()
    await running.stream("/v1/completions", prompt="hello", max_tokens=25)
    assert 0.5 <= time.monotonic() - began < 2  # the machine may be busy, but never early


async def test_streams_share_the_rate_of_the_engine_once_they_are_too_many(replica: StartReplica) -> None:
    running = await replica(tokens_per_second=100, total_tokens_per_second=200)

    async def seconds(streams: int) -> float:
        began = time.monotonic()
        await asyncio.gather(
            *(running.stream("/v1/completions", prompt="a", max_tokens=30) for _ in range(streams)),
        )
        return time.monotonic() - began

    # Two have all they want, eight a quarter of it: 0.3 s and 1.2 s. Never early, though the machine may be busy.
    alone, crowded = await seconds(2), await seconds(8)
    assert 0.3 <= alone < crowded
    assert crowded >= 1.1


async def test_requests_beyond_the_limit_wait_and_are_counted(replica: StartReplica) -> None:
    running = await replica(max_concurrent=2, tokens_per_second=10)
    requests = [asyncio.create_task(running.post("/v1/completions", prompt="a", max_tokens=5)) for _ in range(5)]
    await until(lambda: running.engine.load().running == 2 and running.engine.load().waiting == 3)
    assert running.engine.load().kv_cache_utilization == 1.0
    async with running.client.get("/metrics") as response:
        metrics = await response.text()
    assert f'vllm:num_requests_running{{engine="0",model_name="{MODEL}"}} 2.0' in metrics
    assert f'vllm:num_requests_waiting{{engine="0",model_name="{MODEL}"}} 3.0' in metrics
    assert [status for status, _ in await asyncio.gather(*requests)] == [200] * 5
    assert running.engine.load().running == running.engine.load().waiting == 0


async def test_a_client_that_leaves_frees_its_slot(replica: StartReplica) -> None:
    running = await replica(max_concurrent=1, tokens_per_second=10)
    async with running.client.post(
        "/v1/completions", json={"prompt": "a", "max_tokens": 1000, "stream": True}
    ) as response:
        await response.content.readline()
        assert running.engine.load().running == 1
        response.close()
    await until(lambda: running.engine.load().running == 0, within_seconds=1)
    assert (await running.post("/v1/completions", prompt="a", max_tokens=1))[0] == 200


async def test_the_metrics_bear_the_names_of_vllm(replica: StartReplica) -> None:
    running = await replica()
    await running.post("/v1/completions", prompt="a", max_tokens=2)
    async with running.client.get("/metrics") as response:
        names = {line.split("{")[0] for line in (await response.text()).splitlines() if not line.startswith("#")}
    assert {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:e2e_request_latency_seconds_bucket",
    } <= names


async def start(**engine_args: object) -> fake.FakeEngine:
    return await fake.start(Settings.from_args(application_args("fake", engine_args)))


@pytest.mark.parametrize("failure", ["start", "start-after:0.01"])
async def test_a_start_that_is_told_to_fail_fails(failure: str) -> None:
    with pytest.raises(EngineStartError) as caught:
        await start(failure=failure)
    assert caught.value.reason is Reason.ENGINE_START_FAILED


@pytest.mark.parametrize("failure", ["sometimes", "start:3", "crash-after", "crash-after:soon"])
async def test_a_failure_that_does_not_exist_is_an_argument_error(failure: str) -> None:
    with pytest.raises(EngineStartError) as caught:
        await start(failure=failure)
    assert caught.value.reason is Reason.ENGINE_ARGUMENT_INVALID
    assert "spec.engine.args.failure" in caught.value.sentence


async def test_a_crashed_engine_cuts_its_streams_gives_back_new_requests_and_says_so(replica: StartReplica) -> None:
    running = await replica(failure="crash-after:0.3", tokens_per_second=100)
    await running.engine.check()
    with pytest.raises(Exception, match="payload is not completed"):
        await running.stream("/v1/completions", prompt="a", max_tokens=1000)
    with pytest.raises(EngineDeadError):
        await running.engine.check()
    for streamed in (False, True):
        assert (await running.post("/v1/completions", prompt="a", stream=streamed))[0] == 425
    assert (await running.post("/v1/completions", prompt=None))[0] == 400, "what is wrong with any engine is told"
    async with running.client.get("/health") as response:
        assert response.status == 503


async def test_a_wedged_engine_holds_requests_and_makes_no_step(replica: StartReplica) -> None:
    running = await replica(failure="wedge-after:0", tokens_per_second=1000)
    request = asyncio.create_task(running.post("/v1/completions", prompt="a", max_tokens=3))
    await until(lambda: running.engine.load().running == 1)
    await asyncio.sleep(0.05)
    assert running.engine.load().steps_total == 0
    await running.engine.check()  # it is alive: only the watchdog can tell
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
