"""A real HTTP server that answers as an engine does, well or not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from sundog_cli.endpoint import DIRECTLY, THROUGH_API_SERVER, Endpoint


def event(**what: object) -> bytes:
    return b"data: " + json.dumps(what).encode() + b"\n\n"


def token(text: str) -> bytes:
    return event(choices=[{"delta": {"content": text}}])


USAGE = event(choices=[], usage={"completion_tokens": 4})
DONE = b"data: [DONE]\n\n"
WHOLE = (token("one "), token("two"), USAGE, DONE)
CUT = b""
"""The connection is lost instead."""


@asynccontextmanager
async def engine(
    *parts: bytes, status: int = 200, via: str = DIRECTLY, asked: list[dict[str, Any]] | None = None
) -> AsyncIterator[Endpoint]:
    """An engine that answers every question with these parts, and keeps the questions.

    It insists on what the API server needs: a question that comes through it comes in chunks (see `endpoint`).
    """
    questions = [] if asked is None else asked

    async def answer(request: web.Request) -> web.StreamResponse:
        questions.append(await request.json())
        assert questions[-1]["model"] == "qwen3"
        assert ("Transfer-Encoding" in request.headers) == (via == THROUGH_API_SERVER)
        response = web.StreamResponse(status=status, headers={"Retry-After": "7"} if status == 429 else {})
        await response.prepare(request)
        for part in parts:
            if part is CUT:
                assert request.transport
                request.transport.close()
                break
            await response.write(part)
        return response

    async def secret(_: web.Request) -> web.Response:
        return web.Response(text="a secret of another Service")

    app = web.Application()
    app.router.add_post("/prefix/v1/chat/completions", answer)
    app.router.add_get("/secret", secret)
    app.router.add_get("/prefix/secret", secret)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/prefix/v1"
    try:
        async with aiohttp.ClientSession() as session:
            yield Endpoint(session, url, "qwen3", via)
    finally:
        await runner.cleanup()
