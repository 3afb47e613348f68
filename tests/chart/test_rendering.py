"""What Helm makes of the chart."""

import re
import subprocess

import pytest
import yaml

from sundog_operator.api.types import LLMDeployment
from tests.apiserver.operator import rights
from tests.chart.generated import RENDERED, base
from tests.chart.rendering import CASES, CHART, GOLDEN, NAMESPACE, HelmError, helm, manifests, of_kind, rendered

# Helm is built with the cluster's components.
pytestmark = pytest.mark.apiserver

OPTIONS = [*CASES.values(), ("--set=serviceAccount.create=false", "--set=serviceAccount.name=mine")]


def rules(*options: str) -> list[tuple[str | None, dict[str, list[str]]]]:
    """Give every rule of the operator's roles with the namespace it holds in; None: in all of them."""
    return [
        (role["metadata"].get("namespace"), rule)
        for role in manifests(*options)
        if role["kind"] in {"Role", "ClusterRole"} and role["metadata"]["name"].startswith("sundog-operator")
        for rule in role["rules"]
    ]


def container(*options: str) -> dict[str, object]:
    found: dict[str, object] = of_kind("Deployment", *options)[0]["spec"]["template"]["spec"]["containers"][0]
    return found


def environment(*options: str) -> dict[str, str]:
    listed = container(*options)["env"]
    assert isinstance(listed, list)
    return {entry["name"]: entry.get("value", "") for entry in listed}


def test_the_chart_passes_lint() -> None:
    helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize("case", CASES)
def test_rendering_is_as_reviewed(case: str) -> None:
    golden = (GOLDEN / f"{case}.yaml").read_text()
    assert rendered(*CASES[case]) == golden, "if it is meant: python -m tests.chart.rendering"


@pytest.mark.parametrize("case", CASES)
def test_rendering_twice_gives_the_same(case: str) -> None:
    assert rendered(*CASES[case]) == rendered(*CASES[case])


def test_the_kustomize_base_is_the_chart_by_default() -> None:
    assert RENDERED.read_text() == base(), "run: make generate"
    objects = [one for one in yaml.safe_load_all(base()) if one]
    named = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects}
    helms = {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in manifests("--skip-tests")
    }
    assert named == helms | {("Namespace", None, NAMESPACE)}
    assert "helm" not in base().lower().replace(yaml.safe_dump(objects[0]), "")


def test_the_test_pod_is_no_pod_of_the_operator() -> None:
    """Else its Services would send requests there, and its budget would count it."""
    (pod,) = of_kind("Pod")
    (selector,) = {frozenset(one["spec"]["selector"].items()) for one in of_kind("Service")}
    assert not selector <= pod["metadata"]["labels"].items()
    assert pod["spec"]["containers"][0]["image"] == container()["image"]
    policy, _ = of_kind("NetworkPolicy", '--set-json=networkPolicy.metricsFrom=[{"podSelector":{}}]')
    peers = policy["spec"]["ingress"][0]["from"]
    assert {"app.kubernetes.io/name": "sundog-operator-test"}.items() <= peers[1]["podSelector"]["matchLabels"].items()


def test_the_installed_crd_is_the_generated_one_and_stays() -> None:
    (crd,) = of_kind("CustomResourceDefinition")
    generated = yaml.safe_load((CHART / "files" / "llmdeployments.yaml").read_text())
    assert crd["spec"] == generated["spec"]
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_crd_goes_with_the_chart_only_when_asked_for() -> None:
    (crd,) = of_kind("CustomResourceDefinition", "--set=crds.keep=false")
    assert "helm.sh/resource-policy" not in crd["metadata"].get("annotations", {})
    assert not of_kind("CustomResourceDefinition", "--set=crds.enabled=false")


@pytest.mark.parametrize("options", OPTIONS)
def test_no_role_has_a_wildcard(options: tuple[str, ...]) -> None:
    for _, rule in rules(*options):
        assert not any("*" in entry for entries in rule.values() for entry in entries), rule


@pytest.mark.parametrize("options", OPTIONS)
def test_no_secret_can_be_read_but_the_operators_own_key(options: tuple[str, ...]) -> None:
    readable = []
    for namespace, rule in rules(*options):
        if "secrets" in rule["resources"] and rule["verbs"] != ["create"]:
            readable.append((namespace, rule.get("resourceNames"), rule["verbs"]))
    assert readable == [(NAMESPACE, ["sundog-master-key"], ["get"])]


@pytest.mark.parametrize("options", OPTIONS)
def test_what_the_operator_may_do_is_what_it_was_seen_to_need(options: tuple[str, ...]) -> None:
    """That table is compared with an operator's requests, in ``tests/apiserver/operator``."""
    needed = rights.triples(
        [*rights.rules(rights.WORK | rights.KEDA), *rights.OWN, *rights.CLUSTER, *rights.CUSTOM_METRICS]
    )
    # Nobody asks for it: a cluster that protects its finalizers looks for it when an owner reference is written.
    needed.add(("sundog.dev", "llmdeployments/finalizers", "update"))
    assert rights.triples(rule for _, rule in rules(*options)) == needed


