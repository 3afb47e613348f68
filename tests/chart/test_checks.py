"""What others' checks say of the chart as it is by default, and of all that the operator makes of an LLMDeployment.

A waiver names one check, and why it does not hold here; a waiver that nothing needs any more is a fault as well. Those
of checkov for the chart stand beside the chart, in `.checkov.yaml`.
"""

from pathlib import Path

import pytest
import yaml

from tests.chart.checkers import checkov, kube_score, kubectl_validate, kubernetes_validate
from tests.chart.rendering import CHART, rendered
from tests.unit.core.world import World, resource

KUBERNETES = ["1.34.0", "1.35.0", "1.36.0", "1.37.0"]

CHART_WAIVERS = {
    "container-image-pull-policy": "A release's tag does not move, and the operator starts without its registry.",
}
OPERATOR_WAIVERS = {
    "CKV_K8S_11": "A limit on processors makes a token late whenever others leave theirs unused; requests share them.",
    "container-resources": "Likewise; and whether a node's memory is shared is for spec.resources to say.",
    "CKV_K8S_35": "Ray, HAProxy and the hub's client look for their tokens there; a file hides them from nobody more.",
    "CKV_K8S_40": "1000 is the user that Ray's and vLLM's images were made for; no pod shares a folder with its host.",
    "container-security-context-user-group-id": "Likewise.",
    "container-ephemeral-storage-request-and-limit": "A model may be downloaded there: how large it is, nobody knows.",
    "container-image-pull-policy": "workloads.imagePullPolicy says it: a serving image has ten gigabytes.",
    "CKV_K8S_15": "Likewise.",
    "CKV_K8S_43": "A digest is for whoever installs to choose: workloads.*.digest and spec.engine.image take one.",
    "horizontalpodautoscaler-has-target": "It scales the LLMDeployment, which kube-score does not know.",
    "pod-probes-identical": "HAProxy that does not answer is neither ready nor alive; the thresholds differ.",
}


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart's default, without the CRD: its own API server is its judge, in ``tests/apiserver/api``."""
    path = tmp_path_factory.mktemp("checks") / "chart.yaml"
    path.write_text(rendered("--set=crds.enabled=false"))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the operator makes of an ordinary LLMDeployment with an autoscaler."""
    world = World(
        resource(
            replicas=2,
            resources={"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"nvidia.com/gpu": "1", "memory": "16Gi"}},
            autoscaling={"minReplicas": 1, "maxReplicas": 4},
        )
    )
    world.converge()
    objects = []
    for manifest in world.children.values():
        of_server = {"uid", "creationTimestamp"}
        metadata = {key: value for key, value in manifest["metadata"].items() if key not in of_server}
        objects.append({**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata})
    assert len(objects) > 10
    path = tmp_path_factory.mktemp("checks") / "made.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    return path


def check_ids(findings: list[str]) -> set[str]:
    return {finding.split()[0] for finding in findings}


def test_checkov_finds_nothing_in_the_chart(chart: Path) -> None:
    assert checkov(chart, f"--config-file={CHART / '.checkov.yaml'}") == []


def test_kube_score_finds_nothing_critical_in_the_chart(chart: Path) -> None:
    assert check_ids(kube_score(chart, kubernetes="1.34")) == set(CHART_WAIVERS)


def test_nothing_is_found_in_what_the_operator_makes_but_what_is_waived(made: Path) -> None:
    found = check_ids([*checkov(made), *kube_score(made, kubernetes="1.34")])
    assert found == set(OPERATOR_WAIVERS)


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_every_object_is_valid_in_every_supported_kubernetes(chart: Path, made: Path, kubernetes: str) -> None:
    assert kubernetes_validate(chart, kubernetes=kubernetes) == ""
    assert kubernetes_validate(made, kubernetes=kubernetes) == ""


def test_kubectl_validate_finds_every_object_valid(chart: Path, made: Path, tmp_path: Path) -> None:
    """It knows Kubernetes up to 1.30, whose fields all of ours are."""
    assert kubectl_validate(chart) == ""
    objects = list(yaml.safe_load_all(made.read_text()))
    # What a ControllerRevision keeps may be anything, and kubectl-validate lets it be nothing.
    known = [one for one in objects if one["kind"] != "ControllerRevision"]
    assert len(known) >= len(objects) - 1
    path = tmp_path / "known.yaml"
    path.write_text(yaml.safe_dump_all(known))
    assert kubectl_validate(path) == ""


def test_what_is_wrong_would_be_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "wrong", "namespace": "team"},
        "spec": {"containers": [{"name": "one", "image": "acme/one", "securityContext": {"privileged": True}}]},
    }
    wrong.write_text(yaml.safe_dump(pod))
    assert "CKV_K8S_16 Pod.team.wrong" in checkov(wrong)
    assert "container-security-context-privileged Pod/wrong" in kube_score(wrong, kubernetes="1.34")
    pod["spec"] = {"container": []}
    wrong.write_text(yaml.safe_dump(pod))
    assert "container" in kubernetes_validate(wrong, kubernetes="1.37.0")
    assert "container" in kubectl_validate(wrong)
