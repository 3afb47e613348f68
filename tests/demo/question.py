"""Asking the model, with the client that everybody uses."""

import time

from openai import APIError, AsyncOpenAI
from rich.console import Console

from .errors import DemoError

QUESTION = "What is the capital of France?"
# The model answers in a sentence or two; more would only be waited for.
MAX_TOKENS = 80


async def ask(url: str, *, model: str, console: Console) -> str:
    """Ask a question and print the answer as it is generated.

    Args:
        url: base URL of an OpenAI-compatible API.
        model: name of the model.
        console: where question and answer go.

    Returns:
        The answer.

    Raises:
        DemoError: the API did not answer, or broke off.
    """
    width = max(len(model), len("You"))
    console.print(f"\n[bold]{'You':<{width}}[/bold]  {QUESTION}\n[bold]{model:<{width}}[/bold]  ", end="")
    began = time.monotonic()
    first = 0.0
    pieces: list[str] = []
    try:
        async with AsyncOpenAI(base_url=url, api_key="none is needed", max_retries=2, timeout=120) as client:
            stream = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": QUESTION}],
                temperature=0,
                max_tokens=MAX_TOKENS,
                stream=True,
            )
            async for chunk in stream:
                if piece := chunk.choices[0].delta.content if chunk.choices else None:
                    first = first or time.monotonic()
                    pieces.append(piece)
                    console.out(piece, end="", highlight=False)
                    console.file.flush()
    except APIError as error:
        raise DemoError(f"The question was not answered at {url}: {error.message}") from None
    if not pieces:
        raise DemoError(f"The model answered nothing at {url}.")
    # No rate: so short an answer may come in one piece of the network's.
    told = f"first token after {first - began:.1f} s; {len(pieces)} tokens in {time.monotonic() - began:.1f} s"
    console.print(f"\n[dim]{told}[/dim]")
    return "".join(pieces)
