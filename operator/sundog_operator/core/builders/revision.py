"""Objects of one revision: a Ray head with its state, and the workers, one pod per replica."""

from __future__ import annotations

import json
from typing import Any

from sundog_operator.core import names
from sundog_operator.core.builders.metadata import (
    RESTRICTED_CONTAINER,
    RESTRICTED_POD,
    child,
    labels,
    selector,
)
from sundog_operator.core.builders.ray_environment import GCS_FOLDER, ray_environment
from sundog_operator.core.names import Manifest
from sundog_operator.core.pod_template import merge_pod_template
from sundog_operator.core.resolve import Resolved

# A head without Ray Client, job API and all of the dashboard but Serve's REST API takes 833 MB (PSS) instead of 1,105.
RAY_START = ["tini", "--", "python3", "-m", "sundog_serving.ray_node", "start"]
# Prompts and tokens never pass through the object store; 78 MiB is the least that Ray accepts.
_COMMON_ARGUMENTS = [
    f"--metrics-export-port={names.RAY_METRICS_PORT}",
    # With ports that are known the node need not wait until its agents have loaded: sundog_serving.ray_node.
    f"--dashboard-agent-grpc-port={names.RAY_DASHBOARD_AGENT_PORT}",
    f"--runtime-env-agent-port={names.RAY_RUNTIME_ENV_AGENT_PORT}",
    "--object-store-memory=100000000",
    "--include-log-monitor=false",  # it would copy the workers' output to a driver, which there is none of
    # Ray's own workers choose their ports; they must not choose the replica's.
    "--min-worker-port=20000",
    "--max-worker-port=20999",
    "--disable-usage-stats",
    "--block",
]
# A head with Serve takes about 0.8 GB (PSS); it works only when something changes.
HEAD_RESOURCES = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "3Gi"}}
# What has no replica has nothing to drain: a container that a probe ends need not wait for requests.
_PROBE_GRACE_SECONDS = 30
_HEAD_GRACE_SECONDS = 5
_LISTENS_SECONDS = 2


def head_claim(resolved: Resolved, revision: str) -> Manifest:
    """Claim for the head's state."""
    storage = resolved.spec.ray.head.storage
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.storage_class_name:
        spec["storageClassName"] = storage.storage_class_name
    return _child(resolved, "v1", "PersistentVolumeClaim", revision, component=names.HEAD, body={"spec": spec})


def head_service(resolved: Resolved, revision: str) -> Manifest:
    """Stable DNS name of the head: workers find its GCS here, also while it is not ready yet."""
    ports = {"gcs": names.GCS_PORT, "dashboard": names.DASHBOARD_PORT, "http": names.HEAD_PROXY_PORT}
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(resolved, names.HEAD, revision=revision),
        "ports": [{"name": name, "port": port} for name, port in ports.items()],
    }
    return _child(resolved, "v1", "Service", revision, component=names.HEAD, body={"spec": spec})


