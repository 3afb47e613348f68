"""The example repositories hold together: right kinds, values that the chart takes, models without replicas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sundog_operator.api.types import LLMDeployment
from sundog_operator.config import Config
from sundog_operator.core.resolve import resolve
from tests.chart.rendering import CHART, helm
from tests.gitops.table import ROOT

EXAMPLES = ROOT / "examples" / "gitops"
KINDS = {
    "argocd/argocd-cm.yaml": ["v1/ConfigMap"],
    "argocd/applications.yaml": ["argoproj.io/v1alpha1/Application"] * 2,
    "flux/cluster.yaml": [
        "source.toolkit.fluxcd.io/v1/GitRepository",
        *["kustomize.toolkit.fluxcd.io/v1/Kustomization"] * 2,
    ],
    "flux/operator/sundog.yaml": ["source.toolkit.fluxcd.io/v1/GitRepository", "helm.toolkit.fluxcd.io/v2/HelmRelease"],
    "models/kustomization.yaml": ["kustomize.config.k8s.io/v1beta1/Kustomization"],
    "models/qwen3.yaml": ["sundog.dev/v1alpha1/LLMDeployment"],
}


def read(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / file).read_text()))


def test_every_file_of_the_examples_is_looked_at() -> None:
    assert {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("file", KINDS)
def test_the_examples_have_the_kinds_that_their_tools_know(file: str) -> None:
    found = [f"{each['apiVersion']}/{each['kind']}" for each in read(file)]
    assert found == KINDS[file]


@pytest.mark.parametrize("tool", ["argocd", "flux"])
def test_the_chart_takes_the_values_of_the_examples(tool: str, tmp_path: Path) -> None:
    if tool == "argocd":
        source = read("argocd/applications.yaml")[0]["spec"]["source"]
        chart, release, values = source["path"], source["helm"]["releaseName"], source["helm"]["valuesObject"]
    else:
        spec = read("flux/operator/sundog.yaml")[1]["spec"]
        chart, release, values = spec["chart"]["spec"]["chart"], spec["releaseName"], spec["values"]
    assert ROOT / chart == CHART
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    assert "registry.example.com/sundog-operator:" in helm("template", release, str(CHART), f"--values={file}")


def test_the_models_in_git_are_valid_and_leave_replicas_to_who_scales() -> None:
    for name in read("models/kustomization.yaml")[0]["resources"]:
        (manifest,) = read(f"models/{name}")
        assert "replicas" not in manifest["spec"]
        manifest["metadata"] |= {"namespace": "models", "uid": "0", "generation": 1}
        LLMDeployment.model_validate(manifest)
        resolve(manifest, Config(), b"key")


def test_flux_waits_for_the_operator_before_the_models_and_long_enough() -> None:
    objects = read("flux/cluster.yaml")
    names = {each["metadata"]["name"] for each in objects if each["kind"] == "Kustomization"}
    models = next(each for each in objects if each["kind"] == "Kustomization" and each["metadata"]["name"] == "models")
    assert {each["name"] for each in models["spec"]["dependsOn"]} <= names
    for each in objects[1:]:
        assert (EXAMPLES / each["spec"]["path"]).is_dir()
    assert int(models["spec"]["timeout"].removesuffix("m")) * 60 > 1800


def test_nothing_has_to_be_ignored() -> None:
    for file in KINDS:
        text = (EXAMPLES / file).read_text()
        assert not [line for line in text.splitlines() if "ignoreDifferences" in line and not line.startswith("#")]
