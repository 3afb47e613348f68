"""An engine double: the routes, streams and metrics of vLLM's server, without a model.

It makes end-to-end tests quick, lets people try the autoscaler without a GPU, and fails on demand. Its tokens are
numbered (``tok0 tok1 …``), so that a client can tell whether one is missing.
"""

import argparse
import asyncio
import itertools
import math
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from sundog_serving import arguments
from sundog_serving.contract import Reason
from sundog_serving.engine import ASGIApp, Description, Load
from sundog_serving.errors import AdapterError, EngineDeadError, EngineStartError
from sundog_serving.fake_metrics import FakeMetrics
from sundog_serving.rate import Rate
from sundog_serving.settings import Model, Settings

VERSION: Final = "1"
TOLD_SO: Final = "the fake engine was told to fail; take failure out of spec.engine.args"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure on demand."""

    mode: str
    after_seconds: float

    MODES = ("start", "start-after", "no-tokens", "crash-after", "exit-after", "wedge-after")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``<mode>`` or ``<mode>-after:<seconds>``."""
        mode, _, seconds = text.partition(":")
        if mode not in cls.MODES or mode.endswith("-after") != bool(seconds):
            raise argparse.ArgumentTypeError(
                f"{text!r} is none of {', '.join(cls.MODES)} (those in -after with :<seconds>)"
            )
        try:
            return cls(mode, float(seconds or 0))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{seconds!r} in {text!r} is not a number of seconds") from error


def parser() -> argparse.ArgumentParser:
    """Return the fake engine's arguments."""
    options = argparse.ArgumentParser(allow_abbrev=False)
    options.add_argument("--tokens-per-second", type=_positive, default=50.0, help="of each stream, at most")
    options.add_argument(
        "--total-tokens-per-second",
        type=_positive,
        default=math.inf,
        help="of all streams together, which share it evenly: what makes an engine slower the more it runs",
    )
    options.add_argument("--start-delay-seconds", type=float, default=0.0, help="as if a model were loaded")
    options.add_argument("--max-concurrent", type=int, default=256, help="requests that run at once; others wait")
    options.add_argument(
        "--embedding", action=argparse.BooleanOptionalAction, default=False, help="be an embedding model"
    )
    options.add_argument("--failure", type=Failure.parse, default=None, help=f"one of {', '.join(Failure.MODES)}")
    return options


def _positive(text: str) -> float:
    if (number := float(text)) <= 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return number


async def start(settings: Settings) -> "FakeEngine":
    """Start a fake engine.

    Raises:
        EngineStartError: An argument is wrong, or the failure asked for is one at the start.
    """
    reserved = {"model": "it is named by spec.model"}
    options = arguments.parse(parser(), settings.engine_args, reserved=reserved, engine="the fake engine")
    failure: Failure | None = options.failure
    await asyncio.sleep(options.start_delay_seconds)
    if failure and failure.mode.startswith("start"):
        await asyncio.sleep(failure.after_seconds)
        raise EngineStartError(Reason.ENGINE_START_FAILED, TOLD_SO)
    return FakeEngine(
        lora=FakeLoRA(settings.lora.max_adapters + 1) if settings.lora else None,
        model=settings.model.name,
        tokens_per_second=options.tokens_per_second,
        total_tokens_per_second=options.total_tokens_per_second,
        max_concurrent=options.max_concurrent,
        embedding=options.embedding,
        failure=failure,
    )


