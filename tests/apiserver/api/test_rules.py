"""What the API server refuses and accepts, with the CRD as it is shipped and nothing else: no webhook, no operator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sundog_operator.api.crd import resource_schema
from sundog_operator.api.engine_arguments import REFUSED
from sundog_operator.api.rules import KEYWORD
from sundog_operator.api.schema import with_defaults
from sundog_operator.api.types import LLMDeployment, LLMDeploymentSpec

from .conftest import LLMDeployments, Manifest, manifest

pytestmark = pytest.mark.apiserver

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def _cases(*paths: Path) -> list[Any]:
    return [
        pytest.param(case, id=case["case"].replace(" ", "-"))
        for path in paths
        for case in yaml.safe_load(path.read_text())
    ]


INVALID = _cases(*sorted(HERE.glob("invalid/*.yaml")))
VALID = _cases(HERE / "valid.yaml")
FILES = sorted([*ROOT.glob("crds/samples/*.yaml"), *ROOT.glob("examples/*.yaml")])
ARGUMENTS = sorted({spelling for name in REFUSED for spelling in (name, name.replace("-", "_"))})
VALUES = {"string": "x", "integer": 1, "boolean": True}


# What a person must never have to read: expressions, regular expressions, and a rule that failed itself.
NOISE = ("evaluating rule", "failed rule", "self.", "[-A-Za-z0-9", "no such key", "no such overload")


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_resource_is_refused_with_field_and_cure(anywhere: LLMDeployments, case: Manifest) -> None:
    said = anywhere.refusal(manifest(case["spec"], name=case.get("name", "model")))
    assert any(line.startswith(case.get("at", "")) and case["says"] in line for line in said), said
    assert not [line for line in said for noise in NOISE if noise in line]


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_an_argument_that_sundog_sets_is_refused_in_both_spellings(anywhere: LLMDeployments, argument: str) -> None:
    refused = REFUSED[argument.replace("_", "-")]
    args = {argument: VALUES[refused.types]}
    said = anywhere.refusal(manifest({"model": {"uri": "a/b"}, "engine": {"args": args}}))
    assert len(said) == 1
    assert said[0].startswith(f"spec.engine.args.{argument}: ")
    assert refused.cure in said[0]


@pytest.mark.parametrize("case", VALID)
def test_a_valid_resource_is_accepted_and_means_the_same_to_server_and_operator(
    anywhere: LLMDeployments, case: Manifest
) -> None:
    resource = manifest(case["spec"], name=case.get("name", "model"))
    stored = anywhere.create(resource, dry_run=True)["spec"]
    assert stored == with_defaults(case["spec"], resource_schema()["properties"]["spec"])
    understood = LLMDeploymentSpec.model_validate(case["spec"])
    assert understood == LLMDeploymentSpec.model_validate(stored)
    assert understood.manifest().keys() == stored.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_sample_is_accepted_as_it_stands(llmdeployments: LLMDeployments, path: Path) -> None:
    resource = yaml.safe_load(path.read_text())
    stored = llmdeployments.create(resource)
    assert LLMDeployment.model_validate(stored).spec == LLMDeployment.model_validate(resource).spec


def test_the_servers_defaults_are_those_of_the_models(llmdeployments: LLMDeployments) -> None:
    least = {"model": {"uri": "a/b", "tokenSecretRef": {"name": "t"}}}
    stored = llmdeployments.create(manifest(least))
    assert stored["spec"] == LLMDeploymentSpec.model_validate(least).manifest()
    assert stored["status"] == {"observedGeneration": -1}


def test_null_is_a_field_that_is_left_out(anywhere: LLMDeployments) -> None:
    nothing = {
        "model": {"uri": "a/b", "revision": None},
        "replicas": None,
        "engine": None,
        "router": {"maxQueue": None},
    }
    stored = anywhere.create(manifest(nothing), dry_run=True)["spec"]
    assert stored == LLMDeploymentSpec.model_validate({"model": {"uri": "a/b"}}).manifest()
    assert stored == with_defaults(nothing, resource_schema()["properties"]["spec"])


def test_every_rule_is_provoked_by_a_case() -> None:
    """A rule that no case breaks could be wrong, or missing in one place, and nobody would know."""
    cases = [param.values[0] for param in INVALID]
    broken = [(re.sub(r"\[[^]]*\]", "[]", case.get("at", "")), case["says"]) for case in cases]
    silent = [
        f"{path}: {message}"
        for path, message in _rules(resource_schema(), "")
        if not any(path == at and says in message for at, says in broken)
    ]
    # Of the arguments there is a test of their own.
    assert [line for line in silent if not line.startswith("spec.engine.args.")] == []


def _rules(schema: Manifest, path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get(KEYWORD, []):
        yield (path + rule.get("fieldPath", "")).lstrip("."), rule["message"]
    for name, child in schema.get("properties", {}).items():
        yield from _rules(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from _rules(schema[key], f"{path}[]")
