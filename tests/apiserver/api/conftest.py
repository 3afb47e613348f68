"""LLMDeployments on a real API server: create, read, be refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import kubernetes
import pytest

from sundog_operator.api.types import GROUP, KIND, PLURAL, VERSION

Manifest = dict[str, Any]


def manifest(spec: Manifest, *, name: str = "model", **rest: Any) -> Manifest:
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": name}, "spec": spec} | rest


@dataclass(frozen=True)
class LLMDeployments:
    """The LLMDeployments of one namespace."""

    objects: kubernetes.client.CustomObjectsApi
    namespace: str

    def create(self, resource: Manifest, *, dry_run: bool = False) -> Manifest:
        asked = {"dry_run": "All"} if dry_run else {}
        made: Manifest = self.objects.create_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, resource, field_validation="Strict", **asked
        )
        return made

    def get(self, name: str) -> Manifest:
        found: Manifest = self.objects.get_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)
        return found

    def refusal(self, resource: Manifest) -> list[str]:
        """What the server says to `resource`: one line per fault, `<path>: <sentence>`."""
        with pytest.raises(kubernetes.client.ApiException) as refused:
            self.create(resource, dry_run=True)
        status = json.loads(refused.value.body)
        causes = status.get("details", {}).get("causes")
        if not causes:
            return [status["message"]]
        return [f"{cause.get('field')}: {cause['message']}" for cause in causes]


@pytest.fixture
def llmdeployments(api: kubernetes.client.ApiClient, namespace: str) -> LLMDeployments:
    return LLMDeployments(kubernetes.client.CustomObjectsApi(api), namespace)


@pytest.fixture(scope="session")
def anywhere(api: kubernetes.client.ApiClient) -> LLMDeployments:
    """For tests that store nothing."""
    return LLMDeployments(kubernetes.client.CustomObjectsApi(api), "default")
