"""What every engine gives to the replica around it. `vllm_engine` and `fake` are such engines."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy an engine is, at this moment."""

    running: int
    waiting: int
    kv_cache_utilization: float
    """Between 0 and 1."""
    prompt_tokens_total: int
    generation_tokens_total: int
    generation_tokens_per_second: float
    """Over the last seconds, as `rate` has it."""
    steps_total: int
    """Counts whatever the engine does for its requests: it grows while they make progress, token or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What an engine is."""

    engine: str
    version: str
    device: str
    model: str
    tasks: tuple[str, ...]
    """What the model can do, in vLLM's words: ``generate``, ``embed``, ``classify``, …"""


class Engine(Protocol):
    """An engine that has loaded its model."""

    @property
    def app(self) -> ASGIApp:
        """The engine's OpenAI-compatible app."""

    @property
    def description(self) -> Description:
        """What this engine is."""

    @property
    def stall_seconds(self) -> float:
        """How long it may hold requests without a step before it counts as wedged."""

    def load(self) -> Load:
        """How busy it is; cheap enough for once a second."""

    async def check(self) -> None:
        """Ask the engine whether it is alive.

        Raises:
            EngineDeadError: It is not.
        """

    async def stop(self) -> None:
        """End it, and every process that it started."""
