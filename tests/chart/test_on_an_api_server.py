"""What a real API server says of the chart."""

import json
from collections.abc import Iterator

import pytest

from tests.chart.rendering import CASES, NAMESPACE, Manifest, manifests, of_kind
from tests.cluster import Cluster, ClusterError
from tests.cluster.waiting import until

pytestmark = pytest.mark.apiserver

OPERATOR = f"system:serviceaccount:{NAMESPACE}:sundog-operator"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def namespace(name: str, labels: dict[str, str] | None = None) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}}


@pytest.fixture(scope="module")
def cluster(control_plane: Cluster) -> Iterator[Cluster]:
    """The API server with the namespaces of the cases; what tests leave there goes with them."""
    control_plane.apply([namespace(NAMESPACE, RESTRICTED), namespace("team-a"), namespace("team-b")])
    yield control_plane
    control_plane.kubectl("delete", "namespace", NAMESPACE, "team-a", "team-b", "--wait=false")


@pytest.fixture
def watching_all(cluster: Cluster) -> Iterator[Cluster]:
    yield from applied(cluster, ())


@pytest.fixture
def watching_two(cluster: Cluster) -> Iterator[Cluster]:
    yield from applied(cluster, CASES["watch-namespaces"])


def applied(cluster: Cluster, options: tuple[str, ...]) -> Iterator[Cluster]:
    """Apply the rights alone: there is no node for the rest."""
    kinds = {"ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}
    rights = [manifest for manifest in manifests(*options) if manifest["kind"] in kinds]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": rights})
    cluster.apply(rights)
    try:
        yield cluster
    finally:
        cluster.kubectl("delete", "--filename=-", "--wait", stdin=listed)


def may(cluster: Cluster, verb: str, resource: str, *, where: str, name: str = "", user: str = OPERATOR) -> bool:
    group, _, plural = resource.rpartition("/")
    attributes = {"verb": verb, "group": group, "resource": plural, "namespace": where, "name": name}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    answer = cluster.kubectl("create", "--filename=-", "--output=json", stdin=json.dumps(review))
    return bool(json.loads(answer)["status"]["allowed"])


@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_every_object_as_it_stands(cluster: Cluster, case: str) -> None:
    every = "--set=crds.enabled=true"
    found = manifests(*CASES[case], every)
    # A pod, as the one of `helm test`, is refused where its account is not there, in a dry run, too.
    cluster.apply(manifest for manifest in found if manifest["kind"] == "ServiceAccount")
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": found})
    strictly = ("--dry-run=server", "--validate=strict", "--server-side", "--field-manager=test")
    cluster.kubectl("apply", *strictly, "--filename=-", stdin=listed)


def test_the_operators_pod_satisfies_the_restricted_level(cluster: Cluster) -> None:
    template = of_kind("Deployment")[0]["spec"]["template"]
    cluster.apply([of_kind("ServiceAccount")[0]])
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**template["metadata"], "name": "operator", "namespace": NAMESPACE}
    cluster.kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(pod))
    pod["spec"] = {**template["spec"], "hostNetwork": True}
    with pytest.raises(ClusterError, match="violates PodSecurity"):  # so the level is indeed enforced
        cluster.kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(pod))


def test_the_operator_may_do_its_work_and_read_no_secret(watching_all: Cluster) -> None:
    assert may(watching_all, "patch", "apps/deployments", where="team-a")
    assert may(watching_all, "create", "secrets", where="team-a")
    for verb in ("get", "list", "watch", "update", "patch", "delete", "deletecollection"):
        assert not may(watching_all, verb, "secrets", where="team-a"), verb
        assert not may(watching_all, verb, "secrets", where="team-a", name="sundog-master-key"), verb
    assert may(watching_all, "get", "secrets", where=NAMESPACE, name="sundog-master-key")
    assert not may(watching_all, "get", "secrets", where=NAMESPACE, name="another")
    assert not may(watching_all, "list", "secrets", where=NAMESPACE)
    assert not may(watching_all, "create", "pods/exec", where="team-a")


def test_an_operator_of_two_namespaces_has_no_right_in_a_third(watching_two: Cluster) -> None:
    for resource in ("sundog.dev/llmdeployments", "apps/deployments", "pods", "configmaps"):
        assert may(watching_two, "list", resource, where="team-a"), resource
        assert may(watching_two, "list", resource, where="team-b"), resource
        assert not may(watching_two, "list", resource, where="default"), resource
        assert not may(watching_two, "list", resource, where=""), resource
    assert may(watching_two, "create", "secrets", where=NAMESPACE)
    assert not may(watching_two, "create", "secrets", where="default")


@pytest.mark.parametrize(("role", "writes"), [("view", False), ("edit", True), ("admin", True)])
def test_people_get_their_rights_by_the_clusters_own_roles(watching_all: Cluster, *, role: str, writes: bool) -> None:
    def verbs() -> set[str]:
        found = json.loads(watching_all.kubectl("get", "clusterrole", role, "--output=json"))
        rules = (rule for rule in found["rules"] if "llmdeployments" in rule.get("resources", []))
        return {verb for rule in rules for verb in rule["verbs"]}

    # A controller puts the rules together, in its own time.
    assert until(lambda: "get" in verbs() and ("create" in verbs()) == writes, seconds=20)
