"""The client against a real server of the fake engine, and against servers that do each thing wrong."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sundog_serving import fake
from sundog_serving.fake import FakeEngine
from sundog_serving.settings import Settings
from tests.load.arrivals import Arrival, paced, steady
from tests.load.client import Client, Target, any_text, load, requests, streams
from tests.load.outcome import Fault, Record
from tests.serving.conftest import MODEL, application_args, served, until


@asynccontextmanager
async def engine(**engine_args: Any) -> AsyncIterator[tuple[FakeEngine, str]]:
    """A fake engine and its base URL."""
    running = await fake.start(Settings.from_args(application_args("fake", engine_args)))
    async with served(running.app) as url:
        try:
            yield running, f"{url}/v1"
        finally:
            await running.stop()


async def one(url: str, *, tokens: int = 3, check: Callable[[str, int], str] | None = None) -> Record:
    target = Target(url, MODEL, check) if check else Target(url, MODEL)
    async with Client(target) as client:
        return await client.send(Arrival(0.0, prompt_tokens=7, output_tokens=tokens))


async def test_a_whole_stream_is_recorded_with_its_times() -> None:
    async with engine(tokens_per_second=20) as (running, url):
        record = await one(url, tokens=5)
        assert running.prompt_tokens_total == 7
    assert record.whole
    assert (record.status, record.tokens, record.detail) == (200, 5, "")
    times = [record.scheduled, record.sent, record.first_byte, record.first_token, record.last_token, record.ended]
    known = [time for time in times if time is not None]
    assert known == sorted(known)
    assert len(known) == 6
    # The engine keeps its rate, never early: four times 50 ms.
    assert known[4] - known[3] >= 0.15
    assert record.longest_pause >= record.inter_token >= 0.0375  # type: ignore[operator]


async def test_requests_are_sent_when_they_are_due_whatever_became_of_those_before() -> None:
    async with engine(max_concurrent=1, tokens_per_second=10) as (running, url):
        arrivals = [Arrival(n / 100, prompt_tokens=1, output_tokens=5) for n in range(4)]
        async with load(Target(url, MODEL), arrivals) as client:
            await until(lambda: running.load().running == 1 and running.load().waiting == 3)
    assert client.outcome.whole == 4
    assert [record.scheduled for record in client.outcome.records] == [0, 0.01, 0.02, 0.03]
    assert client.outcome.time_to_first_token is not None
    assert client.outcome.time_to_first_token.longest >= 1.5  # behind three of half a second each


async def test_200_streams_at_once_are_whole_and_none_is_new_after_the_block() -> None:
    most = 0
    async with engine(tokens_per_second=10) as (running, url):
        async with streams(url, model=MODEL, count=200, seconds=2, rate=10) as outcome:
            await until(lambda: running.load().running >= 200, within_seconds=60)
            most = running.load().running
        assert running.load().running == 0
    assert most == 200
    assert not outcome.faults
    assert outcome.whole == len(outcome.records) >= 200
    print(f"\n200 streams: sent late by {outcome.lateness}; {outcome}")


async def test_short_requests_come_at_their_rate_until_the_block_ends() -> None:
    async with engine(tokens_per_second=1000) as (_, url), requests(url, model=MODEL, per_second=100) as outcome:
        await until(lambda: outcome.whole >= 20)
    assert outcome.whole == len(outcome.records)
    assert [round(record.scheduled, 2) for record in outcome.records[:4]] == [0, 0.01, 0.02, 0.03]


async def test_a_crash_is_a_cut_stream_and_then_an_error() -> None:
    async with engine(failure="crash-after:0.3", tokens_per_second=100) as (_, url):
        cut = await one(url, tokens=1000)
        after = await one(url)
    assert cut.fault is Fault.CUT
    assert 0 < cut.tokens < 1000
    assert after.fault is Fault.ERROR
    assert after.status == 500
    assert "told to fail" in after.detail


async def test_nobody_there_is_a_failed_request() -> None:
    async with engine() as (_, url):
        pass
    record = await one(url)
    assert record.fault is Fault.FAILED
    assert record.first_byte is None
    assert "ClientConnectorError" in record.detail


async def test_a_request_that_hangs_is_given_up() -> None:
    async with engine(failure="no-tokens") as (_, url), Client(Target(url, MODEL), patience_seconds=0.3) as client:
        record = await client.send(Arrival(0.0, prompt_tokens=1, output_tokens=3))
    assert record.fault is Fault.CUT  # its headers came
    assert "TimeoutError" in record.detail


async def test_ctrl_c_abandons_streams_and_does_not_call_them_cut() -> None:
    async with engine(tokens_per_second=1) as (running, url):
        entered: list[Client] = []

        async def endless() -> None:
            arrivals = paced(steady(1), prompt_tokens=1, output_tokens=1000)
            async with load(Target(url, MODEL), arrivals) as client:
                entered.append(client)
                await asyncio.Event().wait()

        task = asyncio.create_task(endless())
        await until(lambda: running.load().running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert entered[0].outcome.kinds == {Fault.ABANDONED: 1}
    assert entered[0].outcome.lost == 0


async def test_a_block_that_fails_lets_its_streams_end() -> None:
    async with engine(tokens_per_second=20) as (_, url):
        with pytest.raises(KeyError, match="of the test"):
            async with streams(url, model=MODEL, count=3, seconds=1, rate=20) as outcome:
                raise KeyError("of the test")
    assert outcome.whole == len(outcome.records) == 3


def chunk(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"


DONE = "data: [DONE]\n\n"
WRONG = {
    "gap": ([chunk("tok0"), chunk(" tok2"), DONE], Fault.GAP, "tok2 where tok1 was due"),
    "short": ([chunk("tok0 tok1"), DONE], Fault.GAP, "2 of 3 tokens"),
    "empty": ([DONE], Fault.GAP, "0 of 3 tokens"),
    "clean end": ([chunk("tok0 tok1 tok2")], Fault.UNENDED, "no [DONE]"),
    "error": ([chunk("tok0"), 'data: {"error": {"message": "out of memory"}}\n\n'], Fault.ERROR, "out of memory"),
    "page": (["data: <html>\n\n"], Fault.ERROR, "what came is no stream of chat completions: JSONDecodeError"),
    "list": (["data: []\n\n"], Fault.ERROR, "what came is no stream of chat completions"),
}


@pytest.mark.parametrize(("events", "fault", "told"), WRONG.values(), ids=WRONG)
async def test_a_stream_that_is_not_whole_is_told(events: list[str], fault: Fault, told: str) -> None:
    async def answer(_: Request) -> Response:
        return StreamingResponse(iter(events), media_type="text/event-stream")

    async with served(Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])) as url:
        record = await one(f"{url}/v1")
    assert record.fault is fault
    assert told in record.detail


@pytest.mark.parametrize(
    ("status", "headers", "fault", "retry_after"),
    [
        (429, {"retry-after": "7"}, Fault.REFUSED, 7.0),
        (429, {}, Fault.REFUSED, None),
        (503, {"retry-after": "Sun, 22 Nov 2026 10:00:00 GMT"}, Fault.ERROR, None),
        (404, {}, Fault.ERROR, None),
    ],
)
async def test_a_refusal_is_told_with_its_retry_after(
    status: int, headers: dict[str, str], fault: Fault, retry_after: float | None
) -> None:
    async def answer(_: Request) -> Response:
        return PlainTextResponse("too many wait", status_code=status, headers=headers)

    async with served(Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])) as url:
        record = await one(f"{url}/v1")
    assert (record.fault, record.status, record.retry_after) == (fault, status, retry_after)
    assert record.detail == f"HTTP {status} too many wait"


async def test_a_real_models_answer_needs_only_be_there() -> None:
    async def answer(_: Request) -> Response:
        return StreamingResponse(iter([chunk("Paris"), chunk("."), DONE]), media_type="text/event-stream")

    async with served(Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])) as url:
        assert (await one(f"{url}/v1", check=any_text)).whole
    assert any_text("", 3) == "no text"
