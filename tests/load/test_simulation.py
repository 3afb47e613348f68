"""The HPA's arithmetic and the simulated engine: tables."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.load.arrivals import Arrival
from tests.load.outcome import Record
from tests.load.samples import replica_hours
from tests.load.simulation import HPA, Engine, simulate

ENGINE = Engine(tokens_per_second=10, total_tokens_per_second=320, most_requests=64)


def behavior(
    *, up: tuple[int, ...] = (), down: tuple[int, ...] = (), up_window: int = 0, down_window: int = 0
) -> dict[str, Any]:
    """Percent per 60 s each way; without a limit any number."""
    return {
        "scaleUp": {"stabilizationWindowSeconds": up_window, "policies": _policies(up or (10_000,))},
        "scaleDown": {"stabilizationWindowSeconds": down_window, "policies": _policies(down or (100,))},
    }


def _policies(percents: tuple[int, ...]) -> list[dict[str, Any]]:
    return [{"type": "Percent", "value": percent, "periodSeconds": 60} for percent in percents]


ONE_BY_ONE = {
    **behavior(),
    "scaleDown": {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
    },
}


@pytest.mark.parametrize(
    ("rules", "looks", "expected"),
    [
        (behavior(), [(0, 90)], [3]),
        (behavior(), [(0, 35)], [1]),  # a tenth more is left alone
        (behavior(), [(0, 36)], [2]),
        (behavior(), [(0, 1000)], [8]),
        (behavior(), [(0, 256), (5, 0)], [8, 1]),
        (behavior(up=(100,)), [(0, 256), (5, 256), (55, 256), (60, 256), (120, 256)], [2, 2, 2, 4, 8]),
        (behavior(up=(100, 300)), [(0, 256)], [4]),  # the policy that lets more
        (behavior(up_window=30), [(0, 32), (15, 256), (31, 256), (46, 256)], [1, 1, 8, 8]),
        (behavior(down_window=30), [(0, 256), (5, 32), (29, 32), (31, 64), (61, 32), (62, 32)], [8, 8, 8, 2, 2, 1]),
        (behavior(down=(50,)), [(0, 256), (60, 0), (90, 0), (120, 0)], [8, 4, 4, 2]),
        (ONE_BY_ONE, [(0, 128), (120, 0), (125, 0), (240, 0), (360, 0), (480, 0)], [4, 3, 3, 2, 1, 1]),
    ],
)
def test_the_hpas_arithmetic(rules: Mapping[str, Any], looks: list[tuple[float, float]], expected: list[int]) -> None:
    hpa = HPA(target=32, least=1, most=8, behavior=rules)
    replicas, found = 1, []
    for now, value in looks:
        replicas = hpa.decide(now, replicas=replicas, value=value)
        found.append(replicas)
    assert found == expected


def arrive(*counts: tuple[float, int], tokens: int = 50) -> list[Arrival]:
    return [Arrival(at, 1, tokens) for at, count in counts for _ in range(count)]


def between(records: list[Record]) -> list[float]:
    return [round(record.inter_token or 0, 2) for record in records]


@pytest.mark.parametrize(("streams", "seconds_per_token"), [(1, 0.1), (32, 0.1), (48, 0.15), (64, 0.2)], ids=str)
def test_streams_share_a_replica_as_they_share_the_fake_engine(streams: int, seconds_per_token: float) -> None:
    run = simulate("", arrive((0.0, streams)), ENGINE, 1)
    assert between(run.outcome.records) == [pytest.approx(seconds_per_token, abs=0.005)] * streams
    assert run.outcome.whole == streams


def test_what_a_replica_cannot_take_waits() -> None:
    records = simulate("", arrive((0.0, 65)), ENGINE, 1).outcome.records
    assert [round(record.time_to_first_token or 0) for record in records] == [0] * 64 + [10]


def test_requests_go_to_the_replica_with_the_fewest() -> None:
    assert between(simulate("", arrive((0.0, 64)), ENGINE, 2).outcome.records) == [0.1] * 64


def test_replicas_start_late_drain_first_and_count_as_long_as_they_are_there() -> None:
    hpa = HPA(target=32, least=1, most=2, behavior=behavior())
    load = arrive(*((second * 1.0, 10) for second in range(60)), *((60.0 + second, 1) for second in range(30)))
    run = simulate("", load, ENGINE, hpa, start_seconds=9)
    grew = next(one.at for one in run.samples if one.asked == 2)
    assert next(one.at for one in run.samples if one.ready == 2) == pytest.approx(grew + 9, abs=1.0)
    shrunk = next(one.at for one in run.samples if one.asked == 1 and one.at > grew)
    gone = next(one.at for one in run.samples if one.replicas == 1 and one.at > grew)
    assert 60 < shrunk < gone  # its streams end first
    assert replica_hours(run.samples, until=run.seconds) * 3600 == pytest.approx(run.seconds + gone - grew, abs=2.0)
    assert run.outcome.whole == len(load)
