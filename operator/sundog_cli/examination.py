"""Reads what `doctor` judges: as much as the person may see, and says of the rest why not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from sundog_cli import snapshot
from sundog_cli.cluster import Cluster
from sundog_cli.doctor import Examination, Part
from sundog_cli.snapshot import Snapshot
from sundog_operator.core import names
from sundog_operator.kube.errors import KubeError
from sundog_operator.kube.resources import (
    API_SERVICE,
    DEPLOYMENT,
    LEASE,
    LLM_DEPLOYMENT,
    MANAGED_SELECTOR,
    POD,
    STORAGE_CLASS,
    Resource,
)

OPERATOR: Final = "app.kubernetes.io/name=sundog-operator"
_CRD: Final = Resource(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
_NODE: Final = Resource("v1", "Node", "nodes", namespaced=False)
_QUOTA: Final = Resource("v1", "ResourceQuota", "resourcequotas")


async def examine(cluster: Cluster, *, everywhere: bool) -> Examination:
    """Read it all at once.

    Args:
        cluster: to read.
        everywhere: whether LLMDeployments and quotas of all namespaces are looked at, or those of the cluster's own.

    Raises:
        KubeError: there was no answer.
    """
    namespace = None if everywhere else cluster.namespace
    crd_name = f"metadata.name={names.PLURAL}.{names.GROUP}"
    kubernetes = await cluster.client.server_version()
    crds, operators, pods, leases, api_services, nodes, classes, quotas = await asyncio.gather(
        _part(cluster, _CRD, None, fields=crd_name),
        _part(cluster, DEPLOYMENT, None, labels=OPERATOR),
        _part(cluster, POD, None, labels=OPERATOR),
        _part(cluster, LEASE, None, labels=MANAGED_SELECTOR),
        _part(cluster, API_SERVICE, None),
        _part(cluster, _NODE, None),
        _part(cluster, STORAGE_CLASS, None),
        _part(cluster, _QUOTA, namespace),
    )
    own = await _snapshots(cluster, namespace)
    return Examination(
        kubernetes=kubernetes,
        release=version("sundog"),
        now=time.time(),
        crds=crds,
        operators=operators,
        operator_pods=pods,
        leases=leases,
        api_services=api_services,
        nodes=nodes,
        storage_classes=classes,
        quotas=quotas,
        snapshots=own,
    )


async def _part(
    cluster: Cluster, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
) -> Part:
    try:
        return await cluster.items(resource, namespace=namespace, labels=labels, fields=fields)
    except KubeError as error:
        if error.forbidden:
            where = f"in namespace {namespace}" if namespace else "of the cluster"
            return f"you may not list {resource.full_name} {where if resource.namespaced else ''}".rstrip()
        if error.not_found:
            return []  # the cluster does not know the kind: another check says so
        raise


async def _snapshots(cluster: Cluster, namespace: str | None) -> Sequence[Snapshot] | str:
    found = await _part(cluster, LLM_DEPLOYMENT, namespace)
    return found if isinstance(found, str) else await snapshot.read(cluster, found)
