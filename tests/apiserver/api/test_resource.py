"""The LLMDeployment as people and controllers meet it: kubectl, scale, server-side apply; and what its rules cost."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from sundog_operator.api.crd import custom_resource_definition
from sundog_operator.api.rules import KEYWORD
from sundog_operator.api.types import LLMDeployment
from tests.cluster import Cluster, ClusterError

from .conftest import LLMDeployments, Manifest, manifest

pytestmark = pytest.mark.apiserver

LEAST = {"model": {"uri": "a/b"}}
READY = {
    "type": "Ready",
    "status": "False",
    "reason": "ModelNotFound",
    "message": "hf://a/b is not on the hub",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


class Kubectl:
    """kubectl in the test's namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def __call__(self, *arguments: str, stdin: Manifest | None = None) -> str:
        text = None if stdin is None else json.dumps(stdin)
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, stdin=text)

    def apply(self, resource: Manifest, *arguments: str, manager: str = "test") -> None:
        self("apply", "--server-side", f"--field-manager={manager}", *arguments, "--filename=-", stdin=resource)

    def report(self, status: Manifest) -> None:
        """Write a status as the operator does."""
        resource = manifest({}, status=status)
        del resource["spec"]
        self.apply(resource, "--subresource=status", manager="sundog-status")


@pytest.fixture
def kubectl(cluster: Cluster, namespace: str) -> Kubectl:
    return Kubectl(cluster, namespace)


def test_kubectl_scale_writes_the_replicas(kubectl: Kubectl, llmdeployments: LLMDeployments) -> None:
    llmdeployments.create(manifest(LEAST))
    kubectl("scale", "llmdeployment/model", "--replicas=3")
    assert llmdeployments.get("model")["spec"]["replicas"] == 3


def test_an_autoscaler_may_not_go_beyond_the_bounds(kubectl: Kubectl, llmdeployments: LLMDeployments) -> None:
    llmdeployments.create(manifest(LEAST))
    with pytest.raises(ClusterError, match="should be less than or equal to 256"):
        kubectl("scale", "llmdeployment/model", "--replicas=300")


def test_the_scale_subresource_tells_replicas_and_selector(kubectl: Kubectl, llmdeployments: LLMDeployments) -> None:
    llmdeployments.create(manifest(LEAST))
    kubectl.report({"replicas": 2, "selector": "sundog.dev/llmdeployment=model"})
    scale = json.loads(kubectl("get", "llmdeployment/model", "--subresource=scale", "--output=json"))
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == {"replicas": 2, "selector": "sundog.dev/llmdeployment=model"}


def test_kubectl_get_shows_model_replicas_readiness_and_reason(
    kubectl: Kubectl, llmdeployments: LLMDeployments
) -> None:
    llmdeployments.create(manifest(LEAST))
    kubectl.report({"readyReplicas": 0, "url": "http://model.test.svc:8000/v1", "conditions": [READY]})
    header, row = kubectl("get", "llmdeploy").splitlines()
    assert header.split() == ["NAME", "MODEL", "REPLICAS", "READY-REPLICAS", "READY", "STATUS", "AGE"]
    assert row.split()[:6] == ["model", "a/b", "1", "0", "False", "ModelNotFound"]
    wide = kubectl("get", "llmdeployments", "--output=wide")
    assert "hf://a/b is not on the hub" in wide
    assert "http://model.test.svc:8000/v1" in wide


@pytest.mark.parametrize("category", ["all", "llm-serving"])
def test_kubectl_get_finds_it_in_its_categories(
    kubectl: Kubectl, llmdeployments: LLMDeployments, category: str
) -> None:
    llmdeployments.create(manifest(LEAST))
    assert "llmdeployment.sundog.dev/model" in kubectl("get", category, "--output=name").splitlines()


def test_kubectl_explain_says_what_a_field_is_for(kubectl: Kubectl) -> None:
    said = " ".join(kubectl("explain", "llmdeployment.spec.requestTimeoutSeconds").split())
    assert "every drain and grace time is derived from it" in said
    assert "Default: 600" in said


def test_a_status_that_nobody_wrote_says_that_nobody_looked(kubectl: Kubectl, llmdeployments: LLMDeployments) -> None:
    stored = llmdeployments.create(manifest(LEAST, status={"url": "http://forged"}))
    assert stored["status"] == {"observedGeneration": -1}
    kubectl.report({"observedGeneration": 1, "conditions": [READY]})
    status = LLMDeployment.model_validate(llmdeployments.get("model")).status
    assert status.observed_generation == 1
    assert status.conditions[0].reason == "ModelNotFound"


def test_two_managers_each_keep_their_own_variable(kubectl: Kubectl, llmdeployments: LLMDeployments) -> None:
    mine = copy.deepcopy(LEAST) | {"engine": {"env": [{"name": "A", "value": "a"}]}}
    theirs = {"engine": {"env": [{"name": "B", "value": "b"}]}, "model": {"uri": "a/b"}}
    kubectl.apply(manifest(mine), manager="person")
    kubectl.apply(manifest(theirs), manager="pipeline")
    assert [variable["name"] for variable in llmdeployments.get("model")["spec"]["engine"]["env"]] == ["A", "B"]


def test_a_child_of_unknown_type_keeps_every_byte(kubectl: Kubectl, llmdeployments: LLMDeployments) -> None:
    args = {"hf-overrides": {"Deep": [{"x": 1.5}, None, True]}, "dtype": "auto"}
    template = {"spec": {"containers": [{"name": "engine", "resources": {"claims": [{"name": "gpu"}]}}]}}
    kubectl.apply(manifest(LEAST | {"engine": {"args": args}, "podTemplate": template}))
    stored = LLMDeployment.model_validate(llmdeployments.get("model")).spec
    assert stored.engine.args == args
    assert stored.pod_template == template


def test_the_rules_cost_a_small_part_of_what_the_server_allows(cluster: Cluster) -> None:
    """Every expression stands many times in one; the server refuses what could cost too much, alone or in sum.

    A tenth is the aim. Kubernetes 1.34 estimates one rule, of the name, at 22 %.
    """
    server = json.loads(cluster.kubectl("version", "--output=json"))["serverVersion"]
    times = 10 if int(server["minor"]) >= 37 else 4
    crd = custom_resource_definition()
    crd["spec"]["group"] = "costly.example.com"
    crd["metadata"]["name"] = "llmdeployments.costly.example.com"
    version = crd["spec"]["versions"][0]
    version["schema"]["openAPIV3Schema"] = _repeated(version["schema"]["openAPIV3Schema"], times)
    cluster.kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(crd))


def _repeated(schema: Any, times: int) -> Any:
    if isinstance(schema, list):
        return [_repeated(item, times) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _repeated(value, times) for key, value in schema.items()}
    if KEYWORD in schema:
        result[KEYWORD] = [rule | {"rule": " && ".join([f"({rule['rule']})"] * times)} for rule in schema[KEYWORD]]
    return result
