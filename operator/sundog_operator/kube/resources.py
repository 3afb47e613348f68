"""Where each kind lives in the API, and which kinds are watched: one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sundog_operator.core import names


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of the Kubernetes API."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """API version without its group."""
        return self.api_version.rpartition("/")[2]

    @property
    def full_name(self) -> str:
        """As RBAC and `kubectl` name it: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, *, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """URL path of the collection, of an object, or of its subresource."""
        parts = ["/apis" if "/" in self.api_version else "/api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


LLM_DEPLOYMENT: Final = Resource(names.API_VERSION, names.KIND, names.PLURAL)
DEPLOYMENT: Final = Resource("apps/v1", "Deployment", "deployments")
POD: Final = Resource("v1", "Pod", "pods")
STORAGE_CLASS: Final = Resource("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False)
SECRET: Final = Resource("v1", "Secret", "secrets")
EVENT: Final = Resource("events.k8s.io/v1", "Event", "events")
LEASE: Final = Resource("coordination.k8s.io/v1", "Lease", "leases")
API_SERVICE: Final = Resource("apiregistration.k8s.io/v1", "APIService", "apiservices", namespaced=False)
ACCESS_REVIEW: Final = Resource(
    "authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False
)
CLUSTER_ROLE: Final = Resource("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False)

HPA: Final = Resource("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
SCALED_OBJECT: Final = Resource("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")

CHILDREN: Final = (
    DEPLOYMENT,
    Resource("apps/v1", "ControllerRevision", "controllerrevisions"),
    Resource("v1", "Service", "services"),
    Resource("v1", "ConfigMap", "configmaps"),
    Resource("v1", "ServiceAccount", "serviceaccounts"),
    Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    HPA,
    SCALED_OBJECT,
)
"""Watched by our label; pods too, but those belong to the Deployments. Of HorizontalPodAutoscalers all are, for one of
someone else may target an LLMDeployment."""

WATCHED: Final = (LLM_DEPLOYMENT, *CHILDREN, POD, STORAGE_CLASS)

MANAGED_SELECTOR: Final = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"

BY_KIND: Final[Mapping[str, Resource]] = {
    resource.kind: resource for resource in (*WATCHED, SECRET, EVENT, LEASE, API_SERVICE, CLUSTER_ROLE)
}


def selector(resource: Resource) -> str:
    """Label selector under which a watched kind is read; empty for those of which all are read."""
    return "" if resource in {LLM_DEPLOYMENT, STORAGE_CLASS, HPA} else MANAGED_SELECTOR
