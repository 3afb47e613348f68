"""When questions are asked, and what is calculated from the answers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.bench.metrics_api import moments, questions


def test_each_is_asked_about_once_a_period_at_the_same_moment_of_it() -> None:
    found = moments(200, period=15, periods=4)
    assert len(found) == 800
    for number in range(200):
        own = [moment.seconds for moment in found if moment.number == number]
        assert 0 <= own[0] < 15
        assert [later - earlier for earlier, later in pairwise(own)] == pytest.approx([15, 15, 15])


def test_questions_come_in_order_and_all_over_the_period() -> None:
    seconds = [moment.seconds for moment in moments(200, period=15, periods=1)]
    assert seconds == sorted(seconds)
    assert max(later - earlier for earlier, later in pairwise([0.0, *seconds, 15.0])) < 1


def test_two_runs_ask_at_the_same_moments() -> None:
    assert moments(10, period=15, periods=2) == moments(10, period=15, periods=2)


def test_costs_are_those_of_one_question() -> None:
    found = questions([0.01, 0.03, 0.02, 0.02], seconds=2, cpu_seconds=0.02, pod_requests=20)
    assert found.per_second == 2
    assert found.cpu_milliseconds_each == pytest.approx(5)
    assert found.pod_requests_each == 5
    assert (found.latency.p50, found.latency.p99) == (0.02, 0.03)


def test_no_questions_cost_nothing_that_could_be_told() -> None:
    with pytest.raises(ValueError, match="no samples"):
        questions([], seconds=2, cpu_seconds=0.02, pod_requests=0)
