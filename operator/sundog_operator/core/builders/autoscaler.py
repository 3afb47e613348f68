"""The object that scales: a HorizontalPodAutoscaler, or a ScaledObject of KEDA."""

from __future__ import annotations

from sundog_operator.core import names
from sundog_operator.core.autoscaling import HPA, SCALED_OBJECT, Autoscaler
from sundog_operator.core.builders.metadata import child
from sundog_operator.core.load import Metric
from sundog_operator.core.names import Manifest
from sundog_operator.core.resolve import Resolved

COMPONENT = "autoscaler"
KEDA_POLLING_SECONDS = 5


def horizontal_pod_autoscaler(resolved: Resolved, wanted: Autoscaler) -> Manifest:
    """Build it. It never goes below one: the operator itself takes the last replica and brings the first."""
    body = {
        "spec": {
            "scaleTargetRef": _target(resolved),
            "minReplicas": max(wanted.min_replicas, 1),
            "maxReplicas": wanted.max_replicas,
            "metrics": [_metric(resolved, metric, amount) for metric, amount in wanted.metrics],
            "behavior": dict(wanted.behavior),
        }
    }
    return child(resolved, "autoscaling/v2", HPA, resolved.name, component=COMPONENT, body=body)


def _metric(resolved: Resolved, metric: Metric, amount: str) -> Manifest:
    # A share is the same for one replica as for all; of the others each replica has its part.
    average = metric != Metric.KV_CACHE_UTILIZATION
    target = {"type": "AverageValue", "averageValue": amount} if average else {"type": "Value", "value": amount}
    return {
        "type": "Object",
        "object": {"metric": {"name": str(metric)}, "describedObject": _target(resolved), "target": target},
    }


def scaled_object(resolved: Resolved, wanted: Autoscaler) -> Manifest:
    """Build it; KEDA makes a HorizontalPodAutoscaler of it, and takes the last replica itself."""
    config = resolved.config
    host = f"{config.metrics_service}.{config.namespace}.svc.{config.cluster_domain}:{config.http_port}"
    triggers = [
        {
            "type": "metrics-api",
            "metricType": "AverageValue" if metric != Metric.KV_CACHE_UTILIZATION else "Value",
            "metadata": {
                "url": f"http://{host}/loads/{resolved.namespace}/{resolved.name}",
                "format": "json",
                "valueLocation": str(metric),
                "targetValue": amount,
            },
        }
        for metric, amount in wanted.metrics
    ]
    spec = {
        "scaleTargetRef": _target(resolved),
        "pollingInterval": KEDA_POLLING_SECONDS,
        "minReplicaCount": wanted.min_replicas,
        "maxReplicaCount": wanted.max_replicas,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": dict(wanted.behavior)}},
        "triggers": triggers,
    }
    if wanted.idle_seconds is not None:
        spec["cooldownPeriod"] = wanted.idle_seconds
    return child(resolved, "keda.sh/v1alpha1", SCALED_OBJECT, resolved.name, component=COMPONENT, body={"spec": spec})


def _target(resolved: Resolved) -> Manifest:
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": resolved.name}
