"""The LLMDeployments of the bench: as the peers' were, one head and three workers each."""

from __future__ import annotations

from sundog_operator.core import names
from tests.bench.api import Manifest

REPLICAS = 3


def name(number: int) -> str:
    """Name the resource of this number."""
    return f"model-{number:03}"


def llm_deployment(number: int, *, namespace: str) -> Manifest:
    """Describe the resource of this number."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name(number), "namespace": namespace},
        "spec": {
            "replicas": REPLICAS,
            "model": {"uri": "hf://sundog/bench"},
            "engine": {"name": "fake"},
            "resources": {"requests": {"cpu": "100m"}},
        },
    }
