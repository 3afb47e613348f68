"""What the operator needs to be allowed: the table that a test compares with what it uses."""

from __future__ import annotations

from collections.abc import Iterable

from sundog_operator.core.names import Manifest

WORK: dict[tuple[str, str], set[str]] = {
    ("sundog.dev", "llmdeployments"): {"get", "list", "watch"},
    ("sundog.dev", "llmdeployments/status"): {"patch"},
    ("sundog.dev", "llmdeployments/scale"): {"update"},
    ("autoscaling", "horizontalpodautoscalers"): {"get", "list", "watch", "create", "patch", "delete"},
    ("apps", "deployments"): {"get", "list", "watch", "create", "patch", "delete"},
    ("apps", "controllerrevisions"): {"list", "watch", "create", "patch", "delete"},
    ("", "services"): {"get", "list", "watch", "create", "patch", "delete"},
    ("", "persistentvolumeclaims"): {"list", "watch", "create", "patch", "delete"},
    ("", "configmaps"): {"get", "list", "watch", "create", "patch"},
    ("", "serviceaccounts"): {"get", "list", "watch", "create", "patch"},
    ("networking.k8s.io", "networkpolicies"): {"get", "list", "watch", "create", "patch"},
    ("policy", "poddisruptionbudgets"): {"get", "list", "watch", "create", "patch"},
    ("", "pods"): {"list", "watch", "patch"},
    ("", "secrets"): {"create"},
    ("events.k8s.io", "events"): {"create"},
}
"""In each namespace that is watched."""
KEDA: dict[tuple[str, str], set[str]] = {
    ("keda.sh", "scaledobjects"): {"get", "list", "watch", "create", "patch", "delete"},
}
"""Likewise, where KEDA is installed."""
OWN: list[Manifest] = [
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["sundog-operator"],
        "verbs": ["get", "update"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["sundog-master-key"], "verbs": ["get"]},
]
"""In the operator's own namespace."""
CLUSTER: list[Manifest] = [
    {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": ["list", "watch"]},
]
CUSTOM_METRICS: list[Manifest] = [
    {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
    {"apiGroups": ["apiregistration.k8s.io"], "resources": ["apiservices"], "verbs": ["create"]},
    {
        "apiGroups": ["apiregistration.k8s.io"],
        "resources": ["apiservices"],
        "resourceNames": ["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"],
        "verbs": ["get", "patch"],
    },
    {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["get"]},
]
"""In the whole cluster, where the operator serves the custom metrics API."""


def rules(rights: dict[tuple[str, str], set[str]]) -> list[Manifest]:
    """As in a Role."""
    return [
        {"apiGroups": [group], "resources": [resource], "verbs": sorted(verbs)}
        for (group, resource), verbs in rights.items()
    ]


def triples(granted: Iterable[Manifest]) -> set[tuple[str, str, str]]:
    """API group, resource and verb of each right that the rules grant."""
    return {
        (group, resource, verb)
        for rule in granted
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def role(name: str, namespace: str, granted: list[Manifest]) -> list[Manifest]:
    """A Role and its binding to the ServiceAccount `operator` of the namespace."""
    api = "rbac.authorization.k8s.io"
    metadata = {"name": name, "namespace": namespace}
    return [
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata, "rules": granted},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}],
        },
    ]


def cluster_role(name: str, namespace: str) -> list[Manifest]:
    """A ClusterRole for what has no namespace, and its binding; and the right to know the API server."""
    api = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [*CLUSTER, *CUSTOM_METRICS],
        },
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": "kube-system"},
            "roleRef": {"apiGroup": api, "kind": "Role", "name": "extension-apiserver-authentication-reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}],
        },
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}],
        },
    ]
