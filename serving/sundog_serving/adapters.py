"""LoRA adapters of a running engine: brought in and taken out while requests run, and without a restart.

What is wanted is always the whole list, so any order, loss or repetition of calls ends in the same state. No adapter
may harm a request that is none of its own: one that fails is told and left out, and one that is to go keeps its place
in the engine until its last request has ended.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from sundog_serving.engine import LoRA
from sundog_serving.errors import AdapterError, EngineStartError
from sundog_serving.settings import Model

logger = logging.getLogger("sundog.adapters")

FIRST_SECONDS: Final = 120.0
"""A new replica answers once each adapter was tried; a hub that hangs must not keep it from that for longer."""
RETRY_SECONDS: Final = 10.0
LONGEST_RETRY_SECONDS: Final = 300.0
QUIET_SECONDS: Final = 5.0
"""An engine knows of a request a moment after it was given its adapter: one goes when it had none for so long."""
_POLL_SECONDS: Final = 0.5


@dataclass(slots=True, eq=False)
class _Entry:
    """One adapter that is wanted, and how far it has come."""

    adapter: Model
    state: str = "loading"
    message: str = ""
    tried: asyncio.Event = field(default_factory=asyncio.Event)

    def told(self, state: str, message: str = "") -> None:
        """Take note of how a try ended."""
        self.state, self.message = state, message
        self.tried.set()


class Adapters:
    """Keeps an engine's adapters as they are wanted."""

    def __init__(self, lora: LoRA) -> None:
        self._lora = lora
        self._wanted: dict[str, _Entry] = {}
        self._answering: dict[str, int] = {}
        """What requests by a name are given; for a while another than the one that is wanted."""
        self._held: set[int] = set()
        """All that the engine has, those included that only finish their requests."""
        self._loading = asyncio.Lock()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._began = False

    async def want(self, adapters: Iterable[Model]) -> None:
        """Say which adapters there are to be: all of them, each time.

        The first time it returns when each was tried, and later at once.
        """
        wanted = {adapter.name: adapter for adapter in adapters}
        for name in self._wanted.keys() - wanted.keys():
            del self._wanted[name]
            self._withdraw(name)
        for name, adapter in wanted.items():
            if name not in self._wanted or self._wanted[name].adapter != adapter:
                entry = self._wanted[name] = _Entry(adapter)
                self._spawn(self._bring(entry))
        self._wanted = {name: self._wanted[name] for name in wanted}  # in the order in which it is wanted
        self._tell()
        if not self._began:
            self._began = True
            try:
                async with asyncio.timeout(FIRST_SECONDS):
                    for entry in list(self._wanted.values()):
                        await entry.tried.wait()
            except TimeoutError:
                logger.warning("going on without adapters that were not tried within %g s", FIRST_SECONDS)

    def report(self) -> dict[str, Any]:
        """Say how far each is, in the order in which they are wanted."""
        return {"adapters": [self._row(entry) for entry in self._wanted.values()]}

    def _row(self, entry: _Entry) -> dict[str, Any]:
        adapter, message = entry.adapter, entry.message
        if entry.state == "failed" and adapter.name in self._answering:
            message += "; the one before it still answers"
        return {
            "name": adapter.name,
            "uri": adapter.uri,
            "revision": adapter.revision,
            "state": entry.state,
            "message": message,
        }

    async def stop(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _bring(self, entry: _Entry) -> None:
        pause = RETRY_SECONDS
        while self._is_wanted(entry):
            try:
                path = await self._lora.fetch(entry.adapter)
                await self._load(entry, path)
            except EngineStartError as error:
                # Files that are not there, or not whole: they may come, and to look for them costs the engine nothing.
                logger.warning("adapter=%s cannot be had: %s", entry.adapter.name, error.sentence)
                entry.told("failed", error.sentence)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_RETRY_SECONDS)
                continue
            except AdapterError as error:
                # The engine stands still while it loads one, so what it has refused is not tried again.
                logger.warning("adapter=%s was refused by the engine: %s", entry.adapter.name, error)
                entry.told("failed", str(error))
            except Exception as error:  # whatever it is, it must be told and harm nobody else
                logger.exception("adapter=%s failed", entry.adapter.name)
                entry.told("failed", f"{type(error).__name__}: {error}")
            return

    async def _load(self, entry: _Entry, path: Any) -> None:
        async with self._loading:
            while self._is_wanted(entry) and len(self._held) >= self._lora.slots:
                entry.message = "it waits for requests of an adapter that was taken out"
                await self._news.wait()
            if not self._is_wanted(entry):
                return
            handle = await self._lora.load(entry.adapter.name, path)
            self._held.add(handle)
        if not self._is_wanted(entry):
            self._spawn(self._retire(handle))
            return
        self._withdraw(entry.adapter.name)
        self._lora.publish(entry.adapter.name, handle)
        self._answering[entry.adapter.name] = handle
        entry.told("loaded")
        logger.info("loaded adapter=%s uri=%s", entry.adapter.name, entry.adapter.uri)

    def _withdraw(self, name: str) -> None:
        """Give it to no request any more; those that have it keep it."""
        if (handle := self._answering.pop(name, None)) is not None:
            self._lora.withdraw(name)
            self._spawn(self._retire(handle))
            logger.info("taken out adapter=%s", name)

    async def _retire(self, handle: int) -> None:
        """Take its place in the engine back once nobody uses it."""
        quiet = 0.0
        while quiet < QUIET_SECONDS:
            await asyncio.sleep(_POLL_SECONDS)
            quiet = 0.0 if self._lora.requests(handle) else quiet + _POLL_SECONDS
        try:
            await self._lora.remove(handle)
        except Exception:  # of an engine that dies; health checks tell that
            logger.exception("an adapter could not be removed from the engine")
            return
        self._held.discard(handle)
        self._tell()

    def _is_wanted(self, entry: _Entry) -> bool:
        return self._wanted.get(entry.adapter.name) is entry

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
