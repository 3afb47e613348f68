"""Boards and rules in a real Prometheus: nothing that is shown stays empty."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.chart.rendering import CHART
from tests.observability.prometheus import RULES, Prometheus, running, scrapes
from tests.observability.served import NAME, NAMESPACE, operator, recordings

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))
VARIABLES = {"$namespace": NAMESPACE, "$name": NAME, "$__range": "5m", "$__rate_interval": "1m"}
METRIC = re.compile(r"\b(?:sundog[_:]|haproxy_|ray_)[a-z0-9_:]+")


def queries(board: Path) -> Iterator[tuple[str, str]]:
    """Every query of a board's panels and variables, with its title."""
    document = json.loads(board.read_text())
    for panel in document["panels"]:
        for target in panel.get("targets", ()):
            yield f"{board.stem}: {panel['title']} {target['refId']}", target["expr"]


def chosen(expression: str) -> str:
    """Put in what somebody chose on the board."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


QUERIES = [query for board in BOARDS for query in queries(board)]
RULES_BY_NAME: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prometheus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    async with recordings() as ports, operator() as port:
        made = scrapes({**ports, "operator": port}, namespace=NAMESPACE, name=NAME)
        async with running(tmp_path_factory.mktemp("prometheus"), made) as found:
            yield found


@pytest.mark.parametrize("expression", [pytest.param(text, id=title) for title, text in QUERIES])
async def test_every_query_of_every_panel_returns_data(prometheus: Prometheus, expression: str) -> None:
    found = await prometheus.query(chosen(expression))
    assert found, expression
    assert [each for each in found if each["value"][1] != "NaN"], expression


@pytest.mark.parametrize("record", sorted({rule["record"] for rule in RULES_BY_NAME if "record" in rule}))
async def test_every_recording_rule_returns_data_with_the_labels_of_an_llmdeployment(
    prometheus: Prometheus, record: str
) -> None:
    found = await prometheus.query(record)
    assert found
    for each in found:
        assert (each["metric"]["namespace"], each["metric"]["name"]) == (NAMESPACE, NAME)


async def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    groups = (await prometheus.get("rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(RULES_BY_NAME)
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


@pytest.mark.parametrize("alert", [pytest.param(r, id=r["alert"]) for r in RULES_BY_NAME if "alert" in r])
async def test_everything_that_an_alert_rests_on_has_data(prometheus: Prometheus, alert: dict[str, Any]) -> None:
    for metric in sorted(set(METRIC.findall(alert["expr"]))):
        assert await prometheus.query(metric), metric


async def test_the_variables_of_the_boards_find_the_llmdeployment(prometheus: Prometheus) -> None:
    for board in BOARDS:
        for variable in json.loads(board.read_text())["templating"]["list"]:
            if variable["type"] != "query":
                continue
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked, variable["query"]
            found = await prometheus.query(f"count by ({asked[2]}) ({chosen(asked[1])})")
            assert [each["metric"][asked[2]] for each in found] == [VARIABLES[f"${variable['name']}"]]


async def test_the_objective_is_counted_at_the_bound_above_it(prometheus: Prometheus) -> None:
    """400 ms is promised, the histogram has 0.25 and 0.5: what took 0.5 s at most has kept it."""
    where = f'component="worker", namespace="{NAMESPACE}", name="{NAME}"'
    good = await prometheus.query(f'ray_vllm_time_to_first_token_seconds_bucket{{{where}, le="0.5"}}')
    everything = await prometheus.query(f"ray_vllm_time_to_first_token_seconds_count{{{where}}}")
    missed = await prometheus.query('sundog:slo_missed:ratio5m{objective="time_to_first_token"}')
    expected = 1 - float(good[0]["value"][1]) / float(everything[0]["value"][1])
    assert float(missed[0]["value"][1]) == pytest.approx(expected, abs=0.02)
