"""What counts as lost in a fault, and what of it is as it should be."""

from __future__ import annotations

import dataclasses

import pytest

from tests.faults.report import COLUMNS, Result, as_markdown, count, from_json, to_json, told
from tests.load.outcome import Fault, Record

GOOD = Result("x", "something broke", 30, 100, failed=0, cut=0, unnoticed=0, on_victim=0, seconds=5.0)


def record(fault: Fault | None = None, *, tokens: int = 0) -> Record:
    return Record(0.0, 1, 10, ended=1.0, fault=fault, tokens=tokens, detail="so")


def test_what_began_is_cut_and_what_did_not_has_failed() -> None:
    records = [
        record(),
        record(Fault.CUT, tokens=3),
        record(Fault.FAILED),
        record(Fault.ERROR),
        record(Fault.ERROR, tokens=2),
        record(Fault.REFUSED),
        record(Fault.UNENDED, tokens=4),
    ]
    failed, cut, unnoticed, details = count(records)
    assert (failed, cut, unnoticed) == (3, 3, 1)
    assert "cut: so" in details


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, ""),
        ({"failed": 1}, "1 new requests failed"),
        ({"cut": 1}, "1 were cut, and 0 were on the victim"),
        ({"cut": 12, "on_victim": 10}, ""),
        ({"cut": 14, "on_victim": 10}, "14 were cut, and 10 were on the victim"),
        ({"cut": 2, "unnoticed": 2, "on_victim": 10}, "2 answers broke off and looked complete"),
    ],
)
def test_only_what_the_victim_had_may_be_cut_and_its_clients_must_notice(
    change: dict[str, int], complaint: str
) -> None:
    assert dataclasses.replace(GOOD, **change).complaint == complaint  # type: ignore[arg-type]


def test_a_result_can_be_kept_and_shown() -> None:
    assert from_json(to_json(GOOD)) == GOOD
    head, _, line = as_markdown([GOOD]).splitlines()
    assert head.count("|") == line.count("|") == len(COLUMNS) + 1
    assert line.endswith("| yes |")


def test_what_is_said_again_is_left_out() -> None:
    assert told(["A", "A", "", "B", "A"]) == ("A", "B", "A")
