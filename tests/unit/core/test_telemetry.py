"""What Prometheus is told of an LLMDeployment, and that it fits what the engines tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sundog_operator.core.telemetry import BOUNDS, Objective, telemetry
from sundog_operator.metrics import Metrics
from sundog_serving import fake_metrics
from tests.unit.core.world import World, resource

RECORDED = Path(__file__).parents[2] / "observability" / "recorded" / "worker.prom"
SLO = {"timeToFirstTokenMilliseconds": 400, "interTokenMilliseconds": 50, "percent": 99}


def text(world: World, *, leads: bool = True) -> str:
    metrics = Metrics()
    told = telemetry(world.resource, world.children)
    metrics.tell_resources(lambda: [told] if leads else [])
    metrics.tell_lease(lambda: 3 if leads else None)
    return metrics.text().decode()


def served(**spec: object) -> World:
    world = World(resource(**spec))
    world.converge()
    world.step()
    return world


@pytest.mark.parametrize("objective", BOUNDS)
def test_the_bounds_are_those_of_vllm_and_of_the_fake_engine(objective: str) -> None:
    found = re.findall(rf'^ray_vllm_{objective}_seconds_bucket{{.*le="([^"]+)"', RECORDED.read_text(), re.MULTILINE)
    assert [*map(str, BOUNDS[objective]), "+Inf"] == found
    assert fake_metrics.BUCKETS[f"{objective}_seconds"] == BOUNDS[objective]


@pytest.mark.parametrize(
    ("milliseconds", "bound"), [(1, "0.001"), (400, "0.5"), (500, "0.5"), (501, "0.75"), (600_000, "640.0")]
)
def test_an_objective_is_counted_at_the_bound_that_is_not_below_it(milliseconds: int, bound: str) -> None:
    told = telemetry(resource(slo={"timeToFirstTokenMilliseconds": milliseconds}), ())
    assert told.objectives == (Objective("time_to_first_token", milliseconds / 1000, bound, 0.95),)


def test_an_llmdeployment_is_told_by_namespace_and_name() -> None:
    found = text(served(replicas=2, autoscaling={"maxReplicas": 4}, slo=SLO))
    where = 'name="qwen3",namespace="team"'
    for line in (
        f"sundog_llmdeployment_desired_replicas{{{where}}} 2.0",
        f"sundog_llmdeployment_ready_replicas{{{where}}} 2.0",
        f"sundog_llmdeployment_max_replicas{{{where}}} 4.0",
        f"sundog_llmdeployment_revisions{{{where}}} 1.0",
        f"sundog_llmdeployment_head_state_volatile{{{where}}} 0.0",
        f'sundog_llmdeployment_condition{{{where},reason="AllReplicasReady",status="True",type="Ready"}} 1.0',
        f'sundog_llmdeployment_last_scaling_timestamp_seconds{{{where},who="default"}} 1.8e+09',
        f'sundog_llmdeployment_slo_seconds{{le="0.5",{where},objective="time_to_first_token"}} 0.4',
        f'sundog_llmdeployment_slo_seconds{{le="0.05",{where},objective="inter_token_latency"}} 0.05',
        f'sundog_llmdeployment_slo_share{{{where},objective="time_to_first_token"}} 0.99',
        "sundog_lease_transitions 3.0",
    ):
        assert f"{line}\n" in found, line


def test_what_does_not_lead_tells_of_none() -> None:
    found = text(served(), leads=False)
    assert "qwen3" not in found
    assert "sundog_lease_transitions" not in found


def test_nothing_is_told_of_what_is_not_set() -> None:
    found = text(served())
    assert "sundog_llmdeployment_max_replicas{" not in found
    assert "sundog_llmdeployment_slo_seconds{" not in found


def test_a_head_without_a_claim_is_told() -> None:
    world = World(resource(), default_storage_class=False)
    world.converge()
    assert telemetry(world.resource, world.children).head_state_is_volatile


def test_revisions_that_are_only_remembered_do_not_count() -> None:
    world = served()
    world.edit(engine={"args": {"max-model-len": 1024}})
    world.converge()
    assert len(world.resource["status"]["revisions"]) == 2
    assert telemetry(world.resource, world.children).revisions == 1


def test_one_that_nobody_has_looked_at_yet_can_be_told() -> None:
    told = telemetry(resource(), ())
    assert (told.desired_replicas, told.ready_replicas, told.conditions, told.last_scaling) == (1, 0, (), None)
