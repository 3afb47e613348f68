"""What a cluster said, as samples: tables."""

from typing import Any

import pytest

from tests.load.outcome import Fault, Outcome, Percentiles
from tests.load.samples import Run, Sample, over_time, replica_hours, sample
from tests.load.test_outcome import record

UP = {
    "time": "2026-11-22T10:00:05Z",
    "from": 1,
    "to": 2,
    "who": "HorizontalPodAutoscaler",
    "metric": "ongoing_requests",
    "value": "14",
    "target": "8",
}
DOWN = {**UP, "from": 2, "to": 1, "value": "3", "victims": ["fake-1-worker-x"]}
WENT_UP = "replicas 1 → 2 by HorizontalPodAutoscaler: ongoing_requests is 14 for each replica, and should be 8"
WENT_DOWN = "replicas 2 → 1 by HorizontalPodAutoscaler: ongoing_requests is 3 for each replica, and should be 8"


@pytest.mark.parametrize(
    ("resource", "load", "expected"),
    [
        ({}, {}, Sample(3.0)),
        ({"spec": {}}, {}, Sample(3.0, replicas=0, ready=0)),
        (
            {"spec": {"replicas": 2}, "status": {"replicas": 2, "readyReplicas": 1}},
            {"ongoing_requests": 14.0, "waiting_requests": 2.0, "tokens_per_second": 100.0},
            Sample(3.0, asked=2, replicas=2, ready=1, ongoing=14.0, waiting=2.0),
        ),
        (
            {"spec": {"replicas": 1}, "status": {"replicas": 2, "readyReplicas": 2, "scaling": [UP, DOWN]}},
            {},
            Sample(3.0, asked=1, replicas=2, ready=2, decision=WENT_DOWN),
        ),
    ],
)
def test_a_sample_holds_what_was_told_and_nothing_else(
    resource: dict[str, Any], load: dict[str, float], expected: Sample
) -> None:
    assert sample(3.0, resource, load) == expected


@pytest.mark.parametrize(
    ("replicas", "until", "expected"),
    [
        ([(0, 1)], 3600, 1.0),
        ([(0, 1), (1800, 3)], 3600, 2.0),
        ([(10, 2)], 3600, 2.0),  # the first sample tells also what was before it
        ([(0, 1), (1800, None), (2700, 5)], 3600, 0.75 + 1.25),
        ([(0, 1), (1800, 3), (4000, 9)], 3600, 2.0),
        ([(0, 0), (1800, 2), (2700, 0)], 3600, 0.5),
    ],
)
def test_replica_hours_are_the_time_that_replicas_are_there(
    replicas: list[tuple[float, int | None]], until: float, expected: float
) -> None:
    samples = [Sample(at, replicas=count) for at, count in replicas]
    assert replica_hours(samples, until=until) == pytest.approx(expected)


def test_replica_hours_of_nothing_known_are_an_error() -> None:
    with pytest.raises(ValueError, match="nobody told how many replicas there were"):
        replica_hours([Sample(1.0)], until=3600)


def test_latency_over_time_is_by_when_requests_were_due() -> None:
    records = [record(11, first_token=13), record(1), record(2, first_token=4), record(7, first_token=None)]
    found = over_time(records, lambda one: one.time_to_first_token, every=5)
    assert found == [(2.5, Percentiles(0.5, 2.0, 2.0, 2.0)), (12.5, Percentiles(2.0, 2.0, 2.0, 2.0))]


def test_a_run_is_read_as_it_was_written() -> None:
    run = Run("ours", 7.0, [sample(1.0, {"spec": {}, "status": {"scaling": [UP]}}, {})], Outcome([record(), record(2)]))
    run.outcome.records[1].fault = Fault.REFUSED
    assert Run.from_json(run.to_json()) == run
