"""`doctor`: what is found in a cluster, and its cure, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sundog_cli.cures import known_reasons
from sundog_cli.doctor import Examination, Finding, State, findings, something_is_wrong
from sundog_operator.api.crd import custom_resource_definition
from sundog_operator.core.names import Manifest
from tests.docs_tests.test_docs import ROOT, rows
from tests.unit.cli.recorded import NOW, ready, snapshot, time
from tests.unit.core.world import World, resource

ESTABLISHED = {"conditions": [{"type": "Established", "status": "True"}]}
CRD = {**custom_resource_definition(), "status": ESTABLISHED}
OPERATOR: Manifest = {
    "metadata": {"name": "op", "namespace": "sundog-system", "labels": {"app.kubernetes.io/version": "1.2.3"}},
    "spec": {"replicas": 1},
    "status": {"availableReplicas": 1},
}
API_SERVICE: Manifest = {
    "metadata": {
        "name": "v1beta2.custom.metrics.k8s.io",
        "labels": {"app.kubernetes.io/managed-by": "sundog-operator"},
    },
    "spec": {"service": {"namespace": "sundog-system", "name": "op"}},
    "status": {"conditions": [{"type": "Available", "status": "True"}]},
}
LEASE: Manifest = {
    "metadata": {"name": "sundog-operator", "namespace": "sundog-system"},
    "spec": {"renewTime": time(NOW - 3), "leaseDurationSeconds": 15},
}
NODE: Manifest = {"status": {"allocatable": {"cpu": "4", "nvidia.com/gpu": "2"}}}
DEFAULT_CLASS = {"metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}
WELL = Examination(
    kubernetes=(1, 34),
    release="1.2.3",
    now=NOW,
    crds=[CRD],
    operators=[OPERATOR],
    leases=[LEASE],
    api_services=[API_SERVICE],
    nodes=[NODE],
    storage_classes=[DEFAULT_CLASS],
    snapshots=[snapshot(ready(resources={"limits": {"nvidia.com/gpu": "2"}}, parallelism={"tensor": 2}))],
)


def test_a_cluster_that_is_well_has_nothing_to_cure() -> None:
    found = findings(WELL)
    assert [(each.check, each.state, each.cure) for each in found if each.state is not State.OK or each.cure] == []
    assert not something_is_wrong(found)
    assert len({each.check for each in found}) == 8


def _crd_without(field: str) -> Manifest:
    crd: Manifest = {**custom_resource_definition(), "status": ESTABLISHED}
    del crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][field]
    return crd


def _crashing() -> Manifest:
    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    status = {"name": "operator", "image": "acme/op:1", "state": {"waiting": waiting}}
    return {"metadata": {"name": "op-1", "namespace": "sundog-system"}, "status": {"containerStatuses": [status]}}


STALLED = World(resource(podTemplate={"spec": {"hostNetwork": True}}))
STALLED.step()
ADAPTER = {
    "metadata": {"name": "v1beta1.custom.metrics.k8s.io"},
    "spec": {"service": {"namespace": "monitoring", "name": "prometheus-adapter"}},
}
QUOTA = {
    "metadata": {"name": "q", "namespace": "team"},
    "status": {"hard": {"pods": "10", "requests.cpu": "4"}, "used": {"pods": "3", "requests.cpu": "4000m"}},
}
LARGE = snapshot(World(resource(replicas=3, resources={"limits": {"amd.com/gpu": "1"}})))

CASES: dict[str, tuple[Examination, str, State, str, str]] = {
    "an old Kubernetes": (
        replace(WELL, kubernetes=(1, 33)), "Kubernetes", State.WRONG, "version 1.33", "upgrade the cluster to 1.34",
    ),
    "no CRD": (replace(WELL, crds=[]), "CustomResourceDefinition", State.WRONG, "does not know", "helm upgrade"),
    "a CRD in the way": (
        replace(WELL, crds=[{**CRD, "status": {}}]),
        "CustomResourceDefinition", State.WRONG, "not established", "kubectl describe crd",
    ),
    "an older CRD": (
        replace(WELL, crds=[_crd_without("rollout")]),
        "CustomResourceDefinition", State.WARNING, "it lacks spec.rollout", "-f crds/",
    ),
    "no operator": (replace(WELL, operators=[]), "Operator", State.WRONG, "no Deployment", "helm upgrade --install"),
    "an operator scaled to zero": (
        replace(WELL, operators=[{**OPERATOR, "spec": {"replicas": 0}}]),
        "Operator", State.WRONG, "scaled to 0", "kubectl scale deployment op",
    ),
    "an operator without its image": (
        replace(WELL, operators=[{**OPERATOR, "status": {}}], operator_pods=[_crashing()]),
        "Operator", State.WRONG, "image acme/op:1 cannot be pulled", "kubectl logs",
    ),
    "an operator that is silent": (
        replace(WELL, leases=[{**LEASE, "spec": {**LEASE["spec"], "renewTime": time(NOW - 60)}}]),
        "Operator", State.WRONG, "not renewed its Lease for 60 s", "kubectl rollout restart",
    ),
    "another release": (
        replace(WELL, release="1.2.4"), "Operator", State.WARNING, "release 1.2.3", "of the same release",
    ),
    "two operators": (
        replace(WELL, operators=[OPERATOR, OPERATOR]), "Operator", State.WARNING, "several", "watchNamespaces",
    ),
    "another metrics adapter": (
        replace(WELL, api_services=[ADAPTER]),
        "Custom metrics", State.WARNING, "monitoring/prometheus-adapter", "customMetrics.takeOver",
    ),
    "metrics that do not answer": (
        replace(WELL, api_services=[{**API_SERVICE, "status": {}}]),
        "Custom metrics", State.WRONG, "not available", "NetworkPolicy",
    ),
    "no metrics": (
        replace(WELL, api_services=[]), "Custom metrics", State.WARNING, "nobody serves", "customMetrics.enabled",
    ),
    "no GPU": (
        replace(WELL, nodes=[{"status": {}}], snapshots=[]), "GPUs", State.WARNING, "none of 1 nodes", "device plugin",
    ),
    "too few GPUs": (
        replace(WELL, snapshots=[LARGE]),
        "GPUs", State.WRONG, "ask for 3 amd.com/gpu, and the nodes offer 0", "add nodes",
    ),
    "no default StorageClass": (
        replace(WELL, storage_classes=[{"metadata": {"name": "slow"}}]),
        "StorageClass", State.WARNING, "there are slow", "spec.ray.head.storage.storageClassName",
    ),
    "a quota that is used up": (
        replace(WELL, quotas=[QUOTA]), "Quota", State.WARNING, "4000m of 4 requests.cpu", "raise it",
    ),
    "an LLMDeployment that is stalled": (
        replace(WELL, snapshots=[snapshot(STALLED)]),
        "LLMDeployments", State.WRONG, "InvalidSpec", "correct the field",
    ),
    "an LLMDeployment that nobody looks at": (
        replace(WELL, snapshots=[snapshot(World(resource()))]),
        "LLMDeployments", State.WRONG, "no operator has looked at it", "helm upgrade",
    ),
    "a right that is missing": (
        replace(WELL, nodes="you may not list nodes"),
        "GPUs", State.UNKNOWN, "you may not list nodes", "ask for the right",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_found_with_its_cure(case: str) -> None:
    seen, check, state, found, cure = CASES[case]
    told = [each for each in findings(seen) if each.check == check]
    assert any(each.state is state and found in each.found and cure in each.cure for each in told), told
    assert something_is_wrong(told) == (state is State.WRONG)


def test_every_finding_that_is_not_well_has_a_cure() -> None:
    told: list[Finding] = [each for seen, *_ in CASES.values() for each in findings(seen)]
    assert [each for each in told if each.state is not State.OK and not each.cure] == []


def test_every_reason_of_the_troubleshooting_page_has_a_cure_here() -> None:
    tables = (ROOT / "docs/troubleshooting.md").read_text().partition("## Answers of the endpoint")[0]
    reasons = {word.strip("` ") for row in rows(tables) for word in row.split("|")[1].split(",")}
    assert reasons - known_reasons() == set()
