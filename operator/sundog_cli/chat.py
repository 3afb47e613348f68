"""A conversation with a model, in a terminal or from a pipe."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sundog_cli.cluster import cluster
from sundog_cli.endpoint import Endpoint, Piece, Refused, reach
from sundog_cli.errors import Trouble
from sundog_cli.terminal import tell

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is asked for."""

    name: str
    prompt: str | None
    system: str | None
    max_tokens: int | None
    url: str | None

    @property
    def opening(self) -> list[dict[str, str]]:
        """What stands before the first question."""
        return [{"role": "system", "content": self.system}] if self.system else []


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, with the names that `bench` has for latencies: seconds since the question was sent.

    What an engine does not say is None.
    """

    text: str
    finish_reason: str | None
    """In the engine's word: `stop`; `length` where it was cut at max_tokens."""
    prompt_tokens: int | None
    output_tokens: int | None
    time_to_first_token: float | None
    """None: there is no text."""
    total: float

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)


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
            messages = wanted.opening
            for question in [wanted.prompt] if wanted.prompt is not None else _questions(wanted.name):
                messages.append({"role": "user", "content": question})
                answer = runner.run(_answer(endpoint, messages, max_tokens=wanted.max_tokens, say=_say))
                messages.append({"role": "assistant", "content": answer.text})
        finally:
            runner.run(stack.aclose())


async def ask(wanted: Conversation, *, context: str | None, namespace: str | None) -> Answer:
    """Ask the prompt, and give the answer when it is whole.

    Raises:
        Trouble: the model did not answer.
        KubeError: the API server refused, or could not be reached.
    """
    async with AsyncExitStack() as stack:
        endpoint = await _open(stack, wanted, context=context, namespace=namespace)
        messages = [*wanted.opening, {"role": "user", "content": wanted.prompt or ""}]
        return await _answer(endpoint, messages, max_tokens=wanted.max_tokens, say=lambda _: None)


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


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


async def _answer(
    endpoint: Endpoint, messages: list[dict[str, str]], *, max_tokens: int | None, say: Callable[[str], None]
) -> Answer:
    body = {"messages": messages, **({} if max_tokens is None else {"max_tokens": max_tokens})}
    pieces: list[Piece] = []
    began = time.monotonic()
    try:
        async for piece in endpoint.chat(body):
            pieces.append(piece)
            say(piece.text)
    except Refused as refusal:
        if pieces:
            say("\n")
        raise Trouble(f"{endpoint.model} did not answer ({endpoint.via}): {refusal}") from refusal
    say("\n")
    return _whole(pieces, began=began, ended=time.monotonic())


def _whole(pieces: Sequence[Piece], *, began: float, ended: float) -> Answer:
    first = next((piece.at for piece in pieces if piece.text), None)
    return Answer(
        text="".join(piece.text for piece in pieces),
        finish_reason=_last(piece.finish_reason for piece in pieces),
        prompt_tokens=_last(piece.prompt_tokens for piece in pieces),
        output_tokens=_last(piece.tokens for piece in pieces),
        time_to_first_token=None if first is None else first - began,
        total=ended - began,
    )


def _last(said: Iterable[T | None]) -> T | None:
    return next((each for each in reversed(list(said)) if each is not None), None)
