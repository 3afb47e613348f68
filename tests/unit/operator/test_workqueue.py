"""The work queue: pure properties of its schedule on a clock of its own, then the queue itself."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog_operator.workqueue import Backoff, Postponed, Schedule, WorkQueue

KEYS = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), KEYS, st.floats(0, 5)),
        st.tuples(st.just("take")),
        st.tuples(st.just("done"), KEYS, st.none() | st.floats(0, 5)),
        st.tuples(st.just("failed"), KEYS),
        st.tuples(st.just("wait"), st.floats(0, 10)),
    ),
    max_size=60,
)


def run(steps: list[tuple[Any, ...]]) -> tuple[Schedule[str], float, set[str], set[str]]:
    """Play steps; give the schedule, the time, the keys that run, and those that something was asked for since."""
    schedule: Schedule[str] = Schedule(chance=lambda: 0.5)
    now, running, owed = 0.0, set[str](), set[str]()
    for step in steps:
        match step:
            case ("add", key, after):
                schedule.add(key, now + after)
                owed.add(key)
            case ("take",):
                if taken := schedule.take(now):
                    key, due = taken
                    assert key not in running, "a key is never processed twice at once"
                    assert due <= now
                    running.add(key)
                    owed.discard(key)
            case ("done", key, again) if key in running:
                schedule.done(key, now, again_seconds=again)
                running.discard(key)
                if again is not None:
                    owed.add(key)
            case ("failed", key) if key in running:
                schedule.failed(key, now)
                running.discard(key)
                owed.add(key)
            case ("wait", seconds):
                now += seconds
    return schedule, now, running, owed


@given(STEPS)
def test_what_was_asked_for_is_taken_exactly_once_and_nothing_else_is(steps: list[tuple[Any, ...]]) -> None:
    schedule, now, running, owed = run(steps)
    for key in list(running):
        schedule.done(key, now)
    taken: list[str] = []
    while (due := schedule.next_due()) is not None:
        found = schedule.take(max(now, due))
        assert found
        taken.append(found[0])
        schedule.done(found[0], max(now, due))
    assert sorted(taken) == sorted(owed)
    assert len(schedule) == 0
    assert schedule.running == 0


@given(STEPS)
def test_the_one_that_has_been_due_for_longest_goes_first(steps: list[tuple[Any, ...]]) -> None:
    schedule, now, running, _ = run(steps)
    for key in list(running):
        schedule.done(key, now)
    dues: list[float] = []
    later = now + 1000
    while found := schedule.take(later):
        dues.append(found[1])
    assert dues == sorted(dues)


def test_events_during_a_pass_cause_exactly_one_more() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 0)
    assert schedule.take(0)
    for _ in range(5):
        schedule.add("a", 1)
    assert schedule.take(10) is None
    schedule.done("a", 10)
    assert schedule.take(10)
    schedule.done("a", 11)
    assert schedule.take(1000) is None


def failing_times(schedule: Schedule[str], *, times: int) -> list[float]:
    now, delays = 0.0, []
    schedule.add("a", now)
    for _ in range(times):
        assert schedule.take(now)
        delays.append(schedule.failed("a", now))
        now += delays[-1]
    return delays


def test_failures_back_off_up_to_a_bound_and_success_forgets_them() -> None:
    schedule: Schedule[str] = Schedule(Backoff(first_seconds=1, longest_seconds=10), chance=lambda: 0.0)
    assert failing_times(schedule, times=6) == [1, 2, 4, 8, 10, 10]
    assert schedule.take(1000)
    schedule.done("a", 1000)
    schedule.add("a", 1000)
    assert schedule.take(1000)
    assert schedule.failed("a", 1000) == 1


@given(st.integers(1, 100_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_always_within_its_bounds(failures: int, chance: float) -> None:
    backoff = Backoff()
    seconds = backoff.seconds(failures, chance)
    assert backoff.first_seconds * (1 - backoff.jitter) <= seconds <= backoff.longest_seconds


def test_retry_after_of_the_server_is_kept_and_its_bound_too() -> None:
    schedule: Schedule[str] = Schedule(Backoff(longest_seconds=60), chance=lambda: 0.0)
    schedule.add("a", 0)
    assert schedule.take(0)
    assert schedule.failed("a", 0, not_before_seconds=30, longest_seconds=8) == 30
    schedule.add("a", 1)
    assert schedule.take(29) is None, "an event must not hurry to a server that asked to be left alone"
    assert schedule.take(30)


def test_an_event_cuts_a_long_delay_short_but_not_to_nothing() -> None:
    schedule: Schedule[str] = Schedule(Backoff(first_seconds=100, longest_seconds=100, least_seconds=2))
    schedule.add("a", 0)
    assert schedule.take(0)
    schedule.failed("a", 0)
    schedule.add("a", 0.1)
    assert schedule.take(1.9) is None
    assert schedule.take(2.0)


class Watcher:
    """Observes the queue and collects failures."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []
        self.waits: list[float] = []

    def queue_changed(self, *, waiting: int, running: int) -> None:
        pass

    def taken(self, waited_seconds: float) -> None:
        self.waits.append(waited_seconds)

    def failed(self, key: str, cause: Exception, delay: float) -> None:
        del delay
        self.failures.append((key, str(cause)))


