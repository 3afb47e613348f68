"""Whom the NetworkPolicies admit where: computed from the built objects, as Kubernetes reads them."""

from __future__ import annotations

from typing import NamedTuple

from sundog_operator.core.names import COMPONENT_LABEL, Manifest
from tests.unit.core.world import World, resource

ALL = "all ports"


class Pod(NamedTuple):
    namespace: str
    labels: dict[str, str]


def parts(name: str, *, namespace: str = "team") -> dict[str, Pod]:
    """The pods of an LLMDeployment, by component."""
    world = World(resource(name))
    world.converge()
    templates = [one["spec"]["template"] for key, one in world.children.items() if key.kind == "Deployment"]
    found = [template["metadata"]["labels"] for template in templates]
    return {labels[COMPONENT_LABEL]: Pod(namespace, labels) for labels in found}


OPERATOR = {"app.kubernetes.io/name": "sundog-operator"}
PODS = {
    **parts("qwen3"),
    "operator": Pod("sundog-system", OPERATOR),
    # Who must stand in no row: each differs from one who does by one thing.
    "namesake of the operator": Pod("team", OPERATOR),
    "neighbour of the operator": Pod("sundog-system", {"app.kubernetes.io/name": "gateway"}),
    **{f"{name} of another": pod for name, pod in parts("other").items()},
    **{f"{name} of a namesake": pod for name, pod in parts("qwen3", namespace="other-team").items()},
}


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}, "this test knows nothing else"
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def is_meant(pod: Pod, peer: Manifest) -> bool:
    """Both selectors of one peer must fit; without one for namespaces it is the policy's own."""
    assert peer.keys() <= {"namespaceSelector", "podSelector"}, "this test knows nothing else"
    namespace = {"kubernetes.io/metadata.name": pod.namespace}
    own = pod.namespace == "team"
    there = selects(peer["namespaceSelector"], namespace) if "namespaceSelector" in peer else own
    return there and selects(peer.get("podSelector", {}), pod.labels)


def admitted(policy: Manifest) -> set[tuple[str, str]]:
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    found = set()
    for rule in policy["spec"]["ingress"]:
        ports = [f"{one['protocol']} {one['port']}" for one in rule.get("ports", ())] or [ALL]
        who = [name for name, pod in PODS.items() if any(is_meant(pod, peer) for peer in rule.get("from", ()))]
        found |= {(name, port) for name in (who if rule.get("from") else ["anybody"]) for port in ports}
    return found


def test_each_part_is_reached_by_those_who_need_it_and_by_nobody_else() -> None:
    world = World(resource())
    world.converge()
    found: dict[str, set[tuple[str, str]]] = {}
    for key, policy in world.children.items():
        if key.kind == "NetworkPolicy":
            for name, pod in PODS.items():
                if is_meant(pod, {"podSelector": policy["spec"]["podSelector"]}):
                    found.setdefault(name, set()).update(admitted(policy))
    assert found == {
        # Clients come from anywhere, Prometheus too.
        "router": {("anybody", "TCP 8000"), ("anybody", "TCP 8404")},
        # Ray's nodes talk on ports that are not known beforehand.
        "head": {
            ("router", ALL),
            ("head", ALL),
            ("worker", ALL),
            ("operator", "TCP 8265"),
            ("anybody", "TCP 8080"),
        },
        "worker": {
            ("router", ALL),
            ("head", ALL),
            ("worker", ALL),
            ("operator", "TCP 30000"),
            ("anybody", "TCP 8080"),
        },
    }
