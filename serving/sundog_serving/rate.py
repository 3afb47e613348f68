"""How often something happens now, without remembering each time it did."""

import math
from dataclasses import dataclass
from typing import Final

WINDOW_SECONDS: Final = 10.0


@dataclass(slots=True)
class Rate:
    """Events per second, each weighted by its age: what is ten seconds old counts a third. The clock is the caller's.

    Whoever reads it changes nothing, so any number of readers may ask, however often.
    """

    _value: float = 0.0
    _at: float = 0.0

    def add(self, count: float, *, now: float) -> None:
        """Count events that happen at this moment (seconds of a monotonic clock)."""
        self._value = self.at(now) + count / WINDOW_SECONDS
        self._at = now

    def at(self, now: float) -> float:
        """Give the rate at a moment, which is not before the last event."""
        return self._value * math.exp((self._at - now) / WINDOW_SECONDS)
