"""What every engine gives to the replica around it. `vllm_engine` and `fake` are such engines."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sundog_serving.settings import Model

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


class LoRA(Protocol):
    """What an engine does with LoRA adapters. A handle stands for one in the engine, and is never used again."""

    @property
    def slots(self) -> int:
        """How many it holds at a time."""

    async def fetch(self, adapter: Model) -> Path:
        """Find or download its files.

        Raises:
            EngineStartError: They are not there, or no adapter.
        """

    async def load(self, name: str, path: Path) -> int:
        """Load it, and give its handle; no request is answered with it before `publish`.

        Raises:
            AdapterError: The engine does not take it; nothing of it is left there.
        """

    def publish(self, name: str, handle: int) -> None:
        """Answer to requests by its name from now on; instead of another by that name where there is one."""

    def withdraw(self, name: str) -> None:
        """Answer to new requests by its name with 404 from now on."""

    def requests(self, handle: int) -> int:
        """How many requests use it."""

    async def remove(self, handle: int) -> None:
        """Take it out of the engine; requests that use it would be lost."""


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

    @property
    def lora(self) -> LoRA | None:
        """Its LoRA adapters; None where it was started without."""

    def load(self) -> Load:
        """How busy it is; cheap enough for once a second."""

    async def check(self) -> None:
        """Ask the engine whether it is alive.

        Raises:
            EngineDeadError: It is not.
        """

    async def stop(self) -> None:
        """End it, and every process that it started."""
