"""Arrivals from rates and from recorded traces: tables, and the extract that the repository holds."""

import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.load.arrivals import (
    RECORDED,
    SCALE,
    Arrival,
    Rate,
    Scale,
    paced,
    ramp,
    read,
    read_mooncake,
    scale_down,
    steady,
    write,
)

WHOLE = Scale(
    seconds=math.inf,
    one_in=1,
    time_divisor=1,
    prompt_divisor=1,
    output_divisor=1,
    max_prompt_tokens=10**6,
    max_output_tokens=10**6,
)
TRACE = [Arrival(0, 100, 10), Arrival(0, 200, 20), Arrival(3, 300, 31), Arrival(6, 400, 1), Arrival(9, 5, 0)]


def first(arrivals: Iterable[Arrival], count: int) -> list[float]:
    return [round(one.at, 3) for one in itertools.islice(arrivals, count)]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (steady(2), [0, 0.5, 1, 1.5, 2, 2.5]),
        (ramp((0, 1), (2, 1), (2.5, 2)), [0, 1, 2, 3, 3.5, 4]),
        (ramp((10, 4)), [0, 0.25, 0.5, 0.75, 1, 1.25]),
    ],
)
def test_a_rate_gives_evenly_spaced_arrivals(rate: Rate, expected: list[float]) -> None:
    assert first(paced(rate, prompt_tokens=1, output_tokens=1), 6) == expected


@pytest.mark.parametrize(("at", "expected"), [(-5, 1), (0, 1), (5, 2), (10, 3), (15, 2), (20, 1), (99, 1)], ids=str)
def test_a_ramp_goes_straight_from_point_to_point_and_stays_at_its_last(at: float, expected: float) -> None:
    assert ramp((0, 1), (10, 3), (20, 1))(at) == expected


def test_a_rate_is_asked_when_the_next_arrival_is_wanted() -> None:
    now = [1.0]
    arrivals = paced(lambda _: now[0], prompt_tokens=1, output_tokens=1)
    assert first(arrivals, 2) == [0, 1]
    now[0] = 10.0
    assert first(arrivals, 2) == [1.1, 1.2]


@pytest.mark.parametrize("points", [(), ((1, 1), (1, 2)), ((2, 1), (1, 2))])
def test_points_out_of_order_are_refused(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="each later than the one before"):
        ramp(*points)


def test_a_rate_of_nothing_is_told_with_its_time() -> None:
    with pytest.raises(ValueError, match="the rate 1 s after the beginning is -1: it must be above 0"):
        first(paced(ramp((0, 1), (1, -1)), prompt_tokens=1, output_tokens=1), 3)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [(0, 100, 10), (0, 200, 20), (3, 300, 31), (6, 400, 1), (9, 5, 1)]),
        ({"seconds": 6}, [(0, 100, 10), (0, 200, 20), (3, 300, 31)]),
        ({"one_in": 2}, [(0, 100, 10), (3, 300, 31), (9, 5, 1)]),
        ({"time_divisor": 3}, [(0, 100, 10), (0, 200, 20), (1, 300, 31), (2, 400, 1), (3, 5, 1)]),
        ({"prompt_divisor": 30}, [(0, 4, 10), (0, 7, 20), (3, 10, 31), (6, 14, 1), (9, 1, 1)]),
        ({"output_divisor": 10}, [(0, 100, 1), (0, 200, 2), (3, 300, 4), (6, 400, 1), (9, 5, 1)]),
        ({"max_prompt_tokens": 150}, [(0, 100, 10), (0, 150, 20), (3, 150, 31), (6, 150, 1), (9, 5, 1)]),
        ({"max_output_tokens": 15}, [(0, 100, 10), (0, 200, 15), (3, 300, 15), (6, 400, 1), (9, 5, 1)]),
    ],
    ids=str,
)
def test_a_trace_is_thinned_compressed_and_capped(
    change: dict[str, float], expected: list[tuple[float, int, int]]
) -> None:
    scale = Scale(**{**{name: getattr(WHOLE, name) for name in Scale.__slots__}, **change})
    assert scale_down(TRACE, scale) == [Arrival(*one) for one in expected]


def test_the_trace_of_mooncakes_authors_is_read_as_they_wrote_it() -> None:
    line = json.dumps({"timestamp": 3000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]})
    assert list(read_mooncake([line])) == [Arrival(3.0, 6758, 500)]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    wanted = [Arrival(0, 1, 2), Arrival(359.4, 480, 181)]
    path.write_text(write(wanted, origin=["from nowhere"]))
    assert read(path) == wanted
    assert path.read_text().startswith("# from nowhere\nseconds,prompt_tokens,output_tokens\n0,1,2\n")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["1,2,many"], "'1,2,many' is not seconds,prompt_tokens,output_tokens"),
        (["1,2"], "is not seconds,prompt_tokens,output_tokens"),
        (["1,2,3", "0,2,3"], "not in the order of time: sort it by its first column"),
    ],
)
def test_a_file_that_holds_no_arrivals_is_told(tmp_path: Path, rows: list[str], told: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["seconds,prompt_tokens,output_tokens", *rows]))
    with pytest.raises(ValueError, match=told):
        read(path)


def test_the_recorded_trace_is_half_an_hour_in_six_minutes() -> None:
    found = read()
    assert len(found) == 2860
    assert 355 < found[-1].at < SCALE.seconds / SCALE.time_divisor == 360
    assert max(one.prompt_tokens for one in found) == SCALE.max_prompt_tokens
    assert max(one.output_tokens for one in found) <= SCALE.max_output_tokens
    assert RECORDED.stat().st_size < 50_000
    origin = RECORDED.read_text().split("seconds,")[0]
    assert "Mooncake" in origin
    assert "Apache License 2.0" in origin
