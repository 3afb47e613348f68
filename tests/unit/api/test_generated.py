"""What is generated is up to date, and small enough."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sundog_operator.api import generate
from sundog_operator.api.crd import crd_yaml, custom_resource_definition, resource_schema
from sundog_operator.api.generated import run
from sundog_operator.api.reference import reference
from sundog_operator.api.rules import KEYWORD

KIB = 1024


def test_every_generated_file_is_what_the_models_say() -> None:
    assert generate.main(["--check"]) == 0


def test_the_file_holds_the_crd() -> None:
    assert yaml.safe_load(crd_yaml()) == custom_resource_definition()


def test_the_crd_stays_small() -> None:
    """etcd, every kubectl and every controller hold it; kubectl apply keeps a second copy in an annotation."""
    assert len(crd_yaml().encode()) < 60 * KIB
    assert len(json.dumps(custom_resource_definition(), separators=(",", ":")).encode()) < 48 * KIB


def test_every_field_says_what_it_is_for() -> None:
    silent = [path for path, schema in _fields(resource_schema()) if not schema.get("description")]
    assert not silent


def test_every_default_is_explained_where_a_person_may_set_it() -> None:
    """A number or word that the server fills in stands in the description, for `kubectl explain`."""
    spec = resource_schema()["properties"]["spec"]
    for path, schema in _fields(spec):
        default = schema.get("default")
        if default not in (None, "", {}, []) and "properties" not in schema:
            told = str(default).lower() if isinstance(default, bool) else default  # as YAML has it
            assert f"Default: {told}" in schema["description"], path


def test_whatever_a_rule_may_walk_has_a_bound() -> None:
    unbounded = [
        path
        for path, schema in _nodes(resource_schema()["properties"]["spec"], "spec")
        if [rule["rule"] for rule in schema.get(KEYWORD, [])] != ["false"]  # that walks nothing
        and (
            (schema.get("type") == "array" and "maxItems" not in schema)
            or ("additionalProperties" in schema and "maxProperties" not in schema)
            or (schema.get("type") == "string" and "maxLength" not in schema and "enum" not in schema)
            or (schema.get("x-kubernetes-int-or-string") and "maxLength" not in schema)
        )
    ]
    assert not unbounded


def test_every_rule_says_what_is_wrong_and_what_to_do_in_a_sentence() -> None:
    for path, schema in _nodes(resource_schema(), ""):
        for rule in schema.get(KEYWORD, []):
            assert 20 <= len(rule["message"]) <= 240, path
            assert "self" not in rule["message"], path


def test_the_reference_names_every_field() -> None:
    page = reference()
    names = {path.rsplit(".", 1)[1] for path, _ in _fields(resource_schema())}
    assert not [name for name in names if f"`{name}`" not in page and name not in page]


def test_check_fails_with_advice_where_a_file_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "crd.yaml"
    assert run("new\n", module="m", arguments=["--write", str(path)]) == 0
    assert run("new\n", module="m", arguments=["--check", str(path)]) == 0
    assert run("newer\n", module="m", arguments=["--check", str(path), str(tmp_path / "missing")]) == 1
    assert path.read_text() == "new\n"
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{path} is not what the models say: run `python -m m --write {path}`"
    assert "missing" in said[1]


def test_the_chart_gets_its_copy_where_there_is_a_chart(tmp_path: Path) -> None:
    for folder in ("crds", "docs/reference", "charts/sundog/files"):
        (tmp_path / folder).mkdir(parents=True)
    assert generate.main(["--check"], root=tmp_path) == 1
    assert generate.main([], root=tmp_path) == 0
    assert generate.main(["--check"], root=tmp_path) == 0
    copy = tmp_path / "charts/sundog/files/llmdeployments.yaml"
    assert copy.read_text() == (tmp_path / "crds/sundog.dev_llmdeployments.yaml").read_text()


@pytest.mark.parametrize("module", ["crd", "reference"])
def test_the_module_prints_what_it_makes(module: str) -> None:
    made = subprocess.run(
        [sys.executable, "-m", f"sundog_operator.api.{module}"], capture_output=True, text=True, check=True
    )
    assert made.stdout == {"crd": crd_yaml, "reference": reference}[module]()


def _fields(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every field that the models name: not those that stand there only to be refused or looked at."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, child in schema.get("properties", {}).items():
        if name in ("apiVersion", "kind", "metadata") and not path:
            continue
        found.append((f"{path}.{name}", child))
        if "x-kubernetes-preserve-unknown-fields" not in child:
            found += _fields(child, f"{path}.{name}")
            found += _fields(child.get("items", {}), f"{path}.{name}[]")
    return found


def _nodes(schema: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    """Every schema, however deep."""
    found = [(path, schema)]
    for name, child in schema.get("properties", {}).items():
        found += _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            found += _nodes(schema[key], f"{path}[]")
    return found