@pytest.mark.parametrize("options", OPTIONS)
def test_no_right_leads_to_other_rights(options: tuple[str, ...]) -> None:
    """Nothing that would let a stolen token become more than it is, beyond what creating pods' owners already means."""
    granted = {resource for _, rule in rules(*options) for resource in rule["resources"]}
    assert not granted & {"pods/exec", "pods/attach", "pods/ephemeralcontainers", "serviceaccounts/token", "nodes"}
    of_roles = [rule for _, rule in rules(*options) if "rbac.authorization.k8s.io" in rule["apiGroups"]]
    # To be the APIService's owner: its uid is looked up.
    assert [(rule["resourceNames"], rule["verbs"]) for rule in of_roles] == [
        (["sundog-operator-custom-metrics"], ["get"])
    ]


def test_watched_namespaces_are_the_only_ones_with_rights() -> None:
    everywhere = [rule for namespace, rule in rules(*CASES["watch-namespaces"]) if namespace is None]
    # What has no namespace: StorageClasses, and what the custom metrics API needs.
    assert {resource for rule in everywhere for resource in rule["resources"]} == {
        "storageclasses",
        "subjectaccessreviews",
        "apiservices",
        "clusterroles",
    }
    named = {namespace for namespace, _ in rules(*CASES["watch-namespaces"]) if namespace}
    assert named == {NAMESPACE, "team-a", "team-b"}
    assert environment(*CASES["watch-namespaces"])["SUNDOG_WATCH_NAMESPACES"] == "team-a,team-b"


@pytest.mark.parametrize("options", OPTIONS)
def test_the_chart_brings_no_secret(options: tuple[str, ...]) -> None:
    assert not of_kind("Secret", *options)


@pytest.mark.parametrize("options", OPTIONS)
def test_every_object_names_its_namespace(options: tuple[str, ...]) -> None:
    scoped = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    for manifest in manifests(*options):
        # Argo CD and `kubectl apply` would otherwise put it where they happen to be.
        assert ("namespace" in manifest["metadata"]) == (manifest["kind"] not in scoped), manifest["kind"]


def test_only_replicas_that_can_be_spared_have_a_disruption_budget() -> None:
    assert not of_kind("PodDisruptionBudget")
    (budget,) = of_kind("PodDisruptionBudget", "--set=replicas=2")
    assert budget["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize(
    ("options", "image"),
    [
        ((), "sundog-dev/sundog-operator:0.1.0"),
        (("--set=image.tag=dev",), "sundog-dev/sundog-operator:dev"),
        ((f"--set=image.digest=sha256:{'a' * 64}",), f"sundog-dev/sundog-operator@sha256:{'a' * 64}"),
        (
            ("--set=image.tag=dev", f"--set=image.digest=sha256:{'a' * 64}"),
            f"sundog-dev/sundog-operator:dev@sha256:{'a' * 64}",
        ),
        (("--set=image.repository=localhost:5000/mine/operator",), "localhost:5000/mine/operator:0.1.0"),
    ],
)
def test_images_are_named_by_tag_digest_or_both(options: tuple[str, ...], image: str) -> None:
    assert container(*options)["image"] == image


def test_the_serving_image_is_that_of_the_charts_version() -> None:
    assert environment()["SUNDOG_SERVING_IMAGE"] == "sundog-dev/sundog-serving:0.1.0"
    assert environment()["SUNDOG_ROUTER_IMAGE"] == "haproxy:3.2-alpine"


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--set=replica=2", "replica"),
        ("--set=image.name=mine", "name"),
        ("--set=workloads.servingImage.version=1", "version"),
        ("--set=image.repository=mine/operator:dev", "repository"),
        ("--set=logLevel=loud", "logLevel"),
        ("--set=watchNamespaces=team-a", "watchNamespaces"),
        ("--set=watchNamespaces={Team}", "watchNamespaces"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(option: str, named: str) -> None:
    with pytest.raises(HelmError, match=named):
        rendered(option)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "serves LLMDeployments of all namespaces."),
        (CASES["watch-namespaces"], "of the namespaces team-a, team-b.\n\nServe a model (add --namespace=team-a):"),
    ],
)
def test_the_notes_go_on_with_commands_that_work_as_they_are_pasted(options: tuple[str, ...], told: str) -> None:
    # Helm 4: without a cluster, `helm template` shows no notes, and Helm 3 nothing of an installation.
    shown = helm("install", "sundog", str(CHART), f"--namespace={NAMESPACE}", "--dry-run=client", *options)
    notes = shown.partition("\nNOTES:\n")[2]
    assert notes.startswith(f"Sundog 0.1.0 is installed in namespace {NAMESPACE} and serves")
    assert told in notes
    commands = re.findall(r"^ *((?:kubectl|curl) .*?) *[\\&]?$", notes, re.MULTILINE)
    assert [command.split(" -H ")[0] for command in commands] == [
        "kubectl apply -f - <<'EOF'",
        "kubectl wait --for=condition=Ready --timeout=30m llmdeployment/qwen3",
        "kubectl port-forward service/qwen3 8000",
        "curl http://127.0.0.1:8000/v1/chat/completions",
        "kubectl get llmdeployments --all-namespaces --output=wide",
        f"kubectl port-forward --namespace {NAMESPACE} deployment/sundog-operator 8080",
    ]
    # What the shell gives to kubectl: the end of a here-document that stands indented is none, and it waits for more.
    pasted = "kubectl() { [ $1 != apply ] || cat; }\n" + notes[notes.index("kubectl apply") : notes.index("Ask it:")]
    done = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    LLMDeployment.model_validate(yaml.safe_load(done.stdout))


def test_an_account_of_ones_own_must_be_named() -> None:
    with pytest.raises(HelmError, match=r"serviceAccount\.name is needed"):
        rendered("--set=serviceAccount.create=false")
