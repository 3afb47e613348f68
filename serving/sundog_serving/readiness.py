"""The first answer: a replica is ready only once its engine has truly answered a request.

The request goes through the engine's own app, in this process: tokenizer, scheduler, model and route are all proven by
it, for every engine and version in the same way.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog_serving.contract import READINESS_SECONDS_VARIABLE, Reason
from sundog_serving.engine import ASGIApp, Engine, Message, Scope
from sundog_serving.errors import EngineDeadError, EngineStartError

DEFAULT_SECONDS = 300.0
"""For the first answer. Kernels may still be compiled during it; on a large GPU that took vLLM up to minutes."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A smallest request for one kind of model."""

    route: str
    body: Mapping[str, Any]


# In order of preference, by vLLM's name of the task.
PROBES: Mapping[str, Probe] = {
    "generate": Probe("/v1/completions", {"prompt": "Hello", "max_tokens": 1, "temperature": 0}),
    "embed": Probe("/v1/embeddings", {"input": "Hello"}),
    "classify": Probe("/classify", {"input": "Hello"}),
    "token_embed": Probe("/pooling", {"input": "Hello", "task": "token_embed"}),
    "token_classify": Probe("/pooling", {"input": "Hello", "task": "token_classify"}),
}


async def first_answer(engine: Engine, *, within_seconds: float) -> bool:
    """Have the engine generate one token (or one pooled output).

    Returns:
        True, or False where the model can do nothing for which there is a probe (speech to text): then nothing was
        proven.

    Raises:
        EngineStartError: No answer in time, or an answer that is none.
    """
    description = engine.description
    probe = next((probe for task, probe in PROBES.items() if task in description.tasks), None)
    if probe is None:
        return False
    try:
        async with asyncio.timeout(within_seconds):
            status, answer = await _post(engine.app, probe.route, {"model": description.model, **probe.body})
    except TimeoutError as error:
        raise EngineStartError(
            Reason.ENGINE_START_FAILED,
            f"the engine has loaded the model, but gave no answer to its first request ({probe.route}) "
            f"within {within_seconds:g} s: see the replica's log, or allow more with {READINESS_SECONDS_VARIABLE}",
        ) from error
    if status != 200 or not _has_output(answer):
        try:
            await engine.check()
        except EngineDeadError as error:
            raise EngineStartError(error.reason, f"the engine died at its first request: {error}") from error
        raise EngineStartError(
            Reason.ENGINE_START_FAILED,
            f"the engine has loaded the model, but answered its first request ({probe.route}) with status {status}: "
            f"{answer[:300].decode(errors='replace')}",
        )
    return True


def _has_output(answer: bytes) -> bool:
    try:
        document = json.loads(answer)
    except ValueError:
        return False
    usage = document.get("usage") or {}
    return bool(usage.get("completion_tokens") or document.get("data"))


async def _post(app: ASGIApp, route: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
    """Call an ASGI app as a server would, without a server."""
    payload = json.dumps(body).encode()
    requests: list[Message] = [{"type": "http.request", "body": payload, "more_body": False}]
    status = 0
    answer = bytearray()

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await asyncio.Event().wait()  # the client stays until it is answered
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            answer.extend(message.get("body", b""))

    headers = [
        (b"host", b"127.0.0.1"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(payload)).encode()),
    ]
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": route,
        "raw_path": route.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
    }
    await app(scope, receive, send)
    return status, bytes(answer)
