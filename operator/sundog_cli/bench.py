"""Load on an LLMDeployment: by a tool that is installed for it, or by a small open loop of our own.

Open loop: a request is sent when it is due, whatever became of those before it; so a queue that grows shows.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web

from sundog_cli.endpoint import THROUGH_API_SERVER, Endpoint, Refused
from sundog_cli.errors import Trouble
from sundog_cli.figures import Answered

TOOLS: Final = ("guidellm", "vllm")
"""Those that can be driven, in the order in which one is taken."""
_SEED: Final = 0
_HOP_BY_HOP: Final = frozenset(
    {"connection", "host", "transfer-encoding", "content-length", "keep-alive", "authorization"}
)


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent."""

    per_second: float
    requests: int
    prompt_tokens: int
    output_tokens: int


def arrivals(load: Load) -> list[float]:
    """When each request is due, in seconds: a Poisson process, the same in every run."""
    dice = random.Random(_SEED)  # noqa: S311 a load, not a secret
    due, found = 0.0, []
    for _ in range(load.requests):
        found.append(due)
        due += dice.expovariate(load.per_second)
    return found


async def send(endpoint: Endpoint, load: Load, *, on_answer: Callable[[Answered], None]) -> list[Answered]:
    """Send the load and wait for the last answer; failures are answers like others."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(due: float) -> Answered:
        await asyncio.sleep(max(due - (loop.time() - began), 0.0))
        answered = Answered(due)
        body = {
            "messages": [{"role": "user", "content": " ".join(["count"] * load.prompt_tokens)}],
            "max_tokens": load.output_tokens,
        }
        try:
            async for piece in endpoint.chat(body):
                if piece.text:
                    answered.tokens += 1
                    if answered.first_token is None:
                        answered.first_token = loop.time() - began
                if piece.tokens is not None:
                    answered.tokens = piece.tokens
        except Refused as refusal:
            answered.fault = str(refusal)
        answered.ended = loop.time() - began
        on_answer(answered)
        return answered

    return list(await asyncio.gather(*(one(due) for due in arrivals(load))))


def installed() -> str | None:
    """Name the first tool that is installed; None: there is none."""
    return next((tool for tool in TOOLS if shutil.which(tool)), None)


def command(tool: str, *, url: str, model: str, tokenizer: str, load: Load) -> list[str]:
    """Give the command line of a tool, as guidellm 0.8 and vLLM 0.29 to 0.32 take it."""
    if tool == "guidellm":
        text = f"prompt_tokens={load.prompt_tokens},output_tokens={load.output_tokens}"
        return [
            *("guidellm", "run", f"--backend=kind=openai_http,target={url.removesuffix('/v1')},model={model}"),
            f"--profile=kind=poisson,rate={load.per_second:g}",
            f"--constraint=kind=max_requests,count={load.requests}",
            *(f"--data=kind=synthetic_text,{text}", f"--tokenizer=kind=huggingface_auto,model={tokenizer}"),
            "--output=kind=console",
        ]
    return [
        *("vllm", "bench", "serve", "--backend=openai-chat", f"--base-url={url.removesuffix('/v1')}"),
        *("--endpoint=/v1/chat/completions", f"--model={model}", f"--tokenizer={tokenizer}"),
        *("--dataset-name=random", f"--random-input-len={load.prompt_tokens}"),
        *(f"--random-output-len={load.output_tokens}", f"--num-prompts={load.requests}"),
        f"--request-rate={load.per_second:g}",
    ]


async def drive(arguments: Sequence[str]) -> int:
    """Run a tool in this terminal, and give its exit code.

    Raises:
        Trouble: it cannot be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(*arguments)
    except OSError as error:
        raise Trouble(f"{arguments[0]} cannot be started: {error.strerror}.") from error
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def for_a_tool(endpoint: Endpoint) -> AsyncIterator[str]:
    """Give a URL that a tool can use: where the way leads through the API server, one of this machine that does so.

    The tool gets no credentials of the cluster, and reaches this one Service only.
    """
    if endpoint.via != THROUGH_API_SERVER:
        yield endpoint.url
        return

    async def forward(request: web.Request) -> web.StreamResponse:
        # Steps up would lead past the Service, to whatever else this person may ask the API server for.
        if not request.path.startswith("/v1/") or ".." in request.path.split("/"):
            raise web.HTTPNotFound
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        body = await request.read()
        async with endpoint.session.request(
            request.method,
            endpoint.url.removesuffix("/v1") + request.path_qs,
            data=body,
            chunked=endpoint.in_chunks if body else None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None),
            allow_redirects=False,
        ) as answer:
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}
            kept.pop("Content-Encoding", None)  # it was decoded on the way
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
