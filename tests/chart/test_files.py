"""What can be said of the chart's files without Helm."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml

from sundog_operator.config import PREFIX, Config
from tests.chart import generated
from tests.chart.generated import RENDERED, stale, table, values
from tests.chart.rendering import CHART, ROOT

DEPLOYMENT = (CHART / "templates" / "deployment.yaml").read_text()

# Left at their defaults: templates and ports are for an operator outside the cluster, the last for its own start.
NOT_SET = {
    "head_url_template",
    "pod_url_template",
    "custom_metrics_service_port",
    "custom_metrics_port",
    "start_seconds",
}


def test_the_chart_carries_the_generated_crd() -> None:
    generated = ROOT / "crds" / "sundog.dev_llmdeployments.yaml"
    assert (CHART / "files" / "llmdeployments.yaml").read_bytes() == generated.read_bytes(), "run: make generate"


def test_the_operator_is_told_every_setting_and_no_other() -> None:
    told = set(re.findall(rf"name: {PREFIX}(\w+)", DEPLOYMENT))
    known = {field.name.upper() for field in dataclasses.fields(Config)}
    assert told <= known
    assert known - told == {name.upper() for name in NOT_SET}


def test_defaults_of_chart_and_operator_agree() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    default = Config()
    assert values["leaseSeconds"] == default.lease_seconds
    assert values["logLevel"] == default.log_level
    assert values["clusterDomain"] == default.cluster_domain
    assert values["workloads"]["imagePullPolicy"] == default.image_pull_policy
    assert f'value: "{default.http_port}"' in DEPLOYMENT


def test_every_value_has_a_schema_and_the_other_way_round() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)


def test_what_is_made_from_the_chart_is_up_to_date() -> None:
    assert stale() == [], "run: make generate"


@pytest.mark.parametrize(
    ("written", "edited"),
    [
        ("restricted", "privileged"),  # in the body
        ("Source: ", "Source: 0"),
        ("itself: ", "itself: 0"),
    ],
)
def test_a_kustomize_base_that_was_edited_is_stale(
    written: str, edited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "sundog.yaml"
    monkeypatch.setattr(generated, "RENDERED", copy)
    text = RENDERED.read_text()
    copy.write_text(text)
    assert stale() == []
    copy.write_text(text.replace(written, edited, 1))
    assert stale() == [copy]


def test_the_readme_has_a_row_with_the_default_of_every_value() -> None:
    rows = table().splitlines()
    assert (
        "| `replicas` | `1` | More than one is a stand-by: one works, and another takes over when it is gone. |" in rows
    )
    assert "| `networkPolicy.apiServerPorts` | `[443, 6443]` |" in table()

    def leaves(values: object, path: str) -> list[str]:
        if not isinstance(values, dict) or not values:
            return [path]
        return [leaf for key, value in values.items() for leaf in leaves(value, f"{path}.{key}".lstrip("."))]

    expected = leaves(yaml.safe_load((CHART / "values.yaml").read_text()), "")
    assert [leaf for leaf in expected if table().count(f"| `{leaf}` |") != 1] == []


def test_every_value_is_explained_where_it_stands_or_by_what_it_belongs_to() -> None:
    rows = list(values((CHART / "values.yaml").read_text()))
    told = [row.path for row in rows if row.words]
    # They stand in one block, under one comment.
    told += ["podLabels", "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName"]
    explained = [row.path for row in rows if any(f"{row.path}.".startswith(f"{one}.") for one in told)]
    assert [row.path for row in rows] == explained


def closed(schema: object) -> bool:
    if isinstance(schema, dict):
        declared = "properties" in schema and schema.get("type") == "object"
        return (not declared or schema.get("additionalProperties") is False) and all(map(closed, schema.values()))
    return not isinstance(schema, list) or all(map(closed, schema))


def test_the_schema_refuses_unknown_keys_at_every_depth() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    # An environment variable is Kubernetes' business, and its API server refuses unknown fields.
    del schema["properties"]["extraEnv"]
    assert closed(schema)


@pytest.mark.parametrize("template", sorted((CHART / "templates").iterdir()), ids=lambda path: path.name)
def test_no_template_asks_the_cluster_or_draws_lots(template: Path) -> None:
    text = template.read_text()
    # Argo CD and Flux render again and again, without a cluster: what differs would be applied for ever.
    assert not re.search(r"\b(lookup|rand\w+|gen[A-Z]\w+|uuidv4|now|date)\b", "".join(re.findall(r"{{.*?}}", text)))
