"""Objects that stand for the whole LLMDeployment, whatever its revisions: identity, tokens, access, budgets."""

from __future__ import annotations

import base64

from sundog_operator.core import names
from sundog_operator.core.builders.metadata import child, selector
from sundog_operator.core.names import Manifest
from sundog_operator.core.resolve import Resolved


def service_account(resolved: Resolved) -> Manifest:
    """Identity of all pods. None of them talks to the Kubernetes API, so none gets a token."""
    body = {"automountServiceAccountToken": False}
    return child(resolved, "v1", "ServiceAccount", resolved.name, component="serviceaccount", body=body)


def token_secret(resolved: Resolved) -> Manifest:
    """Tokens of Ray and the replicas: immutable, only ever created, since the operator can't read or change Secrets."""
    data = {"ray": resolved.ray_token, "replica": resolved.replica_token}
    body = {
        "type": "Opaque",
        "immutable": True,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }
    return child(resolved, "v1", "Secret", resolved.token_secret, component="token", body=body)


def client_service(resolved: Resolved) -> Manifest:
    """The address that clients use."""
    service = resolved.spec.service
    manifest = child(
        resolved,
        "v1",
        "Service",
        resolved.name,
        component=names.ROUTER,
        body={
            "spec": {
                "type": service.type,
                "selector": selector(resolved, names.ROUTER),
                "ports": [{"name": "http", "port": service.port, "targetPort": "http", "appProtocol": "http"}],
            }
        },
    )
    if service.annotations:
        manifest["metadata"]["annotations"] = dict(service.annotations)
    return manifest


def replicas_service(resolved: Resolved) -> Manifest:
    """Addresses of all workers, loading ones too: the delay of DNS hides behind the loading of the model."""
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(resolved, names.WORKER),
        "ports": [{"name": "http", "port": names.REPLICA_PORT}],
    }
    name = names.replicas_service(resolved.name)
    return child(resolved, "v1", "Service", name, component=names.WORKER, body={"spec": spec})


def head_service(resolved: Resolved, *, in_charge: str) -> Manifest:
    """The head that holds requests while no replica is up. Which revision it selects says which one is in charge."""
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(resolved, names.HEAD, revision=in_charge),
        "ports": [{"name": "http", "port": names.HEAD_PROXY_PORT}],
    }
    name = names.head_service(resolved.name)
    return child(resolved, "v1", "Service", name, component=names.HEAD, body={"spec": spec})


def network_policies(resolved: Resolved) -> list[Manifest]:
    """Who may call whom: clients the router, it the replicas, the operator heads and replicas, Ray's nodes others."""
    own = {"podSelector": {"matchLabels": {names.NAME_LABEL: resolved.name}}}
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": resolved.config.namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "sundog-operator"}},
    }
    metrics = {"ports": [_tcp(names.RAY_METRICS_PORT)]}
    ingress = {
        names.ROUTER: [{"ports": [_tcp(names.ROUTER_PORT), _tcp(names.ROUTER_METRICS_PORT)]}],
        names.HEAD: [{"from": [own]}, {"from": [operator], "ports": [_tcp(names.DASHBOARD_PORT)]}, metrics],
        names.WORKER: [{"from": [own]}, {"from": [operator], "ports": [_tcp(names.REPLICA_PORT)]}, metrics],
    }
    return [
        child(
            resolved,
            "networking.k8s.io/v1",
            "NetworkPolicy",
            f"{resolved.name}-{component}",
            component=component,
            body={
                "spec": {
                    "podSelector": {"matchLabels": selector(resolved, component)},
                    "policyTypes": ["Ingress"],
                    "ingress": rules,
                }
            },
        )
        for component, rules in ingress.items()
    ]


def disruption_budgets(resolved: Resolved) -> list[Manifest]:
    """One router and one worker at a time may be taken by a drain."""
    return [
        child(
            resolved,
            "policy/v1",
            "PodDisruptionBudget",
            f"{resolved.name}-{component}",
            component=component,
            body={"spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(resolved, component)}}},
        )
        for component in (names.ROUTER, names.WORKER)
    ]


def _tcp(port: int) -> dict[str, str | int]:
    return {"port": port, "protocol": "TCP"}
