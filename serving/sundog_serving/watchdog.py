"""Tells a wedged engine from a busy one.

An engine can be alive and answer health checks while its requests get no token any more (a hung collective, a
deadlocked scheduler). What shows it: requests are in flight, and the engine makes no step.
"""

from dataclasses import dataclass

from sundog_serving.engine import Load


@dataclass(slots=True)
class Watchdog:
    """Remembers when progress was last seen; the clock is the caller's."""

    stall_seconds: float
    _steps: int = -1
    _since: float = 0.0

    def stalled_for(self, load: Load, *, now: float) -> float | None:
        """Return for how many seconds requests have been in flight without progress, once that is too long; else None.

        Args:
            load: The engine's load at this moment.
            now: Seconds of a monotonic clock.
        """
        idle = load.running + load.waiting == 0
        if idle or load.steps_total != self._steps:
            self._steps = load.steps_total
            self._since = now
        stalled = now - self._since
        return stalled if stalled > self.stall_seconds else None
