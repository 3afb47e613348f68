"""The rules by themselves: promtool's check, its unit tests, and a runbook for each alert."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.chart.rendering import ROOT, of_kind
from tests.observability.prometheus import RULES, promtool

TESTS = Path(__file__).parent / "alerts.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"


def alerts() -> dict[str, dict[str, str]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule["annotations"] for group in groups for rule in group["rules"] if "alert" in rule}


def test_promtool_finds_nothing_wrong() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", TESTS)


def test_each_alert_is_tested_for_firing_and_for_staying_silent() -> None:
    checks = [check for test in yaml.safe_load(TESTS.read_text())["tests"] for check in test.get("alert_rule_test", ())]
    firing = {check["alertname"] for check in checks if check["exp_alerts"]}
    silent = {check["alertname"] for check in checks if not check["exp_alerts"]}
    assert firing == silent == set(alerts())


def test_each_alert_links_a_runbook_that_is_there_and_each_runbook_has_an_alert() -> None:
    linked = set()
    for name, told in alerts().items():
        file = told["runbook_url"].removeprefix("RUNBOOKS/")
        assert f"`{name}`" in (RUNBOOKS / file).read_text(), name
        linked.add(file)
    assert linked == {path.name for path in RUNBOOKS.glob("*.md")} - {"README.md"}
    listed = set(re.findall(r"\]\((\w+\.md)\)", (RUNBOOKS / "README.md").read_text()))
    assert listed == linked


def test_the_chart_puts_the_runbooks_address_in_and_leaves_prometheus_its_braces() -> None:
    address = "https://wiki.example.com/sundog/"
    (rule,) = of_kind(
        "PrometheusRule",
        "--set=monitoring.prometheusRule.enabled=true",
        f"--set=monitoring.prometheusRule.runbooksURL={address}",
        "--set=monitoring.prometheusRule.labels.release=mine",
    )
    text = RULES.read_text().replace("RUNBOOKS/", address)
    expected = yaml.safe_load(text)
    assert rule["spec"] == expected
    assert rule["metadata"]["labels"]["release"] == "mine"
