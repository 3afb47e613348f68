"""Which routes of an engine are for users.

A list of what is open, not of what is closed: engines grow control routes (sleep, weight transfer, LoRA loading,
profiling, aborting other people's requests), and a new one must stay closed until somebody has looked at it. A contract
test compares this list with the routes of the real engine.
"""

import re
from typing import Final

_OPEN: Final = (
    "/v1/models",
    # generation
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/v1/chat/completions/render",
    "/v1/chat/completions/derender",
    "/v1/completions",
    "/v1/completions/render",
    "/v1/completions/derender",
    "/v1/responses",
    "/v1/responses/render",
    "/v1/responses/{id}",
    "/v1/responses/{id}/cancel",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/messages/render",
    "/cohere/v2/chat",
    "/cohere/v2/chat/render",
    "/generative_scoring",
    "/inference/v1/generate",
    "/invocations",
    "/v1/systemone",
    # pooling
    "/v1/embeddings",
    "/v2/embed",
    "/pooling",
    "/classify",
    "/score",
    "/v1/score",
    "/rerank",
    "/v1/rerank",
    "/v2/rerank",
    # speech
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/realtime",
    # tokens
    "/tokenize",
    "/detokenize",
    "/tokenizer_info",  # is there only where the engine argument asks for it
    # about the engine
    "/health",
    "/ping",
    "/version",
    "/load",
    "/metrics",
)

_EXACT: Final = frozenset(route for route in _OPEN if "{" not in route)
_PATTERNS: Final = tuple((route, re.compile(re.sub(r"\{[a-z]+\}", "[^/]+", route))) for route in _OPEN if "{" in route)


def open_route(path: str) -> str | None:
    """Return the route that a request's path belongs to where users may call it, else None."""
    if path in _EXACT:
        return path
    return next((route for route, pattern in _PATTERNS if pattern.fullmatch(path)), None)
