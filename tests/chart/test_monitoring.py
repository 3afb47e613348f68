"""What the chart brings for Prometheus and Grafana, where it is asked for."""

from __future__ import annotations

import json

import pytest

from tests.chart.rendering import CHART, NAMESPACE, helm, manifests, of_kind
from tests.unit.core.world import World, resource

BOARDS = {path.name: path.read_text() for path in (CHART / "files" / "dashboards").glob("*.json")}
PARTS = {"podMonitor": "PodMonitor", "prometheusRule": "PrometheusRule", "dashboards": "ConfigMap"}


def test_nothing_of_it_is_rendered_unless_asked_for() -> None:
    assert {manifest["kind"] for manifest in manifests()} & set(PARTS.values()) == set()


@pytest.mark.parametrize("part", PARTS)
def test_each_part_comes_alone_and_with_the_labels_that_were_asked_for(part: str) -> None:
    options = (f"--set=monitoring.{part}.enabled=true", f"--set=monitoring.{part}.labels.release=mine")
    made = [manifest for manifest in manifests(*options) if manifest["kind"] in PARTS.values()]
    assert {manifest["kind"] for manifest in made} == {PARTS[part]}
    for manifest in made:
        assert manifest["metadata"]["labels"]["release"] == "mine"
        assert manifest["metadata"]["namespace"] == NAMESPACE


def test_grafanas_sidecar_finds_the_boards_as_they_are_in_git() -> None:
    made = of_kind("ConfigMap", "--set=monitoring.dashboards.enabled=true")
    assert all(manifest["metadata"]["labels"]["grafana_dashboard"] == "1" for manifest in made)
    found = {name: json.loads(text) for manifest in made for name, text in manifest["data"].items()}
    assert found == {name: json.loads(text) for name, text in BOARDS.items()}
    assert len({board["uid"] for board in found.values()}) == len(found) == 2


@pytest.mark.parametrize("board", BOARDS)
def test_the_panels_of_a_board_stand_side_by_side(board: str) -> None:
    panels = json.loads(BOARDS[board])["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_pods_are_looked_for_where_the_operator_serves() -> None:
    asked = "--set=monitoring.podMonitor.enabled=true"
    assert of_kind("PodMonitor", asked)[1]["spec"]["namespaceSelector"] == {"any": True}
    narrow = of_kind(
        "PodMonitor", asked, "--set=watchNamespaces={team-a,team-b}", "--set=monitoring.podMonitor.interval=15s"
    )
    assert narrow[1]["spec"]["namespaceSelector"] == {"matchNames": ["team-a", "team-b"]}
    endpoints = [endpoint for monitor in narrow for endpoint in monitor["spec"]["podMetricsEndpoints"]]
    assert [(each["port"], each["path"], each["interval"]) for each in endpoints] == [
        ("http", "/metrics", "15s"),
        ("http", "/metrics/loads", "15s"),
        ("metrics", "/metrics", "15s"),
    ]


def test_the_pods_have_the_ports_and_labels_by_which_they_are_looked_for() -> None:
    world = World(resource())
    world.converge()
    monitor = of_kind("PodMonitor", "--set=monitoring.podMonitor.enabled=true")[1]["spec"]
    templates = [child["spec"]["template"] for child in world.children.values() if child["kind"] == "Deployment"]
    assert len(templates) == 3
    for template in templates:
        labels = template["metadata"]["labels"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        assert {"sundog.dev/llmdeployment", "sundog.dev/component"} <= labels.keys()
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert ports["metrics"] == (8404 if labels["sundog.dev/component"] == "router" else 8080)


def test_the_chart_with_all_of_it_passes_lint() -> None:
    helm("lint", "--strict", str(CHART), *(f"--set=monitoring.{part}.enabled=true" for part in PARTS))
