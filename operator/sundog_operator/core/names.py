"""Names that two parts must agree upon: labels, object names, ports, mounts.

The half that `sundog_serving.contract` repeats is compared by a test; nothing here is computed from the world.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple

Manifest = dict[str, Any]
"""A Kubernetes object as plain JSON values."""

GROUP: Final = "sundog.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "LLMDeployment"
PLURAL: Final = "llmdeployments"

FIELD_MANAGER: Final = "sundog"
STATUS_FIELD_MANAGER: Final = "sundog-status"
SCALE_FIELD_MANAGER: Final = "sundog-scale"

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "sundog-operator"
NAME_LABEL: Final = f"{GROUP}/llmdeployment"
COMPONENT_LABEL: Final = f"{GROUP}/component"
REVISION_LABEL: Final = f"{GROUP}/revision"
APPLIED_HASH_ANNOTATION: Final = f"{GROUP}/applied-hash"
POD_DELETION_COST_ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"
SERVED_ANNOTATION: Final = f"{GROUP}/served"
"""On a ControllerRevision: its replicas have once been all there."""
WITHDRAWN_ANNOTATION: Final = f"{GROUP}/withdrawn"
"""On a ControllerRevision: why it was taken back, as JSON."""

ROUTER: Final = "router"
HEAD: Final = "head"
WORKER: Final = "worker"

ROUTER_PORT: Final = 8000
ROUTER_METRICS_PORT: Final = 8404
GCS_PORT: Final = 6379
DASHBOARD_PORT: Final = 8265
HEAD_PROXY_PORT: Final = 8000
RAY_METRICS_PORT: Final = 8080
RAY_DASHBOARD_AGENT_PORT: Final = 8081
RAY_RUNTIME_ENV_AGENT_PORT: Final = 8082
REPLICA_PORT: Final = 30000

LOAD_ROUTE: Final = "/sundog/load"
"""How busy a replica is, and on the router's metrics port how busy the router."""

GIVEN_BACK: Final = 425
"""Status (Too Early) with which a replica whose engine died gives back what it has not begun to answer."""

ADAPTERS_ROUTE: Final = "/sundog/adapters"
"""Which LoRA adapters a replica has."""

APPLICATION: Final = "llm"
DEPLOYMENT: Final = "engine"
REPLICA_RESOURCE: Final = "sundog_replica"
REPLICA_TOKEN_HEADER: Final = "x-sundog-replica-token"  # noqa: S105 the header's name, not a token
REPLICA_TOKEN_VARIABLE: Final = "SUNDOG_REPLICA_TOKEN"  # noqa: S105 likewise
MODEL_MOUNT: Final = "/mnt/model"
CACHE_MOUNT: Final = "/mnt/cache"

MAX_NAME_LENGTH: Final = 40
"""Of an LLMDeployment: the longest child, `<name>-<8>-worker-<pod template hash>-<5>`, must stay a DNS label of 63."""


class ObjectKey(NamedTuple):
    """Which child of an LLMDeployment; the namespace is its owner's."""

    kind: str
    name: str


def key_of(manifest: Manifest) -> ObjectKey:
    """The key of a manifest or of an object as read."""
    return ObjectKey(manifest["kind"], manifest["metadata"]["name"])


def short_hash(text: str) -> str:
    """Eight hexadecimal digits: enough to tell the revisions and tokens of one LLMDeployment apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def router(name: str) -> str:
    """Router Deployment, its ConfigMap, NetworkPolicy and PodDisruptionBudget."""
    return f"{name}-router"


def replicas_service(name: str) -> str:
    """Headless Service over the workers of all revisions."""
    return f"{name}-replicas"


def head_service(name: str) -> str:
    """Headless Service over the head of the revision in charge."""
    return f"{name}-head"


def worker(name: str) -> str:
    """NetworkPolicy and PodDisruptionBudget of the workers of all revisions."""
    return f"{name}-worker"


def revision(name: str, revision: str) -> str:
    """ControllerRevision of one revision, and what all its objects begin with."""
    return f"{name}-{revision}"


def revision_head(name: str, revision: str) -> str:
    """Head Deployment, its Service and its PersistentVolumeClaim."""
    return f"{name}-{revision}-head"


def revision_worker(name: str, revision: str) -> str:
    """Worker Deployment of one revision."""
    return f"{name}-{revision}-worker"
