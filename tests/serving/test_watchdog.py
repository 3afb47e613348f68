"""Busy or wedged: the watchdog's only question."""

from dataclasses import replace

from sundog_serving.engine import Load
from sundog_serving.watchdog import Watchdog

IDLE = Load(
    running=0,
    waiting=0,
    kv_cache_utilization=0,
    prompt_tokens_total=0,
    generation_tokens_total=0,
    generation_tokens_per_second=0,
    steps_total=0,
)


def test_an_idle_engine_is_never_wedged() -> None:
    watchdog = Watchdog(20)
    assert [watchdog.stalled_for(IDLE, now=now) for now in (0, 100, 1000)] == [None] * 3


def test_an_engine_that_makes_steps_is_busy_however_long_a_request_takes() -> None:
    watchdog = Watchdog(20)
    for second in range(0, 1000, 10):
        assert watchdog.stalled_for(replace(IDLE, running=1, steps_total=second), now=second) is None


def test_requests_without_a_step_for_too_long_are_a_stall() -> None:
    watchdog = Watchdog(20)
    busy = replace(IDLE, running=1, steps_total=7)
    assert watchdog.stalled_for(busy, now=0) is None
    assert watchdog.stalled_for(busy, now=20) is None
    assert watchdog.stalled_for(busy, now=21) == 21


def test_requests_that_only_wait_without_a_step_are_a_stall_too() -> None:
    watchdog = Watchdog(20)
    waiting = replace(IDLE, waiting=3, steps_total=7)
    watchdog.stalled_for(waiting, now=0)
    assert watchdog.stalled_for(waiting, now=30) == 30


def test_the_clock_starts_with_the_first_request_not_with_the_last_step() -> None:
    watchdog = Watchdog(20)
    watchdog.stalled_for(replace(IDLE, steps_total=7), now=0)
    watchdog.stalled_for(replace(IDLE, steps_total=7), now=500)
    busy = replace(IDLE, running=1, steps_total=7)
    assert watchdog.stalled_for(busy, now=505) is None
    assert watchdog.stalled_for(busy, now=521) == 21


def test_a_step_ends_a_stall() -> None:
    watchdog = Watchdog(20)
    watchdog.stalled_for(replace(IDLE, running=1, steps_total=7), now=0)
    assert watchdog.stalled_for(replace(IDLE, running=1, steps_total=8), now=40) is None
