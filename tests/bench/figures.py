"""Arithmetic on what was measured: values in, values out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

HOUR: float = 3600.0


def percentile(samples: Sequence[float], percent: float) -> float:
    """Give the smallest sample that so many percent of all samples do not exceed (nearest rank: nothing is invented).

    Raises:
        ValueError: there is no sample, or `percent` is not in (0, 100].
    """
    if not samples:
        raise ValueError("no percentile of no samples")
    if not 0 < percent <= 100:
        raise ValueError(f"{percent} is no percentage: it must be above 0 and at most 100")
    return sorted(samples)[math.ceil(percent / 100 * len(samples)) - 1]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Samples in short."""

    count: int
    p50: float
    p99: float
    longest: float


def distribution(samples: Sequence[float]) -> Distribution:
    """Describe samples.

    Raises:
        ValueError: there is none.
    """
    return Distribution(len(samples), percentile(samples, 50), percentile(samples, 99), max(samples))


def per_hour(count: float, *, seconds: float) -> float:
    """Give the rate of something that happened so often in so many seconds."""
    return count / seconds * HOUR


@dataclass(frozen=True, slots=True)
class Counters:
    """What a program tells in Prometheus' text format, of the metrics that were asked for."""

    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]
    """By name and labels."""

    def total(self, name: str, **labels: str) -> float:
        """Sum all series of a metric that have these labels; 0 where there is none."""
        wanted = labels.items()
        return sum(value for (metric, found), value in self.values.items() if metric == name and wanted <= found)

    def by(self, name: str, *labels: str) -> dict[str, float]:
        """Sum the series of a metric by some of its labels; sums of 0 are left out.

        Returns:
            The sums by the labels' values with spaces between; empty values are left out.
        """
        sums: dict[str, float] = {}
        for (metric, found), value in self.values.items():
            if metric == name:
                told = dict(found)
                key = " ".join(filter(None, (told.get(label) for label in labels)))
                sums[key] = sums.get(key, 0.0) + value
        return {key: value for key, value in sums.items() if value}

    def since(self, before: Counters) -> Counters:
        """Give what was added; a series that was not there before began at 0."""
        return Counters({key: value - before.values.get(key, 0.0) for key, value in self.values.items()})


def counters(text: str, *names: str) -> Counters:
    """Read the metrics whose names begin so; an API server tells megabytes, and only their lines are parsed."""
    lines = [line for line in text.splitlines() if line.startswith(names)]
    values = {}
    for family in text_string_to_metric_families("\n".join([*lines, ""])):
        for sample in family.samples:
            values[sample.name, frozenset(sample.labels.items())] = float(sample.value)
    return Counters(values)
