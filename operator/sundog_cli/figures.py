"""Figures of a load, and a plot of them for a terminal: values in, values out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

PERCENTS: Final = (50, 90, 99)
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_ROWS: Final = 6


@dataclass(slots=True)
class Answered:
    """What became of one request. Times are seconds since the load began."""

    due: float
    """When it was to be sent. Latency counts from here: a client that is late must not hide a server that is."""
    first_token: float | None = None
    ended: float | None = None
    tokens: int = 0
    fault: str = ""
    """Empty where it was answered to its end."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of one latency, in seconds."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a whole load."""

    requests: int
    whole: int
    seconds: float
    tokens_per_second: float
    time_to_first_token: Percentiles | None
    """None: no request came so far; the same for those below."""
    inter_token: Percentiles | None
    total: Percentiles | None
    faults: dict[str, int] = field(default_factory=dict)
    """How often each sentence was the answer."""

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)


def figures(answered: Sequence[Answered]) -> Figures:
    """Sum up a load. Only requests that were answered to their end count for the latencies; the others are told."""
    whole = [each for each in answered if not each.fault]
    ends = [each.ended for each in answered if each.ended is not None]
    seconds = max(ends, default=0.0) - min((each.due for each in answered), default=0.0)
    faults: dict[str, int] = {}
    for each in answered:
        if each.fault:
            faults[each.fault] = faults.get(each.fault, 0) + 1
    return Figures(
        requests=len(answered),
        whole=len(whole),
        seconds=seconds,
        tokens_per_second=sum(each.tokens for each in answered) / seconds if seconds > 0 else 0.0,
        time_to_first_token=_percentiles(
            [each.first_token - each.due for each in whole if each.first_token is not None]
        ),
        inter_token=_percentiles([pause for each in whole if (pause := _inter_token(each)) is not None]),
        total=_percentiles([each.ended - each.due for each in whole if each.ended is not None]),
        faults=faults,
    )


def _inter_token(each: Answered) -> float | None:
    if each.first_token is None or each.ended is None or each.tokens < 2:
        return None
    return (each.ended - each.first_token) / (each.tokens - 1)


def _percentiles(values: Sequence[float]) -> Percentiles | None:
    return Percentiles(*(percentile(values, percent) for percent in PERCENTS)) if values else None


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the nearest-rank percentile: a value that was measured, none in between."""
    ordered = sorted(values)
    return ordered[max(math.ceil(percent / 100 * len(ordered)), 1) - 1]


def plot(answered: Sequence[Answered], *, columns: int = 60) -> str:
    """Draw the time to the first token over the time at which a request was due: per column the slowest one."""
    points = [
        (each.due, each.first_token - each.due) for each in answered if each.first_token is not None and not each.fault
    ]
    if not points:
        return ""
    longest = max(due for due, _ in points) or 1.0
    slowest = [0.0] * columns
    for due, latency in points:
        column = min(int(due / longest * columns), columns - 1)
        slowest[column] = max(slowest[column], latency)
    top = max(slowest)
    lines = []
    for row in range(_ROWS, 0, -1):
        cells = (_cell(value / top * _ROWS - (row - 1)) if top else " " for value in slowest)
        lines.append(f"{top * row / _ROWS:8.3f} s ┤{''.join(cells)}")
    lines.append(f"{'':11}└{'─' * columns}")
    lines.append(f"{'':12}0{f'{longest:.0f} s':>{columns - 1}}")
    return "time to first token, slowest of each moment\n" + "\n".join(lines)


def _cell(height: float) -> str:
    return _EIGHTHS[round(min(max(height, 0.0), 1.0) * 8)]
