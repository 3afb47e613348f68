"""Which resource is looked at when: a queue that coalesces, never looks at one twice at once, and backs off per key.

`Schedule` decides and knows no clock (`now` is a parameter); `WorkQueue` runs it.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

Key = TypeVar("Key", bound=Hashable)

CONCURRENCY: Final = 16
"""Passes at once. They mostly wait for the API server: more would only queue there."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to leave a key alone after it failed."""

    first_seconds: float = 0.5
    longest_seconds: float = 60.0
    jitter: float = 0.2
    """Part of the delay that is left to chance: 500 keys that failed together shall not come back together."""
    least_seconds: float = 2.0
    """An event may cut a delay short, but not below this."""

    def seconds(self, failures: int, chance: float) -> float:
        """Give the delay after so many failures in a row; `chance` is in [0, 1)."""
        delay: float = min(self.first_seconds * 2.0 ** min(failures - 1, 30), self.longest_seconds)
        return delay * (1 - self.jitter * chance)


class Postponed(Exception):  # noqa: N818 it says when to come back
    """A pass failed; the queue comes back to the key."""

    def __init__(
        self, cause: Exception, *, not_before_seconds: float = 0.0, longest_seconds: float | None = None
    ) -> None:
        """Keep the cause, and the bounds within which its delay must be."""
        super().__init__(str(cause))
        self.cause = cause
        self.not_before_seconds = not_before_seconds
        self.longest_seconds = longest_seconds


@dataclass(slots=True)
class _Failed:
    times: int
    not_before: float


class Schedule(Generic[Key]):
    """What is due when. Times are seconds of one clock, which the caller reads."""

    def __init__(self, backoff: Backoff | None = None, chance: Callable[[], float] = random.random) -> None:
        """Start with nothing due."""
        self._backoff = backoff or Backoff()
        self._chance = chance
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = 0
        self._running: dict[Key, float | None] = {}
        self._failed: dict[Key, _Failed] = {}

    def __len__(self) -> int:
        """How many keys wait."""
        return len(self._due)

    @property
    def running(self) -> int:
        """How many keys are being looked at."""
        return len(self._running)

    def add(self, key: Key, due: float) -> None:
        """Look at a key at that time, or earlier if that is arranged already."""
        if key in self._running:
            arranged = self._running[key]
            self._running[key] = due if arranged is None else min(due, arranged)
            return
        if failed := self._failed.get(key):
            due = max(due, failed.not_before)
        if key not in self._due or due < self._due[key]:
            self._due[key] = due
            self._order += 1
            heapq.heappush(self._heap, (due, self._order, key))

    def take(self, now: float) -> tuple[Key, float] | None:
        """Take the key that has been due for longest, with its due time; None: nothing is due."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        due, _, key = heapq.heappop(self._heap)
        del self._due[key]
        self._running[key] = None
        return key, due

    def next_due(self) -> float | None:
        """Give the time at which the next key is due."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def done(self, key: Key, now: float, *, again_seconds: float | None = None) -> None:
        """A pass went well; look again after so many seconds, or when something happens."""
        self._failed.pop(key, None)
        arranged = self._running.pop(key)
        if arranged is not None:
            self.add(key, arranged)
        if again_seconds is not None:
            self.add(key, now + again_seconds)

    def failed(
        self, key: Key, now: float, *, not_before_seconds: float = 0.0, longest_seconds: float | None = None
    ) -> float:
        """A pass failed; gives the seconds after which the key is looked at again."""
        failure = self._failed.setdefault(key, _Failed(0, 0.0))
        failure.times += 1
        delay = self._backoff.seconds(failure.times, self._chance())
        if longest_seconds is not None:
            delay = min(delay, longest_seconds)
        delay = max(delay, not_before_seconds)
        failure.not_before = now + max(not_before_seconds, min(delay, self._backoff.least_seconds))
        arranged = self._running.pop(key)
        if arranged is not None:
            self.add(key, arranged)
        self.add(key, now + delay)
        return delay

    def _drop_stale(self) -> None:
        # An entry is stale when its key was taken or arranged anew.
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)


class Observer(Protocol):
    """Who counts."""

    def queue_changed(self, *, waiting: int, running: int) -> None:
        """Tell the depth."""

    def taken(self, waited_seconds: float) -> None:
        """Tell for how long a key had been due."""


class WorkQueue(Generic[Key]):
    """Runs a coroutine per key that is due, some at once."""

    def __init__(
        self,
        process: Callable[[Key], Awaitable[float | None]],
        *,
        observer: Observer,
        on_failure: Callable[[Key, Exception, float], None],
        concurrency: int = CONCURRENCY,
        clock: Callable[[], float] = time.monotonic,
        schedule: Schedule[Key] | None = None,
    ) -> None:
        """Prepare; `run` runs.

        Args:
            process: looks at a key; gives the seconds after which to look again, or None.
            observer: is told depth and latency.
            on_failure: is told key, cause and the seconds until the next try.
            concurrency: keys looked at at once.
            clock: seconds that grow.
            schedule: to start with.
        """
        self._process = process
        self._observer = observer
        self._on_failure = on_failure
        self._concurrency = concurrency
        self._clock = clock
        self._schedule: Schedule[Key] = schedule if schedule is not None else Schedule()
        self._wake = asyncio.Event()
        self._stopping = False

    def add(self, key: Key) -> None:
        """Look at a key soon."""
        self.add_after(key, 0.0)

    def add_after(self, key: Key, seconds: float) -> None:
        """Look at a key after so many seconds."""
        self._schedule.add(key, self._clock() + seconds)
        self._wake.set()

    def stop(self) -> None:
        """Begin no more passes; `run` ends when those under way have ended."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Process keys until `stop`."""
        async with asyncio.TaskGroup() as passes:
            while not self._stopping:
                self._wake.clear()
                while self._schedule.running < self._concurrency and (taken := self._schedule.take(self._clock())):
                    key, due = taken
                    self._observer.taken(self._clock() - due)
                    passes.create_task(self._look_at(key))
                self._observer.queue_changed(waiting=len(self._schedule), running=self._schedule.running)
                await self._wait()

    async def _wait(self) -> None:
        due = self._schedule.next_due() if self._schedule.running < self._concurrency else None
        if due is None:
            await self._wake.wait()
            return
        timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock()), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _look_at(self, key: Key) -> None:
        try:
            again = await self._process(key)
        except Postponed as postponed:
            delay = self._schedule.failed(
                key,
                self._clock(),
                not_before_seconds=postponed.not_before_seconds,
                longest_seconds=postponed.longest_seconds,
            )
            self._on_failure(key, postponed.cause, delay)
        except Exception as error:  # noqa: BLE001 a fault in one resource's pass must not end everybody's; it is told
            self._on_failure(key, error, self._schedule.failed(key, self._clock()))
        else:
            self._schedule.done(key, self._clock(), again_seconds=again)
        self._wake.set()