class FakeLoRA:
    """Adapters that change nothing in an answer but the name of its model."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.names: dict[str, int] = {}
        self.in_use: Counter[int] = Counter()
        self._last = 0

    async def fetch(self, adapter: Model) -> Path:
        """Need no files."""
        return Path(adapter.uri)

    async def load(self, name: str, path: Path) -> int:
        """Take every adapter but those whose place has ``broken`` in its name."""
        if "broken" in str(path):
            raise AdapterError(f"the fake engine takes no adapter whose uri has 'broken' in it, as that of {name}")
        self._last += 1
        return self._last

    def publish(self, name: str, handle: int) -> None:
        """Answer to its name."""
        self.names[name] = handle

    def withdraw(self, name: str) -> None:
        """Answer to its name no more."""
        self.names.pop(name, None)

    def requests(self, handle: int) -> int:
        """How many requests use it."""
        return self.in_use[handle]

    async def remove(self, handle: int) -> None:
        """Forget it."""
        del self.in_use[handle]

    @contextmanager
    def used_by(self, model: str) -> Iterator[None]:
        """Count a request as one of the adapter that goes by this name now, if one does."""
        handle = self.names.get(model)
        if handle is None:
            yield
            return
        self.in_use[handle] += 1
        try:
            yield
        finally:
            self.in_use[handle] -= 1


class FakeEngine:
    """Counts and paces tokens; `fake_routes` gives it its HTTP face."""

    stall_seconds = 20.0

    def __init__(
        self,
        *,
        model: str,
        tokens_per_second: float,
        total_tokens_per_second: float,
        max_concurrent: int,
        embedding: bool,
        failure: Failure | None,
        lora: FakeLoRA | None = None,
    ) -> None:
        from sundog_serving.fake_routes import app  # noqa: PLC0415  the routes name this class

        self.lora = lora
        self.max_concurrent = max_concurrent
        self.description = Description(
            engine="fake", version=VERSION, device="cpu", model=model, tasks=("embed",) if embedding else ("generate",)
        )
        self._tokens_per_second = tokens_per_second
        self._total_tokens_per_second = total_tokens_per_second
        self._slots = asyncio.Semaphore(max_concurrent)
        self._running = 0
        self._waiting = 0
        self.prompt_tokens_total = 0
        self.generation_tokens_total = 0
        self._generation_rate = Rate()
        self._dead = asyncio.Event()
        self._wedged = bool(failure and failure.mode == "no-tokens")
        self._failing = (
            asyncio.create_task(self._fail(failure)) if failure and failure.mode.endswith("-after") else None
        )
        self.metrics = FakeMetrics(self)
        self.metrics.load_changed()
        self.app: ASGIApp = app(self)

    async def _fail(self, failure: Failure) -> None:
        await asyncio.sleep(failure.after_seconds)
        if failure.mode == "exit-after":
            os._exit(1)
        if failure.mode == "crash-after":
            self._dead.set()
        else:
            self._wedged = True

    @property
    def alive(self) -> bool:
        """Whether requests are still taken; a crashed engine fails them at once, as vLLM's does."""
        return not self._dead.is_set()

    def load(self) -> Load:
        """How busy it is."""
        return Load(
            running=self._running,
            waiting=self._waiting,
            kv_cache_utilization=min(1.0, self._running / self.max_concurrent),
            prompt_tokens_total=self.prompt_tokens_total,
            generation_tokens_total=self.generation_tokens_total,
            generation_tokens_per_second=self._generation_rate.at(time.monotonic()),
            steps_total=self.generation_tokens_total,
        )

    def prompted(self, tokens: int) -> None:
        """Count the tokens of a prompt."""
        self.prompt_tokens_total += tokens
        self.metrics.prompted(tokens)

    async def check(self) -> None:
        """Raise EngineDeadError once it has crashed."""
        if not self.alive:
            raise EngineDeadError(TOLD_SO)

    async def stop(self) -> None:
        """Fail what is still running."""
        if self._failing:
            self._failing.cancel()
        self._dead.set()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the ``max-concurrent`` places; given back at once when the client leaves."""
        self._waiting += 1
        self.metrics.load_changed()
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        self.metrics.load_changed()
        try:
            yield
        finally:
            self._running -= 1
            self._slots.release()
            self.metrics.load_changed()

    async def tokens(self, count: int) -> AsyncIterator[str]:
        """Yield ``tok0``, `` tok1``, … at the rate asked for, or at a share of the whole; holding a slot.

        Raises:
            EngineDeadError: The engine crashes meanwhile.
        """
        loop = asyncio.get_running_loop()
        async with self.slot():
            due = loop.time()
            for number in itertools.islice(itertools.count(), count):
                # By the clock, not by equal sleeps: the rate holds although each sleep is a little late.
                due += self._seconds_per_token()
                await self._pause(due - loop.time())
                self.generation_tokens_total += 1
                self.metrics.generated()
                self._generation_rate.add(1, now=time.monotonic())
                yield f"tok{number}" if number == 0 else f" tok{number}"

    def _seconds_per_token(self) -> float:
        """How long a stream takes for one token beside all that run at this moment."""
        return max(1 / self._tokens_per_second, self._running / self._total_tokens_per_second)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self._wedged:
            await self._dead.wait()
        if not self.alive:
            raise EngineDeadError(TOLD_SO)
