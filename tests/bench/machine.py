"""Which machine it was, and how much it had to do for others meanwhile."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran."""

    processor: str
    processors: int
    memory_gibibytes: float
    kernel: str
    python: str


def machine() -> Machine:
    """Describe this machine."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        processor=models[0].partition(":")[2].strip() if models else platform.machine(),
        processors=len(os.sched_getaffinity(0)),
        memory_gibibytes=memory / 2**30,
        kernel=platform.release(),
        python=platform.python_version(),
    )


def cpu_seconds(process: int) -> float:
    """Give the processor time that a process has used, all its threads, to the nanosecond.

    Raises:
        OSError: there is no such process.
    """
    # The clock of another process as clock_getcpuclockid(3) numbers it; 2 is CPUCLOCK_SCHED.
    return time.clock_gettime_ns((~process << 3) | 2) / 1e9


class Others:
    """How many processors the rest of the machine used meanwhile: a disturbed measurement shows here."""

    def __init__(self, own: Collection[int]) -> None:
        """Begin; `own` are the processes that belong to the measurement."""
        self._own = own
        self._started, self._busy, self._mine = time.monotonic(), _busy_seconds(), self._own_seconds()

    def processors(self) -> float:
        """Give them on average since the beginning."""
        others = _busy_seconds() - self._busy - (self._own_seconds() - self._mine)
        return max(0.0, others / (time.monotonic() - self._started))

    def _own_seconds(self) -> float:
        return sum(cpu_seconds(process) for process in self._own)


def _busy_seconds() -> float:
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(
        int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
