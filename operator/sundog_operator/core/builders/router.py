"""The router: HAProxy pods and their configuration."""

from __future__ import annotations

from sundog_operator.core import names
from sundog_operator.core.builders.metadata import (
    RESTRICTED_CONTAINER,
    RESTRICTED_POD,
    child,
    labels,
    selector,
)
from sundog_operator.core.names import Manifest
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.router_config import RouterSettings, router_config

CONFIG_FOLDER = "/etc/sundog"
CONFIG_FILE = "haproxy.cfg"
CONFIG_HASH_ANNOTATION = f"{names.GROUP}/config-hash"
ROUTER_RESOURCES = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}


def settings(resolved: Resolved) -> RouterSettings:
    """What the configuration depends on. Replica counts are not in it: no reload when they change."""
    domain = f"{resolved.namespace}.svc.{resolved.config.cluster_domain}"
    router = resolved.spec.router
    return RouterSettings(
        replicas_host=f"{names.replicas_service(resolved.name)}.{domain}",
        head_host=f"{names.head_service(resolved.name)}.{domain}",
        max_ongoing_per_replica=router.max_ongoing_per_replica,
        max_queue=router.max_queue,
        request_timeout_seconds=resolved.timeouts.request,
        hard_stop_seconds=resolved.timeouts.router_hard_stop,
        suspended=resolved.spec.suspend,
    )


def config_hash(resolved: Resolved) -> str:
    """What tells one configuration of the routers from another: in their pods' annotation."""
    return names.short_hash(router_config(settings(resolved)))


def config_map(resolved: Resolved) -> Manifest:
    """The configuration."""
    body = {"data": {CONFIG_FILE: router_config(settings(resolved))}}
    return child(resolved, "v1", "ConfigMap", names.router(resolved.name), component=names.ROUTER, body=body)


def deployment(resolved: Resolved) -> Manifest:
    """Build the router pods; a changed configuration replaces them one by one, each after its soft stop."""
    container = {
        "name": "haproxy",
        "image": resolved.config.router_image,
        "imagePullPolicy": resolved.config.image_pull_policy,
        "command": ["haproxy", "-db", "-f", f"{CONFIG_FOLDER}/{CONFIG_FILE}"],
        "env": [
            {
                "name": names.REPLICA_TOKEN_VARIABLE,
                "valueFrom": {"secretKeyRef": {"name": resolved.token_secret, "key": "replica"}},
            }
        ],
        "ports": [
            {"name": "http", "containerPort": names.ROUTER_PORT},
            {"name": "metrics", "containerPort": names.ROUTER_METRICS_PORT},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/healthz", "port": names.ROUTER_METRICS_PORT},
            "periodSeconds": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": names.ROUTER_METRICS_PORT},
            "periodSeconds": 10,
            "failureThreshold": 3,
        },
        # SIGUSR1, the stop signal of the image, closes the listening socket at once: first every node must have heard
        # that this pod takes no more connections.
        "lifecycle": {"preStop": {"sleep": {"seconds": resolved.timeouts.pre_stop}}},
        "resources": _resources(resolved),
        "securityContext": dict(RESTRICTED_CONTAINER),
        "volumeMounts": [{"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True}],
    }
    name = names.router(resolved.name)
    pod: Manifest = {
        "serviceAccountName": resolved.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": resolved.timeouts.router_grace,
        "securityContext": dict(RESTRICTED_POD),
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": name}}],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(resolved, names.ROUTER)},
            }
        ],
    }
    if "imagePullSecrets" in resolved.spec.pod_template.get("spec", {}):
        pod["imagePullSecrets"] = resolved.spec.pod_template["spec"]["imagePullSecrets"]
    if resolved.spec.tolerations:
        pod["tolerations"] = [toleration.manifest() for toleration in resolved.spec.tolerations]
    template = {
        "metadata": {
            "labels": labels(resolved, names.ROUTER),
            "annotations": {CONFIG_HASH_ANNOTATION: config_hash(resolved)},
        },
        "spec": pod,
    }
    spec = {
        "replicas": resolved.spec.router.replicas,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "revisionHistoryLimit": 0,
        "selector": {"matchLabels": selector(resolved, names.ROUTER)},
        "template": template,
    }
    return child(resolved, "apps/v1", "Deployment", name, component=names.ROUTER, body={"spec": spec})


def _resources(resolved: Resolved) -> Manifest:
    written = resolved.spec.router.resources.manifest()
    return {key: value for key, value in written.items() if value} or ROUTER_RESOURCES
