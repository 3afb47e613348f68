"""How many tokens per second, whoever asks and however often."""

import pytest

from sundog_serving.rate import Rate


def test_a_steady_rate_is_told_as_it_is() -> None:
    rate = Rate()
    for tick in range(1000):
        rate.add(5, now=tick / 10)
    assert rate.at(100) == pytest.approx(50, rel=0.02)


def test_it_fades_when_nothing_happens_any_more() -> None:
    rate = Rate()
    rate.add(100, now=0)
    assert rate.at(0) == 10
    assert rate.at(10) == pytest.approx(3.68, abs=0.01)
    assert rate.at(120) < 0.001


def test_asking_changes_nothing() -> None:
    asked, unasked = Rate(), Rate()
    for tick in range(50):
        asked.add(1, now=tick)
        unasked.add(1, now=tick)
        asked.at(tick + 0.5)
    assert asked.at(50) == unasked.at(50)
