"""What is a change and what is none: every field of the spec, one by one."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from sundog_operator.api.types import LLMDeploymentSpec
from tests.unit.core.world import World, resource

BASE: dict[str, Any] = {"model": {"uri": "hf://Qwen/Qwen3-0.6B"}, "replicas": 1}
# Another value of each field → whether every engine is replaced for it. (The value stands below the path.)
FIELDS: dict[str, tuple[Any, bool]] = {
    "replicas": (2, False),
    "suspend": (True, False),
    "requestTimeoutSeconds": (60, True),
    "model.uri": ("hf://Qwen/Qwen3-1.7B", True),
    "model.revision": ("abc", True),
    "model.name": ("other", True),
    "model.tokenSecretRef.name": ("hub", True),
    "model.tokenSecretRef.key": ("TOKEN", True),
    "model.cache.persistentVolumeClaim.claimName": ("cache", True),
    "model.lora.adapters": ([{"name": "french", "uri": "hf://acme/french"}], False),
    "model.lora.maxAdapters": (8, True),
    "model.lora.maxRank": (64, True),
    "engine.name": ("fake", True),
    "engine.image": ("elsewhere/serving:2", True),
    "engine.args": ({"max-model-len": 1024}, True),
    "engine.env": ([{"name": "A", "value": "1"}], True),
    "parallelism.tensor": (2, True),
    "parallelism.pipeline": (2, True),
    "resources.requests": ({"cpu": "1"}, True),
    "resources.limits": ({"memory": "1Gi"}, True),
    "nodeSelector": ({"gpu": "yes"}, True),
    "tolerations": ([{"operator": "Exists"}], True),
    "podTemplate": ({"spec": {"priorityClassName": "high"}}, True),
    "autoscaling.class": ("External", False),
    "autoscaling.minReplicas": (1, False),
    "autoscaling.maxReplicas": (3, False),
    "autoscaling.idleSeconds": (60, False),
    "autoscaling.metrics": ([{"type": "WaitingRequests", "averageValue": "1"}], False),
    "autoscaling.behavior": ({"scaleDown": {}}, False),
    "rollout.maxSurge": (2, False),
    "rollout.maxUnavailable": (1, False),
    "rollout.minReadySeconds": (5, False),
    "rollout.progressDeadlineSeconds": (100, False),
    "rollout.revisionHistoryLimit": (1, False),
    "rollout.paused": (True, False),
    "rollout.revision": ("", False),  # naming another one is a change, of course
    "slo.timeToFirstTokenMilliseconds": (500, False),
    "slo.interTokenMilliseconds": (50, False),
    "slo.percent": (99, False),
    "router.replicas": (3, False),
    "router.maxOngoingPerReplica": (9, False),
    "router.maxQueue": (9, False),
    "router.resources.requests": ({"cpu": "1"}, False),
    "router.resources.limits": ({"memory": "1Gi"}, False),
    "service.type": ("NodePort", False),
    "service.port": (80, False),
    "service.annotations": ({"a": "b"}, False),
    "ray.head.resources.requests": ({"cpu": "1"}, True),
    "ray.head.resources.limits": ({"memory": "2Gi"}, True),
    "ray.head.storage.size": ("2Gi", True),
    "ray.head.storage.storageClassName": ("fast", True),
}
# What is not valid without it.
BESIDE: dict[str, dict[str, Any]] = {
    "model.lora.adapters": {"model": {"lora": {}}},
    "model.tokenSecretRef.key": {"model": {"tokenSecretRef": {"name": "hub"}}},
}


def paths(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Give the path of every field that has no fields of its own."""
    for field in model.model_fields.values():
        path = f"{before}{field.alias}"
        below = model_of(field.annotation)
        if below is None:
            yield path
        else:
            yield from paths(below, f"{path}.")


def model_of(annotation: Any) -> type[BaseModel] | None:
    options = get_args(annotation) if get_origin(annotation) in {Union, types.UnionType} else (annotation,)
    return next((each for each in options if isinstance(each, type) and issubclass(each, BaseModel)), None)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {key: merged(below[key], above[key]) for key in below.keys() & above.keys() if isinstance(above[key], dict)}
    return {**below, **above, **both}


def at(path: str, value: Any) -> dict[str, Any]:
    name, _, rest = path.partition(".")
    return {name: at(rest, value) if rest else value}


def test_the_table_has_every_field() -> None:
    assert sorted(paths(LLMDeploymentSpec)) == sorted(FIELDS)


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_replaces_every_engine_or_none_as_the_table_says(path: str) -> None:
    value, is_change = FIELDS[path]
    before = merged(BASE, BESIDE.get(path, {}))
    world = World(resource(**before))
    world.converge()
    pods, revision = set(world.pods), world.resolved.revision
    world.edit(**merged(before, at(path, value)))
    world.converge()
    assert (world.resolved.revision != revision) == is_change
    if is_change:
        assert not pods & set(world.pods)
    elif path != "suspend":
        assert pods <= set(world.pods)


def test_a_default_that_is_written_out_is_no_change() -> None:
    world = World(resource(**BASE))
    before = world.resolved.revision
    spec = {**world.resolved.spec.manifest(), "replicas": 3}
    world.edit(**spec)
    assert world.resolved.revision == before


def test_labels_annotations_and_another_operator_are_no_change() -> None:
    world = World(resource(**BASE))
    world.converge()
    pods = set(world.pods)
    world.resource["metadata"] |= {"labels": {"team": "a"}, "annotations": {"b": "c"}}
    world.config = type(world.config)(serving_image="elsewhere/serving:9", router_image="elsewhere/router:9")
    world.converge()
    assert set(world.pods) == pods
