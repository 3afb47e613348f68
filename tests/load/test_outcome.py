"""Gaps, percentiles, attainment: tables."""

from typing import Any

import pytest

from tests.load.outcome import SLO, Fault, Outcome, Percentiles, Record, missing

QUICK = SLO(first_token_seconds=1.0, inter_token_seconds=0.1)


def record(scheduled: float = 0.0, **values: Any) -> Record:
    """A whole request of 11 tokens, of which the first came after 0.5 s and the others every 50 ms."""
    base = {
        "sent": scheduled,
        "first_byte": scheduled + 0.1,
        "first_token": scheduled + 0.5,
        "last_token": scheduled + 1.0,
        "ended": scheduled + 1.0,
        "tokens": 11,
        "status": 200,
    }
    return Record(scheduled, 1, 11, **{**base, **values})


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("tok0 tok1 tok2", 3, ""),
        ("tok0", 1, ""),
        ("", 3, "0 of 3 tokens"),
        ("tok0 tok1", 3, "2 of 3 tokens"),
        ("tok0 tok2", 3, "tok2 where tok1 was due"),
        ("tok0 tok0 tok1", 3, "tok0 where tok1 was due"),
        ("tok1 tok0 tok2", 3, "tok1 where tok0 was due"),
        ("tok0 tok1 tok2 tok3", 3, "4 tokens, 3 were asked for"),
        ("tok0 hello tok2", 3, "hello where tok1 was due"),
    ],
)
def test_a_gap_in_a_numbered_stream_is_found(text: str, tokens: int, expected: str) -> None:
    assert missing(text, tokens) == expected


@pytest.mark.parametrize(
    ("one", "met"),
    [
        (record(), True),
        (record(first_token=1.0, last_token=2.0), True),
        (record(first_token=1.01), False),
        (record(last_token=1.5), True),
        (record(last_token=1.51), False),
        (record(tokens=1, first_token=0.9, last_token=0.9), True),
        (record(fault=Fault.CUT), False),
        (record(fault=Fault.GAP), False),
        (record(ended=None), False),
        (record(status=429, fault=Fault.REFUSED, first_token=None, last_token=None, tokens=0), False),
    ],
)
def test_an_slo_is_met_by_whole_answers_in_time(one: Record, *, met: bool) -> None:
    assert QUICK.met(one) is met


def test_latency_counts_from_when_a_request_was_due_not_from_when_it_was_sent() -> None:
    assert record(scheduled=10.0, sent=10.4).time_to_first_token == 0.5


def test_attainment_counts_what_was_refused_or_lost_against_it() -> None:
    refused = record(fault=Fault.REFUSED)
    assert QUICK.attainment([record(), record(), record(fault=Fault.CUT), refused]) == 0.5
    with pytest.raises(ValueError, match="no attainment of no requests"):
        QUICK.attainment([])


@pytest.mark.parametrize(("since", "until", "expected"), [(0, 2, 1.0), (2, 4, 0.5), (4, 6, 0.0)])
def test_goodput_is_what_met_the_slo_by_the_time_it_was_due(since: float, until: float, expected: float) -> None:
    outcome = Outcome([record(0), record(1), record(2), record(3, fault=Fault.REFUSED)])
    assert outcome.goodput(QUICK, since=since, until=until) == expected


def test_goodput_of_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="no goodput from 3 s until 3 s"):
        Outcome().goodput(QUICK, since=3, until=3)


@pytest.mark.parametrize(
    ("seconds", "expected", "text"),
    [
        ([], None, "None"),
        ([None, None], None, "None"),
        ([2.0], Percentiles(2.0, 2.0, 2.0, 2.0), "2.0 s / 2.0 s / 2.0 s"),
        ([n / 100 for n in range(1, 101)], Percentiles(0.5, 0.9, 0.99, 1.0), "500 ms / 900 ms / 990 ms"),
        ([0.01, None, 0.03, 0.02], Percentiles(0.02, 0.03, 0.03, 0.03), "20 ms / 30 ms / 30 ms"),
    ],
)
def test_percentiles_are_of_what_there_is(seconds: list[float | None], expected: Percentiles | None, text: str) -> None:
    assert Percentiles.of(seconds) == expected
    assert str(Percentiles.of(seconds)) == text


def test_an_outcome_counts_faults_by_kind_and_tells_them_in_words() -> None:
    lost = [record(fault=fault, detail="x") for fault in (Fault.CUT, Fault.CUT, Fault.GAP, Fault.UNENDED)]
    others = [record(fault=fault, detail="y") for fault in (Fault.REFUSED, Fault.FAILED, Fault.ABANDONED)]
    outcome = Outcome([record(), record(), *lost, *others, record(ended=None)])
    assert (outcome.whole, outcome.lost, outcome.under_way) == (2, 4, 1)
    assert outcome.kinds[Fault.CUT] == 2
    assert outcome.faults["cut: x"] == 2
    assert str(outcome).startswith("2 whole, 7 failed or cut {'cut: x': 2, 'gap: x': 1,")
    assert str(Outcome([record()])) == "1 whole, 0 failed or cut"


def test_lateness_tells_what_the_client_kept_waiting() -> None:
    outcome = Outcome([record(0), record(1, sent=1.25), record(2, sent=None)])
    assert outcome.lateness is not None
    assert outcome.lateness.longest == 0.25