def head_deployment(resolved: Resolved, revision: str, *, state_on_claim: bool) -> Manifest:
    """Build the head: control plane of the revision's Ray cluster, never in the path of a request that a replica takes.

    `state_on_claim` is whether there is a claim for its state; without one a lost head restarts the replicas.
    """
    command = [
        *RAY_START,
        "--head",
        "--no-monitor",
        f"--port={names.GCS_PORT}",
        "--dashboard-host=0.0.0.0",
        f"--dashboard-port={names.DASHBOARD_PORT}",
        "--num-cpus=0",
        "--num-gpus=0",
        *_COMMON_ARGUMENTS,
    ]
    claim = names.revision_head(resolved.name, revision)
    state = {"persistentVolumeClaim": {"claimName": claim}} if state_on_claim else {"emptyDir": {}}
    container = _container(resolved, "head", command, component=names.HEAD) | {
        "ports": [
            {"name": "gcs", "containerPort": names.GCS_PORT},
            {"name": "dashboard", "containerPort": names.DASHBOARD_PORT},
            {"name": "http", "containerPort": names.HEAD_PROXY_PORT},
            {"name": "metrics", "containerPort": names.RAY_METRICS_PORT},
        ],
        "readinessProbe": {"tcpSocket": {"port": names.DASHBOARD_PORT}, "periodSeconds": 1},
        "livenessProbe": {
            "tcpSocket": {"port": names.GCS_PORT},
            "initialDelaySeconds": 30,
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
        "resources": _resources(resolved.spec.ray.head.resources.manifest(), HEAD_RESOURCES),
    }
    container["volumeMounts"] = [*container["volumeMounts"], {"name": "gcs", "mountPath": GCS_FOLDER}]
    # A head has nothing to drain, and until it is gone its successor waits for the lock on its state.
    pod = _pod(resolved, [container], volumes=[{"name": "gcs", **state}], grace_seconds=_HEAD_GRACE_SECONDS)
    template = {"metadata": {"labels": labels(resolved, names.HEAD, revision=revision)}, "spec": pod}
    if "imagePullSecrets" in resolved.spec.pod_template.get("spec", {}):
        pod["imagePullSecrets"] = resolved.spec.pod_template["spec"]["imagePullSecrets"]
    recreate = {"type": "Recreate"}  # two heads on one state would be two truths
    return _deployment(resolved, revision, names.HEAD, template, replicas=1, strategy=recreate)


def worker_deployment(resolved: Resolved, revision: str, *, replicas: int) -> Manifest:
    """Build the workers: one pod = one Ray node = one Serve replica, and the pod is ready when the replica is."""
    host = f"{names.revision_head(resolved.name, revision)}.{resolved.namespace}.svc.{resolved.config.cluster_domain}"
    command = [
        *RAY_START,
        f"--address={host}:{names.GCS_PORT}",
        "--num-cpus=1",
        f"--num-gpus={resolved.gpus}",
        f"--resources={json.dumps({names.REPLICA_RESOURCE: 1})}",
        *_COMMON_ARGUMENTS,
    ]
    health = {"path": "/-/healthz", "port": names.REPLICA_PORT}
    container = _container(resolved, "engine", command, component=names.WORKER) | {
        "ports": [
            {"name": "http", "containerPort": names.REPLICA_PORT},
            {"name": "metrics", "containerPort": names.RAY_METRICS_PORT},
        ],
        "startupProbe": {
            "httpGet": health,
            "periodSeconds": 1,
            "failureThreshold": resolved.spec.rollout.progress_deadline_seconds,
            "terminationGracePeriodSeconds": _PROBE_GRACE_SECONDS,
        },
        "readinessProbe": {"httpGet": health, "periodSeconds": 1, "failureThreshold": 2},
        # The port is open while the replica lives, also while it drains. When it is gone the container starts afresh:
        # a Ray node never hosts a second replica.
        "livenessProbe": {
            "tcpSocket": {"port": names.REPLICA_PORT},
            "periodSeconds": 2,
            "failureThreshold": 3,
            "terminationGracePeriodSeconds": _PROBE_GRACE_SECONDS,
        },
        # What is told to end before anything in it listens does not hear it, and would stay for its whole grace.
        "lifecycle": {"preStop": {"sleep": {"seconds": _LISTENS_SECONDS}}},
        "resources": _resources(resolved.spec.resources.manifest(), {}),
    }
    volumes: list[dict[str, Any]] = []
    mounts = list(container["volumeMounts"])
    if resolved.model.claim:
        claim = {"claimName": resolved.model.claim, "readOnly": True}
        volumes.append({"name": "model", "persistentVolumeClaim": claim})
        mounts.append({"name": "model", "mountPath": names.MODEL_MOUNT, "readOnly": True})
    cache = resolved.spec.model.cache
    where = {"persistentVolumeClaim": {"claimName": cache.persistent_volume_claim.claim_name}} if cache else None
    volumes.append({"name": "cache", **(where or {"emptyDir": {}})})
    mounts.append({"name": "cache", "mountPath": names.CACHE_MOUNT})
    container["volumeMounts"] = mounts
    pod = _pod(resolved, [container], volumes=volumes, grace_seconds=resolved.timeouts.worker_grace)
    if resolved.spec.node_selector:
        pod["nodeSelector"] = resolved.spec.node_selector
    template = merge_pod_template(
        {"metadata": {"labels": labels(resolved, names.WORKER, revision=revision)}, "spec": pod},
        resolved.spec.pod_template,
    )
    # A pod template never changes within a revision; should one be edited, a worker is replaced after its drain.
    one_by_one = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    return _deployment(resolved, revision, names.WORKER, template, replicas=replicas, strategy=one_by_one)


def _child(
    resolved: Resolved, api_version: str, kind: str, revision: str, *, component: str, body: Manifest
) -> Manifest:
    name = f"{resolved.name}-{revision}-{component}"
    return child(resolved, api_version, kind, name, component=component, revision=revision, body=body)


def _deployment(
    resolved: Resolved, revision: str, component: str, template: Manifest, *, replicas: int, strategy: Manifest
) -> Manifest:
    spec = {
        "replicas": replicas,
        "strategy": strategy,
        "revisionHistoryLimit": 0,
        "selector": {"matchLabels": selector(resolved, component, revision=revision)},
        "template": template,
    }
    return _child(resolved, "apps/v1", "Deployment", revision, component=component, body={"spec": spec})


def _container(resolved: Resolved, name: str, command: list[str], *, component: str) -> Manifest:
    return {
        "name": name,
        "image": resolved.image,
        "imagePullPolicy": resolved.config.image_pull_policy,
        "command": command,
        "env": ray_environment(resolved, component),
        "securityContext": dict(RESTRICTED_CONTAINER),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 the pod's own emptyDir
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 likewise
        ],
    }


def _pod(resolved: Resolved, containers: list[Manifest], *, volumes: list[Manifest], grace_seconds: int) -> Manifest:
    pod: Manifest = {
        "serviceAccountName": resolved.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds,
        "securityContext": dict(RESTRICTED_POD),
        "containers": containers,
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
            *volumes,
        ],
    }
    if resolved.spec.tolerations:
        pod["tolerations"] = [toleration.manifest() for toleration in resolved.spec.tolerations]
    return pod


def _resources(written: Manifest, default: Manifest) -> Manifest:
    """What was written, or the default where nothing was; empty maps are left out."""
    return {key: value for key, value in written.items() if value} or default
