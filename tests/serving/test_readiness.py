"""A replica is ready once its engine has answered, and not before."""

import time
from dataclasses import replace

import pytest

from sundog_serving import fake
from sundog_serving.contract import Reason
from sundog_serving.engine import Receive, Scope, Send
from sundog_serving.errors import EngineStartError
from sundog_serving.readiness import first_answer
from sundog_serving.settings import Settings
from tests.serving.conftest import application_args


async def engine(**engine_args: object) -> fake.FakeEngine:
    return await fake.start(Settings.from_args(application_args("fake", engine_args)))


@pytest.mark.parametrize("embedding", [False, True])
async def test_a_real_request_is_answered_first(embedding: bool) -> None:  # noqa: FBT001  pytest's parameter
    started = await engine(embedding=embedding)
    assert await first_answer(started, within_seconds=10) is True
    assert started.generation_tokens_total == 1


async def test_an_engine_that_never_yields_a_token_does_not_become_ready() -> None:
    started = await engine(failure="no-tokens")
    await started.check()  # its health is good
    began = time.monotonic()
    with pytest.raises(EngineStartError, match="gave no answer to its first request") as caught:
        await first_answer(started, within_seconds=0.2)
    assert caught.value.reason is Reason.ENGINE_START_FAILED
    assert time.monotonic() - began < 5
    assert started.load().running == 0  # the request that was given up holds nothing


@pytest.mark.parametrize(("status", "body"), [(500, b'{"error": 1}'), (200, b"oops"), (200, b'{"usage": {}}')])
async def test_an_answer_that_is_none_is_told(status: int, body: bytes) -> None:
    started = await engine()

    async def broken(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    started.app = broken
    with pytest.raises(EngineStartError, match=f"with status {status}"):
        await first_answer(started, within_seconds=10)


async def test_a_model_for_which_no_request_is_known_is_not_proven() -> None:
    started = await engine()
    started.description = replace(started.description, tasks=("transcription",))
    assert await first_answer(started, within_seconds=10) is False
