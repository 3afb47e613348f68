"""`spec.autoscaling`: what is made of it, what is said of it, and when the last replica goes and the first comes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sundog_operator.config import Config
from sundog_operator.core.autoscaling import HPA, SCALED_OBJECT, sentence
from sundog_operator.core.events import transitions
from sundog_operator.core.names import Manifest, ObjectKey
from sundog_operator.core.writes import Delete, Scale
from sundog_operator.core.zero import seconds_between_questions
from tests.unit.core.world import IDLE, World, kinds, resource

OURS = ObjectKey(HPA, "qwen3")
KEDA = ObjectKey(SCALED_OBJECT, "qwen3")


def scaled(replicas: int = 1, **autoscaling: Any) -> World:
    world = World(resource(replicas=replicas, autoscaling={"maxReplicas": 8, **autoscaling}))
    world.converge()
    return world


def told(world: World, kind: str = "AutoscalingActive") -> tuple[str, str, str]:
    (found,) = [c for c in world.resource["status"]["conditions"] if c["type"] == kind]
    return found["status"], found["reason"], found["message"]


def spec_of(world: World, key: ObjectKey = OURS) -> Manifest:
    return dict(world.children[key]["spec"])


def test_the_least_that_is_written_makes_a_whole_autoscaler() -> None:
    spec = spec_of(scaled())
    target = {"apiVersion": "sundog.dev/v1alpha1", "kind": "LLMDeployment", "name": "qwen3"}
    assert spec == {
        "scaleTargetRef": target,
        "minReplicas": 1,
        "maxReplicas": 8,
        "metrics": [
            {
                "type": "Object",
                "object": {
                    "metric": {"name": "ongoing_requests"},
                    "describedObject": target,
                    "target": {"type": "AverageValue", "averageValue": "32"},
                },
            }
        ],
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 0,
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 60}],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": 600,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
            },
        },
    }


def test_a_share_is_compared_as_it_is_and_behavior_is_taken_word_for_word() -> None:
    down = {"policies": [{"type": "Pods", "value": 3, "periodSeconds": 5}], "tolerance": "50m"}
    metrics = [{"type": "KVCacheUtilization", "averageValue": "800m"}]
    spec = spec_of(scaled(minReplicas=2, metrics=metrics, behavior={"scaleDown": down}))
    assert spec["minReplicas"] == 2
    assert spec["metrics"][0]["object"]["target"] == {"type": "Value", "value": "800m"}
    assert spec["behavior"]["scaleDown"] == down
    assert spec["behavior"]["scaleUp"]["policies"], "what was not written keeps its default"


def test_keda_is_told_where_to_ask() -> None:
    world = World(
        resource(autoscaling={"class": "KEDA", "minReplicas": 0, "idleSeconds": 60, "maxReplicas": 3}),
        config=Config(metrics_service="sundog-operator-metrics"),
        keda=True,
    )
    world.converge()
    assert OURS not in world.children
    spec = spec_of(world, KEDA)
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["cooldownPeriod"]) == (0, 3, 60)
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "metrics-api"
    assert trigger["metadata"] == {
        "url": "http://sundog-operator-metrics.sundog-system.svc.cluster.local:8080/loads/team/qwen3",
        "format": "json",
        "valueLocation": "ongoing_requests",
        "targetValue": "32",
    }
    world.edit(autoscaling={"maxReplicas": 3})
    world.converge()
    assert OURS in world.children
    assert KEDA not in world.children, "one scaler at a time"


@pytest.mark.parametrize("autoscaling", [None, {"class": "External"}])
def test_what_is_not_asked_for_any_more_goes(autoscaling: dict[str, Any] | None) -> None:
    world = scaled()
    assert OURS in world.children
    world.edit(autoscaling=autoscaling)
    (delete,) = [write for write in world.step().writes if isinstance(write, Delete)]
    assert delete.key == OURS


def other(name: str, **metadata: Any) -> Manifest:
    return {"kind": HPA, "metadata": {"name": name, **metadata}, "spec": {}}


def test_a_second_scaler_is_refused_and_named() -> None:
    world = scaled()
    world.other_autoscalers = (other("theirs"),)
    (delete,) = world.step().writes
    assert isinstance(delete, Delete)
    assert told(world) == (
        "False",
        "AnotherAutoscaler",
        (
            "HorizontalPodAutoscaler theirs scales this LLMDeployment already, and two would undo each other's work: "
            "delete it, or set spec.autoscaling.class to External"
        ),
    )
    world.edit(autoscaling={"class": "External"})
    world.step()
    assert told(world)[:2] == ("Unknown", "External")


def test_kedas_own_autoscaler_is_no_second_one() -> None:
    world = World(
        resource(autoscaling={"class": "KEDA", "maxReplicas": 3}), config=Config(metrics_service="m"), keda=True
    )
    world.other_autoscalers = (other("keda-hpa-qwen3", ownerReferences=[{"kind": SCALED_OBJECT}]),)
    world.converge()
    assert KEDA in world.children
    assert told(world) == ("Unknown", "Starting", "KEDA has not looked yet")


def hpa_says(world: World, *, desired: int = 1, value: str = "10", **conditions: tuple[str, str, str]) -> None:
    """Let the HorizontalPodAutoscaler have looked; conditions as status, reason, message."""
    fine = {
        "AbleToScale": ("True", "ReadyForNewScale", "recommended size matches current size"),
        "ScalingActive": ("True", "ValidMetricFound", "the HPA was able to successfully calculate a replica count"),
        "ScalingLimited": ("False", "DesiredWithinRange", "the desired count is within the acceptable range"),
    }
    current = {"metric": {"name": "ongoing_requests"}, "current": {"averageValue": value}}
    world.children[OURS]["status"] = {
        "desiredReplicas": desired,
        "currentMetrics": [{"type": "Object", "object": current}],
        "conditions": [
            {"type": kind, "status": status, "reason": reason, "message": message}
            for kind, (status, reason, message) in {**fine, **conditions}.items()
        ],
    }


# What the HorizontalPodAutoscaler of Kubernetes 1.37 says → what AutoscalingActive says.
MIRRORED: dict[str, tuple[dict[str, tuple[str, str, str]], tuple[str, str, str]]] = {
    "works": ({}, ("True", "Scaling", "between 1 and 8 replicas, as the load asks for")),
    "no metric": (
        {
            "ScalingActive": (
                "False",
                "FailedGetObjectMetric",
                "the HPA was unable to compute the replica count: unable to get metric ongoing_requests: r1 said no",
            )
        },
        (
            "False",
            "MetricsUnavailable",
            "the number of replicas is held: unable to get metric ongoing_requests: r1 said no",
        ),
    ),
    "cannot scale": (
        {"AbleToScale": ("False", "FailedUpdateScale", "the HPA controller was unable to update the target scale: no")},
        (
            "False",
            "FailedUpdateScale",
            "replicas cannot be changed: the HPA controller was unable to update the target scale: no",
        ),
    ),
    "at its maximum": (
        {"ScalingLimited": ("True", "TooManyReplicas", "the desired replica count is more than the maximum")},
        ("True", "AtMaximum", "more than spec.autoscaling.maxReplicas (8) would be needed"),
    ),
    "at its minimum": (
        {"ScalingLimited": ("True", "TooFewReplicas", "the desired replica count is less than the minimum")},
        ("True", "Scaling", "between 1 and 8 replicas, as the load asks for"),
    ),
}


@pytest.mark.parametrize("case", MIRRORED)
def test_what_the_autoscaler_says_is_told_in_plain_words(case: str) -> None:
    said, wanted = MIRRORED[case]
    world = scaled()
    assert told(world) == ("Unknown", "Starting", "the HorizontalPodAutoscaler has not looked yet")
    hpa_says(world, **said)
    world.step()
    assert told(world) == wanted
    before = world.resource["status"]
    hpa_says(world, value="11", **said)
    world.step()
    assert world.resource["status"] == before, "a value that moves writes nothing"


def test_a_metrics_api_that_is_anothers_is_told_with_its_cure() -> None:
    world = scaled()
    world.custom_metrics_trouble = "APIService v1beta2.custom.metrics.k8s.io belongs to another metrics adapter"
    world.step()
    assert told(world) == ("False", "MetricsUnavailable", world.custom_metrics_trouble)


@pytest.mark.parametrize(
    ("entry", "rival"),
    [
        ({"manager": "argocd-controller", "operation": "Apply"}, "argocd-controller"),
        ({"manager": "kubectl-client-side-apply", "operation": "Update"}, "kubectl-client-side-apply"),
        ({"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale"}, None),
        ({"manager": "kubectl-create", "operation": "Update"}, None),
        ({"manager": "kubectl", "operation": "Update", "subresource": "scale"}, None),
    ],
)
def test_whoever_applies_replicas_as_well_is_named(entry: dict[str, str], rival: str | None) -> None:
    world = scaled()
    world.resource["metadata"]["managedFields"] = [entry]
    world.step()
    contended = (
        "False",
        "ReplicasContended",
        f"field manager {rival} sets spec.replicas as well: leave replicas out of what it applies",
    )
    assert (told(world) == contended) is (rival is not None)


def scaled_by(world: World, replicas: int, manager: str, subresource: str = "scale") -> None:
    world.edit(replicas=replicas)
    entry = {"manager": manager, "operation": "Update", "subresource": subresource}
    world.resource["metadata"]["managedFields"] = [entry]


def decisions(world: World) -> list[dict[str, Any]]:
    return list(world.resource["status"]["scaling"])


def test_each_decision_is_told_once_all_is_known_of_it() -> None:
    world = scaled()
    before = world.resource["status"]
    scaled_by(world, 3, "kube-controller-manager")
    world.step()
    noticed = world.resource["status"]
    assert {e.reason for e in transitions(before, noticed)} == {"ReplicasStarting"}, "not before its reason is known"
    hpa_says(world, desired=3, value="80")
    world.step()
    assert decisions(world)[-1] == {
        "time": decisions(world)[-1]["time"],
        "from": 1,
        "to": 3,
        "who": HPA,
        "metric": "ongoing_requests",
        "value": "80",
        "target": "32",
    }
    (event,) = transitions(noticed, world.resource["status"])[:1]
    assert (event.type, event.reason) == ("Normal", "ScaledUp")
    assert event.message == (
        "replicas 1 → 3 by HorizontalPodAutoscaler: ongoing_requests is 80 for each replica, and should be 32"
    )
    told_once = world.resource["status"]
    hpa_says(world, desired=3, value="81")
    world.step()
    assert decisions(world) == told_once["scaling"]
    assert "ScaledUp" not in {e.reason for e in transitions(told_once, world.resource["status"])}


def test_the_pods_that_went_are_named_and_ten_decisions_are_kept() -> None:
    world = scaled(replicas=3)
    scaled_by(world, 2, "kubectl")
    pods = {pod["metadata"]["name"] for pod in world.pods.values()}
    world.converge()
    (went,) = pods - {pod["metadata"]["name"] for pod in world.pods.values()}
    assert {key: decisions(world)[-1][key] for key in ("from", "to", "who", "victims")} == {
        "from": 3,
        "to": 2,
        "who": "kubectl",
        "victims": [went],
    }
    for replicas in range(12):
        scaled_by(world, replicas % 3 + 3, "kubectl")
        world.step()
    assert len(decisions(world)) == 10
    assert [d["to"] for d in decisions(world)][-3:] == [3, 4, 5]


def idle(seconds: float, **changes: Any) -> Any:
    return dataclasses.replace(IDLE, idle_seconds=seconds, **changes)


def to_zero(**autoscaling: Any) -> World:
    world = World(resource(autoscaling={"minReplicas": 0, "idleSeconds": 60, "maxReplicas": 8, **autoscaling}))
    world.converge()
    return world


def scales(world: World) -> list[Scale]:
    return [write for write in world.step().writes if isinstance(write, Scale)]


def test_the_last_replica_goes_when_no_request_came_for_a_while() -> None:
    world = to_zero()
    assert spec_of(world)["minReplicas"] == 1, "what works with every version of Kubernetes"
    world.now += 30
    world.router_says = idle(30)
    plan = world.step()
    assert plan.writes == ()
    assert plan.look_again_seconds == 30
    world.now += 30
    world.router_says = idle(60)
    (scale,) = scales(world)
    assert (scale.replicas, scale.reason) == (0, "no request for 60 s")
    assert scale.irreversible, "what it rests on is read live first"


@pytest.mark.parametrize(
    "said",
    [
        idle(5),
        idle(100, ongoing=1),
        "router router-1 did not say its load within 3 s",
    ],
    ids=["a request came", "one is under way", "a router says nothing"],
)
def test_it_stays_while_that_is_not_sure(said: Any) -> None:
    world = to_zero()
    world.now += 100
    world.router_says = said
    assert scales(world) == []


def test_a_replica_that_has_just_come_up_stays_as_long() -> None:
    world = to_zero()
    world.now += 10
    world.router_says = idle(1000)
    assert scales(world) == [], "it loaded all that time"


def test_no_replica_goes_while_one_loads() -> None:
    world = to_zero()
    world.edit(replicas=2)
    world.step()
    world.settle(ready=False)
    world.now += 1000
    world.router_says = idle(1000)
    assert scales(world) == []


def test_a_request_brings_a_replica_back() -> None:
    world = to_zero()
    world.now += 100
    world.router_says = idle(100)
    world.converge()
    assert world.ready() == ("True", "ScaledToZero")
    assert told(world) == ("True", "ScaledToZero", "the next request brings a replica back")
    assert decisions(world)[-1]["who"] == "Sundog"
    assert scales(world) == []
    world.router_says = idle(0, ongoing=2, waiting=2)
    (scale,) = scales(world)
    assert (scale.replicas, scale.reason) == (1, "requests that are held: 4")
    assert not scale.irreversible


@pytest.mark.parametrize(("asleep", "seconds"), [(0, 0.25), (1, 0.25), (25, 0.25), (50, 0.5), (100, 1), (1000, 1)])
def test_what_sleeps_is_asked_four_times_a_second_and_once_where_much_does(asleep: int, seconds: float) -> None:
    assert seconds_between_questions(asleep) == seconds


def test_nothing_comes_back_where_zero_was_a_persons_wish() -> None:
    world = scaled(replicas=0)
    world.router_says = idle(0, ongoing=2, waiting=2)
    assert scales(world) == []
    assert told(world) == (
        "False",
        "Resting",
        "replicas is 0 and minReplicas 1: autoscaling rests until replicas is set to 1",
    )


def test_a_second_pass_writes_nothing() -> None:
    world = scaled(minReplicas=0)
    assert kinds(world.step().writes) == []


def test_a_zero_whose_writer_nobody_noted_is_not_called_ours() -> None:
    world = to_zero()
    world.edit(replicas=0)
    world.converge()
    assert decisions(world)[-1]["who"] == "scale subresource"


def test_pods_that_go_late_are_named_at_the_decision_that_they_went_for() -> None:
    world = scaled(replicas=4)
    for replicas in (3, 1):
        scaled_by(world, replicas, "kubectl")
        world.step()
        world.settle()
    world.converge()
    victims = {d["to"]: len(d["victims"]) for d in decisions(world)[1:]}
    assert victims == {3: 1, 1: 2}
    assert len({pod for d in decisions(world)[1:] for pod in d["victims"]}) == 3


def test_keda_takes_the_last_replica_itself() -> None:
    world = World(
        resource(autoscaling={"class": "KEDA", "minReplicas": 0, "idleSeconds": 60, "maxReplicas": 3}),
        config=Config(metrics_service="m"),
        keda=True,
    )
    world.converge()
    world.now += 100
    world.router_says = idle(100)
    assert scales(world) == []


@pytest.mark.parametrize(("value", "read"), [("1500m", "1.5"), ("80", "80"), ("66667m", "66.667"), ("1k", "1000")])
def test_numbers_are_told_as_people_write_them(value: str, read: str) -> None:
    told = sentence({"from": 1, "to": 2, "who": HPA, "metric": "ongoing_requests", "value": value, "target": "32"})
    assert told.endswith(f"ongoing_requests is {read} for each replica, and should be 32")


def test_a_number_whose_writer_was_not_noted_is_the_autoscalers_if_that_says_so() -> None:
    world = scaled()
    world.edit(replicas=3)  # as after server-side apply of a manifest without replicas: nobody owned the field
    world.step()
    assert decisions(world)[-1]["who"] == "scale subresource"
    noticed = world.resource["status"]
    hpa_says(world, desired=3, value="80")
    world.step()
    assert decisions(world)[-1]["who"] == "scale subresource", "it wanted as many, but has not scaled"
    world.children[OURS]["status"]["lastScaleTime"] = decisions(world)[-1]["time"]
    world.step()
    assert (decisions(world)[-1]["who"], decisions(world)[-1]["metric"]) == (HPA, "ongoing_requests")
    assert "ScaledUp" in {event.reason for event in transitions(noticed, world.resource["status"])}
