"""What is calculated from what was measured."""

from __future__ import annotations

import pytest

from tests.bench.figures import counters, distribution, per_hour, percentile

TOLD = """\
# HELP passes_total Passes.
# TYPE passes_total counter
passes_total{result="changed",zone="a"} 3
passes_total{result="changed",zone="b"} 4
passes_total{result="failed",zone=""} 1
# TYPE other_total counter
other_total 100
"""


def test_a_percentile_is_always_a_sample() -> None:
    samples = [float(number) for number in range(1, 101)]
    assert percentile(samples, 50) == 50
    assert percentile(samples, 99) == 99
    assert percentile(samples, 100) == 100
    assert percentile(samples, 0.1) == 1


def test_the_99th_percentile_of_few_samples_is_the_longest() -> None:
    assert percentile([3.0, 1.0, 2.0], 99) == 3


def test_samples_need_no_order() -> None:
    found = distribution([0.3, 0.1, 0.2])
    assert (found.count, found.p50, found.p99, found.longest) == (3, 0.2, 0.3, 0.3)


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_what_is_no_percentage_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="is no percentage"):
        percentile([1.0], percent)


def test_no_samples_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        distribution([])


def test_a_rate_per_hour_does_not_depend_on_how_long_was_watched() -> None:
    assert per_hour(12, seconds=60) == per_hour(24, seconds=120) == 720


def test_only_the_metrics_that_were_asked_for_are_read() -> None:
    found = counters(TOLD, "passes_total")
    assert found.total("passes_total") == 8
    assert found.total("other_total") == 0


def test_series_are_summed_over_the_labels_that_were_not_asked_for() -> None:
    found = counters(TOLD, "passes_total")
    assert found.total("passes_total", result="changed") == 7
    assert found.total("passes_total", result="changed", zone="b") == 4
    assert found.by("passes_total", "result") == {"changed": 7, "failed": 1}
    assert found.by("passes_total", "result", "zone") == {"changed a": 3, "changed b": 4, "failed": 1}


def test_what_was_added_counts_from_zero_for_a_series_that_is_new() -> None:
    before = counters('passes_total{result="changed",zone="a"} 2\n', "passes_total")
    added = counters(TOLD, "passes_total").since(before)
    assert added.total("passes_total", result="changed", zone="a") == 1
    assert added.total("passes_total", result="failed") == 1


def test_a_metric_that_was_not_told_is_nothing() -> None:
    assert counters("", "passes_total").total("passes_total") == 0
