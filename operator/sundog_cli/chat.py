"""A conversation with a model, in a terminal or from a pipe."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from sundog_cli.cluster import cluster
from sundog_cli.endpoint import Endpoint, Refused, reach
from sundog_cli.errors import Trouble
from sundog_cli.terminal import tell


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is asked for."""

    name: str
    prompt: str | None
    system: str | None
    max_tokens: int | None
    url: str | None


def converse(wanted: Conversation, *, context: str | None, namespace: str | None) -> None:
    """Answer questions until there is none left.

    Not one coroutine: a question is waited for outside the loop, so that Ctrl-C ends it at once.

    Raises:
        Trouble: the model did not answer.
        KubeError: the API server refused, or could not be reached.
    """
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            endpoint = runner.run(_open(stack, wanted, context=context, namespace=namespace))
            messages = [{"role": "system", "content": wanted.system}] if wanted.system else []
            for question in [wanted.prompt] if wanted.prompt is not None else _questions(wanted.name):
                messages.append({"role": "user", "content": question})
                answer = runner.run(_answer(endpoint, messages, max_tokens=wanted.max_tokens))
                messages.append({"role": "assistant", "content": answer})
        finally:
            runner.run(stack.aclose())


async def _open(stack: AsyncExitStack, wanted: Conversation, *, context: str | None, namespace: str | None) -> Endpoint:
    found = await stack.enter_async_context(cluster(context=context, namespace=namespace))
    resource = await found.llm_deployment(wanted.name)
    return await stack.enter_async_context(reach(found, resource, url=wanted.url))


def _questions(name: str) -> Iterator[str]:
    if sys.stdin.isatty():
        tell(f"Talking to {name}; Ctrl-D ends it.")
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip():
            yield line


async def _answer(endpoint: Endpoint, messages: list[dict[str, str]], *, max_tokens: int | None) -> str:
    body = {"messages": messages, **({} if max_tokens is None else {"max_tokens": max_tokens})}
    pieces = []
    try:
        async for piece in endpoint.chat(body):
            pieces.append(piece.text)
            sys.stdout.write(piece.text)
            sys.stdout.flush()
    except Refused as refusal:
        if pieces:
            sys.stdout.write("\n")
        raise Trouble(f"{endpoint.model} did not answer ({endpoint.via}): {refusal}") from refusal
    sys.stdout.write("\n")
    return "".join(pieces)
