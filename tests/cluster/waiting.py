"""Waiting for a condition, with a deadline: the only place that sleeps."""

import time
from collections.abc import Callable

# Short beside everything that is waited for here, long beside the cost of asking.
POLL_SECONDS = 0.1


def until(condition: Callable[[], bool], *, seconds: float, poll: float = POLL_SECONDS) -> bool:
    """Ask until the condition holds or the time is over, and tell which it was."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll)
    return True
