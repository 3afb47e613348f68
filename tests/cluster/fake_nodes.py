"""Nodes that do not exist: KWOK reports them ready, and the pods on them too."""

from collections.abc import Mapping
from typing import Any

from .plan import Level

TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}


def manifests(*, count: int, level: Level, gpus: int, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Describe fake nodes ``fake-0`` and on, each with 64 processors, 512 GiB and the given GPUs.

    Beside a real node they carry a taint, so that only pods which say so land on them.
    """
    capacity = {"cpu": "64", "memory": "512Gi", "pods": "500", "ephemeral-storage": "1Ti"}
    if gpus:
        capacity["nvidia.com/gpu"] = str(gpus)
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": f"fake-{number}",
                "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
                "labels": {"kubernetes.io/hostname": f"fake-{number}", "type": "kwok", **labels},
            },
            "spec": {"taints": [TAINT] if level is Level.NODE else []},
            "status": {"allocatable": capacity, "capacity": capacity},
        }
        for number in range(count)
    ]
