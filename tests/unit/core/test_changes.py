"""What is a change and what is none: every field of the spec, one by one."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from sundog_operator.api.reference import reference
from sundog_operator.api.types import LLMDeploymentSpec
from sundog_operator.core import names
from sundog_operator.core.names import Manifest, ObjectKey
from sundog_operator.core.resolve import FORMING
from tests.unit.core.world import World, resource

BASE: dict[str, Any] = {"model": {"uri": "hf://Qwen/Qwen3-0.6B"}, "replicas": 1}
ROUTER = names.router("qwen3")
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
    "podTemplate": ({"spec": {"priorityClassName": "high", "imagePullSecrets": [{"name": "mirror"}]}}, True),
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
# Those of which a change replaces the router pods too, one by one: it stands in their template or their configuration.
ROUTERS = {
    "suspend",
    "requestTimeoutSeconds",
    "tolerations",
    "podTemplate",  # of it imagePullSecrets only
    "router.maxOngoingPerReplica",
    "router.maxQueue",
    "router.resources.requests",
    "router.resources.limits",
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


def templates(world: World) -> dict[str, Manifest]:
    """Give the pod template of every Deployment (heads, workers, routers): Kubernetes restarts what gets another."""
    return {key.name: each["spec"]["template"] for key, each in world.children.items() if key.kind == "Deployment"}


def replaced(before: dict[str, Manifest], world: World) -> set[str]:
    now = templates(world)
    return {name for name, template in before.items() if now.get(name) != template}


def converged(**spec: Any) -> World:
    world = World(resource(**spec))
    world.converge()
    assert len(templates(world)) == 3
    return world


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_replaces_every_engine_or_none_as_the_table_says(path: str) -> None:
    value, is_change = FIELDS[path]
    before = merged(BASE, BESIDE.get(path, {}))
    world = converged(**before)
    pods, revision, made = set(world.pods), world.resolved.revision, templates(world)
    world.edit(**merged(before, at(path, value)))
    world.converge()
    engines, routers = made.keys() - {ROUTER}, {ROUTER} if path in ROUTERS else set()
    assert (world.resolved.revision != revision) == is_change
    assert replaced(made, world) == (engines | routers if is_change else routers)
    if is_change:
        assert not pods & set(world.pods)
    elif path != "suspend":
        assert pods <= set(world.pods)


def test_the_reference_says_what_each_field_replaces() -> None:
    section = reference().partition("\n## spec\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")] for line in section.splitlines() if line.startswith("| ")]
    heading, *fields = rows
    told = {row[1].strip("*`"): row[heading.index("a change replaces")] for row in fields}
    every = [str(field.alias) for field in LLMDeploymentSpec.model_fields.values()]
    assert {field: "engine" in what for field, what in told.items()} == {field: field in FORMING for field in every}
    routers = {path.partition(".")[0] for path in ROUTERS}
    assert {field for field, what in told.items() if "router" in what} == routers
    assert {field for field, what in told.items() if what.startswith("nothing")} == set(every) - {*FORMING, *routers}
    # What the table says of single fields below one.
    excepted = {
        f"{field}.{below}" for field, what in told.items() for below in re.findall(r"nothing for `([a-zA-Z.]+)`", what)
    }
    assert excepted == {
        path
        for path, (_, is_change) in FIELDS.items()
        if "." in path
        and not told[path.partition(".")[0]].startswith("nothing")
        and not is_change
        and path not in ROUTERS
    }


def test_a_default_that_is_written_out_is_no_change() -> None:
    world = World(resource(**BASE))
    before = world.resolved.revision
    spec = {**world.resolved.spec.manifest(), "replicas": 3}
    world.edit(**spec)
    assert world.resolved.revision == before


def test_labels_and_annotations_are_no_change() -> None:
    world = converged(**BASE)
    pods, made = set(world.pods), templates(world)
    world.resource["metadata"] |= {"labels": {"team": "a"}, "annotations": {"b": "c"}}
    world.converge()
    assert set(world.pods) == pods
    assert not replaced(made, world)


def test_an_upgrade_of_the_operator_replaces_routers_one_by_one_and_no_engine_and_no_head() -> None:
    world = converged(**BASE)
    pods, made = set(world.pods), templates(world)
    world.config = type(world.config)(serving_image="elsewhere/serving:9", router_image="elsewhere/router:9")
    world.converge()
    assert replaced(made, world) == {ROUTER}
    assert set(world.pods) == pods
    (old,), (new,) = (each[ROUTER]["spec"]["containers"] for each in (made, templates(world)))
    assert new == {**old, "image": "elsewhere/router:9"}
    # A new one is ready before an old one is told to end, and that one waits for the longest request.
    router = world.children[ObjectKey("Deployment", ROUTER)]["spec"]
    assert router["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    drains = new["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert drains > 0
    grace = router["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > drains + world.resolved.timeouts.router_hard_stop
    assert world.resolved.timeouts.router_hard_stop > world.resolved.spec.request_timeout_seconds


def test_another_operator_makes_the_engines_of_the_next_revision_with_its_own_image() -> None:
    """Left as they are is what was made, and not what is yet to be made."""
    world = converged(**BASE)
    world.config = type(world.config)(serving_image="elsewhere/serving:9", router_image="elsewhere/router:9")
    world.edit(**merged(BASE, at("engine.args", {"max-model-len": 1024})))
    world.converge()
    images = {each["image"] for template in templates(world).values() for each in template["spec"]["containers"]}
    assert images == {"elsewhere/serving:9", "elsewhere/router:9"}
