"""What the custom metrics API answers, as values: `custom.metrics.k8s.io/v1beta2`.

The shapes are those of k8s.io/metrics/pkg/apis/custom_metrics/v1beta2.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sundog_operator.core import names
from sundog_operator.core.load import Metric

GROUP: Final = "custom.metrics.k8s.io"
VERSION: Final = "v1beta2"
API_VERSION: Final = f"{GROUP}/{VERSION}"
RESOURCE: Final = f"{names.PLURAL}.{names.GROUP}"
PATH: Final = f"/apis/{API_VERSION}"

Answer = dict[str, Any]


def resource_list() -> Answer:
    """What can be asked for."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": API_VERSION,
        "resources": [
            {
                "name": f"{RESOURCE}/{metric}",
                "singularName": "",
                "namespaced": True,
                "kind": "MetricValueList",
                "verbs": ["get"],
            }
            for metric in Metric
        ],
    }


def metric_values(metric: Metric, values: dict[tuple[str, str], float], *, unix_seconds: float) -> Answer:
    """Give the value of one metric for LLMDeployments, by namespace and name."""
    timestamp = datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "kind": "MetricValueList",
        "apiVersion": API_VERSION,
        "metadata": {},
        "items": [
            {
                "describedObject": {
                    "kind": names.KIND,
                    "namespace": namespace,
                    "name": name,
                    "apiVersion": names.API_VERSION,
                },
                "metric": {"name": str(metric), "selector": None},
                "timestamp": timestamp,
                "value": quantity(value),
            }
            for (namespace, name), value in sorted(values.items())
        ],
    }


def quantity(value: float) -> str:
    """Write a number as a Kubernetes quantity, to a thousandth: `42`, `300m`."""
    thousandths = round(value * 1000)
    whole, rest = divmod(thousandths, 1000)
    return f"{thousandths}m" if rest else str(whole)


def failure(code: int, reason: str, message: str) -> Answer:
    """Say what went wrong; a HorizontalPodAutoscaler repeats the message word for word in its condition."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