async def test_a_failing_and_a_hanging_key_delay_nobody() -> None:
    watcher, seen = Watcher(), asyncio.Queue[str]()
    hang = asyncio.Event()

    async def process(key: str) -> None:
        if key == "bug":
            raise ZeroDivisionError("a bug")
        if key == "refused":
            raise Postponed(ValueError("refused"))
        if key == "slow":
            await hang.wait()
        seen.put_nowait(key)

    queue: WorkQueue[str] = WorkQueue(process, observer=watcher, on_failure=watcher.failed, concurrency=2)
    running = asyncio.create_task(queue.run())
    for key in ("slow", "bug", "refused", *map(str, range(100))):
        queue.add(key)
    async with asyncio.timeout(5):
        assert [await seen.get() for _ in range(100)] == [str(number) for number in range(100)]
    assert set(watcher.failures) >= {("bug", "a bug"), ("refused", "refused")}
    hang.set()
    queue.stop()
    await running


async def test_stop_lets_the_passes_under_way_finish_and_begins_no_more() -> None:
    watcher, begun, finished = Watcher(), asyncio.Event(), list[str]()

    async def process(key: str) -> float:
        begun.set()
        await asyncio.sleep(0.05)
        finished.append(key)
        return 0.0

    queue: WorkQueue[str] = WorkQueue(process, observer=watcher, on_failure=watcher.failed, concurrency=1)
    running = asyncio.create_task(queue.run())
    queue.add("a")
    queue.add("b")
    await begun.wait()
    queue.stop()
    async with asyncio.timeout(5):
        await running
    assert finished == ["a"]


async def test_no_key_runs_twice_at_once_under_a_storm_of_events() -> None:
    watcher, running_now, most, passes = Watcher(), defaultdict[str, int](int), 0, 0

    async def process(key: str) -> None:
        nonlocal most, passes
        running_now[key] += 1
        passes += 1
        most = max(most, *running_now.values())
        await asyncio.sleep(0.001)
        running_now[key] -= 1

    queue: WorkQueue[str] = WorkQueue(process, observer=watcher, on_failure=watcher.failed)
    running = asyncio.create_task(queue.run())
    for _ in range(50):
        for key in "abcdef":
            queue.add(key)
        await asyncio.sleep(0)
    queue.stop()
    await running
    assert most == 1
    assert 6 <= passes <= 60


async def test_a_key_is_looked_at_again_after_the_time_it_asked_for() -> None:
    watcher, times = Watcher(), list[float]()
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    async def process(key: str) -> float | None:
        del key
        times.append(loop.time())
        if len(times) == 3:
            done.set()
            return None
        return 0.05

    queue: WorkQueue[str] = WorkQueue(process, observer=watcher, on_failure=watcher.failed)
    running = asyncio.create_task(queue.run())
    queue.add("a")
    async with asyncio.timeout(5):
        await done.wait()
    queue.stop()
    await running
    assert [after - before >= 0.049 for before, after in itertools.pairwise(times)] == [True, True]


@pytest.mark.parametrize("failures", [1, 10])
def test_jitter_spreads_those_that_failed_together(failures: int) -> None:
    backoff = Backoff()
    delays = {round(backoff.seconds(failures, chance / 100), 6) for chance in range(100)}
    assert len(delays) == 100
