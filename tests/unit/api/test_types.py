from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sundog_operator.api.engine_arguments import check_argument_names, refused_arguments
from sundog_operator.api.types import LLMDeployment, LLMDeploymentSpec, Resources

LEAST: dict[str, Any] = {"model": {"uri": "org/name"}}


def test_the_least_spec_has_every_default() -> None:
    spec = LLMDeploymentSpec.model_validate(LEAST)
    assert spec.replicas == 1
    assert spec.router.max_queue == 256
    assert spec.ray.head.storage.size == "1Gi"
    assert spec.engine.args == {}
    assert spec.model.revision is None


def test_defaults_are_not_shared_between_resources() -> None:
    one, other = LLMDeploymentSpec.model_validate(LEAST), LLMDeploymentSpec.model_validate(LEAST)
    one.engine.args["dtype"] = "auto"
    assert other.engine.args == {}


def test_what_the_api_server_adds_is_tolerated() -> None:
    resource = {
        "apiVersion": "sundog.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": "a", "uid": "1", "generation": 3, "managedFields": [], "ownerReferences": []},
        "spec": LEAST,
        "status": {"observedGeneration": -1, "fromAnotherVersion": {"a": 1}},
    }
    parsed = LLMDeployment.model_validate(resource)
    assert parsed.metadata.generation == 3
    assert parsed.status.observed_generation == -1
    assert parsed.status.conditions == ()


def test_an_unknown_field_of_the_spec_is_refused() -> None:
    with pytest.raises(ValidationError, match="autoscale"):
        LLMDeploymentSpec.model_validate(LEAST | {"autoscale": {}})


def test_a_spec_cannot_be_changed() -> None:
    spec = LLMDeploymentSpec.model_validate(LEAST)
    with pytest.raises(ValidationError, match="frozen"):
        spec.replicas = 2  # type: ignore[misc]


def test_a_manifest_comes_back_as_it_was_written() -> None:
    written = {"model": {"uri": "org/name", "tokenSecretRef": {"name": "t", "key": "k"}}, "requestTimeoutSeconds": 7}
    manifest = LLMDeploymentSpec.model_validate(written).manifest()
    assert manifest["model"] == written["model"]
    assert manifest["requestTimeoutSeconds"] == 7
    assert LLMDeploymentSpec.model_validate(manifest).manifest() == manifest


@pytest.mark.parametrize(
    ("written", "read"), [(2, "2"), ("2", "2"), ("500m", "500m"), ("1.5Gi", "1.5Gi"), ("1e3", "1e3")]
)
def test_a_quantity_is_read_as_text(written: int | str, read: str) -> None:
    assert Resources.model_validate({"limits": {"cpu": written}}).limits == {"cpu": read}


@pytest.mark.parametrize("written", [True, 0.5, "", "-1", "4 GB", "2x", None])
def test_what_is_no_quantity_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        Resources.model_validate({"limits": {"cpu": written}})


@pytest.mark.parametrize("name", ["max-model-len", "max_model_len", "dtype", "v1", "o3-mode"])
def test_an_argument_may_be_kebab_or_snake(name: str) -> None:
    check_argument_names([name])


@pytest.mark.parametrize("name", ["--dtype", "-O", "Dtype", "max--len", "max_", "a b", "a=b", "", "kv-cfg.mode", "ä"])
def test_what_is_no_name_of_an_argument_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of an argument: write it without dashes in front"):
        check_argument_names([name])


def test_one_argument_in_two_spellings_is_refused() -> None:
    spec = LEAST | {"engine": {"args": {"max-model-len": 1, "dtype": "auto", "max_model_len": 2}}}
    with pytest.raises(ValidationError, match="max-model-len and max_model_len are the same argument: keep one"):
        LLMDeploymentSpec.model_validate(spec)


@pytest.mark.parametrize(("name", "cure"), refused_arguments())
def test_an_argument_that_sundog_sets_is_refused(name: str, cure: str) -> None:
    concrete = name.replace("…", "anything")
    for spelling in (concrete, concrete.replace("-", "_")):
        with pytest.raises(ValueError, match=f"{spelling} is set by Sundog: {cure}"):
            check_argument_names([spelling])
