"""How busy an LLMDeployment is, from what its parts said."""

import pytest

from sundog_operator.core.load import Load, Metric, ReplicaLoad, Unmeasured, replicas_to_ask, routers_to_ask
from sundog_operator.core.names import COMPONENT_LABEL, HEAD, ROUTER, WORKER, Manifest
from sundog_operator.core.observed import RouterLoad

ROUTERS = {
    "r1": RouterLoad(ongoing=30, waiting=4, idle_seconds=0, servers=2),
    "r2": RouterLoad(ongoing=12, waiting=0, idle_seconds=0, servers=2),
}
REPLICAS = {"w1": ReplicaLoad(0.5, 100.0), "w2": ReplicaLoad(0.1, 20.5)}


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (Metric.ONGOING_REQUESTS, 42),
        (Metric.WAITING_REQUESTS, 4),
        (Metric.KV_CACHE_UTILIZATION, 0.3),
        (Metric.TOKENS_PER_SECOND, 120.5),
    ],
)
def test_each_metric_is_one_value_for_all(metric: Metric, value: float) -> None:
    assert Load(ROUTERS, REPLICAS).value(metric) == pytest.approx(value)


@pytest.mark.parametrize("metric", [Metric.ONGOING_REQUESTS, Metric.WAITING_REQUESTS])
@pytest.mark.parametrize(
    ("routers", "told"),
    [
        ({}, "no router is ready: nobody counts the requests"),
        ({**ROUTERS, "r3": "router r3 did not say its load within 3 s"}, "router r3 did not say its load within 3 s"),
    ],
)
def test_requests_that_not_every_router_has_counted_are_unmeasured(
    metric: Metric, routers: dict[str, RouterLoad | str], told: str
) -> None:
    load = Load(routers, REPLICAS)
    with pytest.raises(Unmeasured, match=told):
        load.value(metric)
    assert load.value(Metric.TOKENS_PER_SECOND) > 0


@pytest.mark.parametrize("metric", [Metric.KV_CACHE_UTILIZATION, Metric.TOKENS_PER_SECOND])
def test_a_replica_that_says_nothing_leaves_its_metrics_unmeasured(metric: Metric) -> None:
    load = Load(ROUTERS, {**REPLICAS, "w3": "replica w3 answered HTTP 403 when asked for its load"})
    with pytest.raises(Unmeasured, match="w3 answered HTTP 403"):
        load.value(metric)
    assert load.value(Metric.ONGOING_REQUESTS) == 42


@pytest.mark.parametrize("metric", [Metric.KV_CACHE_UTILIZATION, Metric.TOKENS_PER_SECOND])
def test_without_a_replica_nothing_is_used_and_nothing_generated(metric: Metric) -> None:
    assert Load(ROUTERS, {}).value(metric) == 0


def pod(name: str, component: str, *, ready: bool = True, started: bool = True, **metadata: str) -> Manifest:
    return {
        "metadata": {"name": name, "labels": {COMPONENT_LABEL: component}, **metadata},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "c", "started": started}],
        },
    }


def test_who_is_asked() -> None:
    ends = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    failed, unplaced = pod("failed", WORKER), pod("unplaced", WORKER, started=True)
    failed["status"]["phase"] = "Failed"
    del unplaced["status"]["podIP"]
    pods = [
        pod("router", ROUTER),
        pod("starting-router", ROUTER, ready=False),
        pod("ending-router", ROUTER, **ends),
        pod("head", HEAD),
        pod("replica", WORKER),
        pod("draining-replica", WORKER, ready=False, **ends),
        pod("loading-replica", WORKER, ready=False, started=False),
        failed,
        unplaced,
    ]
    assert [each["metadata"]["name"] for each in routers_to_ask(pods)] == ["router"]
    assert [each["metadata"]["name"] for each in replicas_to_ask(pods)] == ["replica", "draining-replica"]
